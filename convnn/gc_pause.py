"""Python's garbage collector, paused while modules are imported."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Collect nothing, in any thread, while the block runs; leave what it imported out of every later collection.

    Otherwise each collection looks through all modules: a fifth of the time of a short command, and with torch loaded a
    stop of the app for 0.2 s. A block that imported nothing freezes nothing: its garbage would stay forever.
    """
    enabled, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > modules:
            gc.freeze()
        if enabled:
            gc.enable()
