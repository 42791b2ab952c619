"""How torch's threads wait for each other: asleep, so that a second run, or the app, may use the core meanwhile.

By default a thread that has done its part spins until the others have, and keeps them from a core if there are more
threads than cores: two runs of two threads on two cores then take several times as long as one after the other.
"""

from __future__ import annotations

import os


def sleep_while_waiting() -> None:
    """Ask OpenMP for sleeping threads unless the person has chosen; it reads this once, when torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
