"""Python's collector kept out of the way while much is made that stays, as modules do and what a list is read from.

It would look through all of that again and again: a fifth of the time of a short command, and pauses of the app, of
0.2 s once torch is there.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected(*, modules: bool = False) -> Iterator[None]:
    """While the block runs no garbage is collected, in any thread; then what there is counts as old.

    After an import, of `modules`, it is never looked through again: of what was garbage then, cycles stay.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if not modules:
            gc.unfreeze()  # into the oldest generation, instead of through all of them
        if was_on:
            gc.enable()
