"""The lock of a run: a `flock` on its `run.lock`, which the kernel releases when the process ends, however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convnn.errors import Exit, Problem, UserError
from convnn.events import now
from convnn.files import read_regular

LOCK_FILE = "run.lock"
MAX_NOTE = 1000  # bytes of the file that are read
TIMEOUT = 1.0  # seconds: longer than a reader holds the lock to test it

_descriptors: set[int] = set()  # of the locks that this process holds


def _drop_in_child() -> None:
    """Close the locks in a forked child: a data worker must not keep a run locked when its parent is gone."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


os.register_at_fork(after_in_child=_drop_in_child)


@contextmanager
def lock_run(directory: Path) -> Iterator[None]:
    """Hold the lock of a run while the block runs. Raises UserError (HELD), which names the holder, after a second."""
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    _descriptors.add(descriptor)
    try:
        _acquire(descriptor, directory)
        note = {"pid": os.getpid(), "host": socket.gethostname(), "started": now().isoformat()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode() + b"\n", 0)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        _descriptors.discard(descriptor)
        os.close(descriptor)


def _acquire(descriptor: int, directory: Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                message = (
                    f"{directory.name} is in use by {_holder(os.pread(descriptor, MAX_NOTE, 0)) or 'another process'}"
                )
                fix = f"wait for it, or stop it: convnn stop {shlex.quote(f'{directory}/')}"
                raise UserError(Problem(message, fix=fix), Exit.HELD) from None
            time.sleep(0.02)


def _holder(note: bytes) -> str | None:
    """Return what the holder wrote about itself: for messages alone, since anybody may write there."""
    try:
        fields = json.loads(note)
        return f"process {fields['pid']} on {fields['host']} since {fields['started']}"[:200]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def is_lock_note(path: Path) -> bool:
    """Return whether a file is a lock that we made: it holds nothing that a person wrote."""
    try:
        note = read_regular(path, MAX_NOTE)
    except OSError:
        return False
    return not note or _holder(note) is not None


def is_locked(directory: Path) -> bool:
    """Return whether a process holds the lock of a run now."""
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: readers never see each other
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
