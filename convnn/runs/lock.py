"""The lock of a run: a `flock` on its `run.lock`, which the kernel releases when the process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convnn.errors import Exit, Problem, UserError
from convnn.events import now
from convnn.files import open_regular, read_regular

LOCK_FILE = "run.lock"
MAX_NOTE = 1000  # bytes of the file that are read
FILE_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
FOLDER_FLAGS = os.O_CLOEXEC | os.O_DIRECTORY
TIMEOUT = 1.0  # seconds: longer than a reader holds the lock to test it

INHERITED = "CONVNN_RUN_LOCK"  # variable with the descriptors of a lock that a parent process hands over

_descriptors: set[int] = set()  # of the locks that this process holds


def _drop_in_child() -> None:
    """Close the locks in a forked child: a data worker must not keep a run locked when its parent is gone."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


os.register_at_fork(after_in_child=_drop_in_child)


class LockLostError(UserError):
    """Another process has taken the lock of a run that trains here: this one must write nothing more."""


class RunLock:
    """The lock of a run, held from here to `release`. Raises UserError (HELD), which names the holder, after a second.

    It is on the directory and on the file in it: a file can be deleted or replaced while the run trains, the directory
    cannot; but only the file is locked by earlier versions, and on file systems that lock no directories.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._folder: int | None = None
        self._file: int | None = None
        self._adopt()
        if self._file is not None:
            return
        try:
            self._folder = self._locked_folder()
            self._file = self._locked_file()
        except BaseException:
            self.release()
            raise

    def check(self) -> None:
        """Make the lock file anew where it was deleted or replaced.

        Raises LockLostError where another process has it.
        """
        assert self._file is not None
        try:
            if os.path.samestat(os.fstat(self._file), (self.directory / LOCK_FILE).lstat()):
                return
        except OSError:
            pass
        try:
            file = self._locked_file()
        except OSError:
            return  # the directory has vanished, or takes nothing: the next event says so
        except UserError as error:
            message = f"{self.directory.name} is trained by another process now: {LOCK_FILE} was removed or replaced"
            fix = "this process has stopped writing; leave the lock file alone while a run trains"
            raise LockLostError(Problem(message, fix=fix), Exit.HELD) from error
        _close(self._file)
        self._file = file

    @property
    def descriptors(self) -> list[int]:
        """The open files that hold the lock, for a child process to inherit."""
        return [descriptor for descriptor in (self._file, self._folder) if descriptor is not None]

    @property
    def environment(self) -> dict[str, str]:
        """The variable by which a child process finds the lock that it inherits."""
        return {INHERITED: " ".join(map(str, self.descriptors))}

    def hand_over(self) -> None:
        """Close the files here: a child that inherited them holds the lock until it ends."""
        for descriptor in self.descriptors:
            _close(descriptor)
        self._folder = self._file = None

    def _adopt(self) -> None:
        """Take the lock that a parent process handed over, if it is the one of this directory."""
        numbers = os.environ.get(INHERITED, "").split()
        if not numbers:
            return
        places = {"_file": self.directory / LOCK_FILE, "_folder": self.directory}
        adopted: dict[str, int] = {}
        try:
            for (attribute, place), number in zip(places.items(), numbers, strict=False):
                descriptor = int(number)
                if not os.path.samestat(os.fstat(descriptor), place.lstat()):
                    return  # of another run
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                adopted[attribute] = descriptor
        except (OSError, ValueError):
            return
        del os.environ[INHERITED]  # it is taken
        for attribute, descriptor in adopted.items():
            os.set_inheritable(descriptor, False)
            _descriptors.add(descriptor)
            setattr(self, attribute, descriptor)
        assert self._file is not None
        _write_note(self._file)

    def release(self) -> None:
        """Let the lock go."""
        for descriptor in (self._file, self._folder):
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                _close(descriptor)
        self._folder = self._file = None

    def _locked_folder(self) -> int | None:
        """Return a descriptor of the directory that holds its lock; None where the file system locks no directories."""
        descriptor = os.open(self.directory, FOLDER_FLAGS)
        _descriptors.add(descriptor)
        try:
            _acquire(descriptor, self.directory)
        except OSError:
            _close(descriptor)
            return None
        except BaseException:
            _close(descriptor)
            raise
        return descriptor

    def _locked_file(self) -> int:
        descriptor = os.open(self.directory / LOCK_FILE, FILE_FLAGS | os.O_RDWR | os.O_CREAT, 0o666)
        _descriptors.add(descriptor)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise OSError(errno.EINVAL, f"{LOCK_FILE} is not a file of its own", str(self.directory / LOCK_FILE))
            _acquire(descriptor, self.directory)
            _write_note(descriptor)
        except BaseException:
            _close(descriptor)
            raise
        return descriptor


@contextmanager
def lock_run(directory: Path) -> Iterator[RunLock]:
    """Hold the lock of a run while the block runs. Raises UserError (HELD), which names the holder, after a second."""
    lock = RunLock(directory)
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def handed_over(directory: Path) -> Iterator[RunLock]:
    """Hold the lock of a run that a child process started in the block inherits, and keeps when the block ends.

    The child gets `descriptors` and `environment`. Raises UserError (HELD) as `lock_run` does.
    """
    lock = RunLock(directory)
    try:
        yield lock
    except BaseException:
        lock.release()
        raise
    lock.hand_over()


def _write_note(descriptor: int) -> None:
    note = {"pid": os.getpid(), "host": socket.gethostname(), "started": now().isoformat()}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(note).encode() + b"\n", 0)


def _close(descriptor: int) -> None:
    _descriptors.discard(descriptor)
    os.close(descriptor)


def _acquire(descriptor: int, directory: Path) -> None:
    """Lock an open file. Raises UserError (HELD) where another process has it, OSError where it cannot be locked."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                message = f"{directory.name} is in use by {_read_holder(directory) or 'another process'}"
                fix = f"wait for it, or stop it: convnn stop {shlex.quote(f'{directory}/')}"
                raise UserError(Problem(message, fix=fix), Exit.HELD) from None
            time.sleep(0.02)


def _read_holder(directory: Path) -> str | None:
    try:
        with open_regular(directory / LOCK_FILE) as file:
            return _holder(file.read(MAX_NOTE))
    except OSError:
        return None


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
    return _is_held(directory / LOCK_FILE, FILE_FLAGS) or _is_held(directory, FOLDER_FLAGS)


def _is_held(path: Path, flags: int) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | flags)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: readers never see each other
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        return False  # nothing that can be locked
    finally:
        os.close(descriptor)
    return False
