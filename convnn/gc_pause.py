"""Python's collector kept out of the way while much is made that stays, as modules do and what a list is read from.

It would look through all of that again and again: a fifth of the time of a short command, and pauses of the app, of
0.2 s once torch is there.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_inside = 0  # blocks that run now, of all threads
_was_on = False  # before the first of them


@contextmanager
def uncollected(*, modules: bool = False) -> Iterator[None]:
    """While the block runs no garbage is collected, in any thread.

    When it imported `modules`, what there is then is never looked through again. That keeps everything which is part of
    a cycle then, also what nobody needs later: so not for an import that found all of them there, nor for data.
    """
    global _inside, _was_on
    before = len(sys.modules)
    with _lock:
        if not _inside:
            _was_on = gc.isenabled()
            gc.disable()
        _inside += 1
    try:
        yield
    finally:
        if modules and len(sys.modules) > before:
            gc.freeze()
        with _lock:
            _inside -= 1
            if not _inside and _was_on:
                gc.enable()
