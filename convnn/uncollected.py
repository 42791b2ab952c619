"""Python's collector kept out of the way while much is made that stays, as modules do and what a list is read from.

It would look through all of that again and again: a fifth of the time of a short command, and pauses of the app.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """While the block runs no garbage is collected, in any thread."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
