"""Who trains a run: a `flock` on its `run.lock`, which the kernel lets go when the process ends, however it ends."""

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
from convnn.text import escaped

LOCK_FILE = "run.lock"
PATIENCE = 1.0  # seconds: longer than any reader's look, shorter than a person's

_ours: set[int] = set()


def _drop_in_child() -> None:
    """A forked child (a data worker) must not keep the run locked when its parent is gone."""
    for descriptor in _ours:
        os.close(descriptor)
    _ours.clear()


os.register_at_fork(after_in_child=_drop_in_child)


@contextmanager
def lock_run(directory: Path) -> Iterator[None]:
    """Hold the run in `directory` while the block runs. Raises UserError (HELD) naming who has it after a second."""
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    _ours.add(descriptor)
    try:
        _take(descriptor, directory)
        note = {"pid": os.getpid(), "host": socket.gethostname(), "started": now().isoformat()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode() + b"\n", 0)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        _ours.discard(descriptor)
        os.close(descriptor)


def _take(descriptor: int, directory: Path) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise UserError(
                    Problem(
                        f"{escaped(directory.name)} is held by another process ({_holder(descriptor)})",
                        fix=f"wait for it, or stop it: convnn stop {escaped(shlex.quote(f'{directory}/'))}",
                    ),
                    Exit.HELD,
                ) from None
            time.sleep(0.02)


def _holder(descriptor: int) -> str:
    """What the holder wrote about itself: for messages, never believed."""
    try:
        note = json.loads(os.pread(descriptor, 1000, 0))
        return escaped(f"process {note['pid']} on {note['host']} since {note['started']}")[:200]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "it left no name"


def is_locked(directory: Path) -> bool:
    """Whether a process holds the run now."""
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
