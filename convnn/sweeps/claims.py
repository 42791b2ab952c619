"""Claims: advisory locks that a worker takes and hands to the child process it starts.

A `flock` belongs to an open file, not to a process: a child that inherits the descriptor holds the lock until it ends,
whatever becomes of the process that took it. So whether an entry or a slot is in use is never stored.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Claim:
    """A held lock; `close` gives up this process's part of it, children that inherited `descriptor` keep theirs."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor

    def close(self) -> None:
        os.close(self.descriptor)

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def try_claim(path: Path) -> Claim | None:
    """Take the lock of the file at `path`, making the file; return None where another process holds it."""
    return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of the file at `path` while the block runs; wait for it as long as it takes."""
    claim = _locked(path, fcntl.LOCK_EX)
    assert claim is not None
    with claim:
        yield


def is_claimed(path: Path) -> bool:
    """Return whether a process holds the lock of the file at `path` now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _locked(path: Path, operation: int) -> Claim | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(descriptor, operation)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # it is a file elsewhere, too
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a file of its own", str(path))
        if _is_at(descriptor, path):
            return Claim(path, descriptor)
        os.close(descriptor)  # its last holder removed the file: lock the one that is there now


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
