"""Claims: locks that a worker takes and hands to the child process it starts.

A child that inherits the descriptor holds the lock until it ends, whatever becomes of the process that took it. So
whether an entry or a slot is in use is never stored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convnn.files import naming
from convnn.runs.file_lock import FileLock, HeldError, read_holder

POLL_SECONDS = 0.02
Claim = FileLock


def try_claim(path: Path, text: str = "") -> Claim | None:
    """Take the lock of the file at `path`, making the file; return None where another process holds it.

    Readers of the lock find `text` there. Raises OSError.
    """
    try:
        with naming(path):
            return FileLock.acquire(path, text)
    except HeldError:
        return None


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of the file at `path` while the block runs; wait for it as long as it takes."""
    while (claim := try_claim(path)) is None:
        time.sleep(POLL_SECONDS)
    with claim:
        yield


def claim_text(path: Path) -> str | None:
    """Return what the holder of a claim left for readers; None where nobody holds it."""
    try:
        note = read_holder(path)
    except HeldError:
        return ""
    except OSError:
        return None
    if note is None:
        return None
    return note.text
