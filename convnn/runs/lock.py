"""The lock of a run: of one process at a time, on whatever node, which trains it or changes its files."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from convnn import slurm_job
from convnn.errors import Exit, Problem, UserError
from convnn.files import naming, open_regular
from convnn.runs import file_lock
from convnn.runs.file_lock import FileLock, HeldError, LockNote

LOCK_FILE = "run.lock"
LEFTOVER = rf"\.{re.escape(LOCK_FILE)}\.tmp|{file_lock.PROBE}"  # that a killed process left beside it
FOLDER_FLAGS = os.O_CLOEXEC | os.O_DIRECTORY
MAX_HOST = 64  # characters that are shown, as many as a name of a host has on Linux
TIMEOUT = 1.0  # seconds: longer than a reader holds the lock to test it


class LockLostError(UserError):
    """Another process has taken the lock of a run that trains here: this one must write nothing more."""


class RunLock:
    """The lock of a run, held from here to `release`. Raises UserError (HELD), which names the holder, after a second.

    It is on the directory and on the file in it: a file can be deleted or replaced while the run trains, the directory
    cannot; but only the file is locked by earlier versions, and on file systems that lock no directories. With
    `take_over` a process of another node loses the lock, which its `check` reports there.
    """

    def __init__(self, directory: Path, *, take_over: bool = False) -> None:
        self.directory = directory
        self._mutex = threading.Lock()  # a thread that writes checkpoints checks the lock, too
        self._folder = file_lock.take_inherited(directory)
        self._file = FileLock.adopt(directory / LOCK_FILE)
        self.is_inherited = self._file is not None  # from the process that started this one
        if self.is_inherited:
            return
        try:
            if self._folder is None:
                self._folder = self._locked_folder()
            self._file = self._locked_file(take_over)
        except BaseException:
            self.release()
            raise

    def check(self) -> None:
        """Make the lock file anew where it was deleted or replaced.

        Raises LockLostError where another process has it.
        """
        with self._mutex:
            self._check()

    def _check(self) -> None:
        assert self._file is not None
        try:
            present = self._file.present_note()
        except OSError:
            self._lock_anew()
            return
        if present is None:  # somebody wrote something else
            with suppress(OSError):
                self._file.rewrite()
        elif present.token != self._file.note.token:
            raise self._lost(f"{present} took it over")

    def _lock_anew(self) -> None:
        try:
            file = FileLock.acquire(self.directory / LOCK_FILE)
        except OSError:
            return  # the directory has vanished, or takes nothing: the next event says so
        except HeldError as error:
            raise self._lost(f"{LOCK_FILE} was removed or replaced") from error
        assert self._file is not None
        self._file.close()
        self._file = file

    def _lost(self, reason: str) -> LockLostError:
        message = f"{self.directory.name} is trained by another process now: {reason}"
        fix = "this process has stopped writing; leave the lock file alone while a run trains"
        return LockLostError(Problem(message, fix=fix), Exit.HELD)

    @property
    def descriptors(self) -> list[int]:
        """The open files that hold the lock, for a child process to inherit."""
        descriptors = []
        if self._file is not None:
            descriptors.append(self._file.descriptor)
        if self._folder is not None:
            descriptors.append(self._folder)
        return descriptors

    def give_to(self, pid: int) -> None:
        """Say that a child process, which inherits the descriptors, holds the lock from now on."""
        if self._file is not None:
            self._file.give_to(pid)

    def hand_over(self) -> None:
        """Close the files here: a child that inherited them holds the lock until it ends."""
        for descriptor in self.descriptors:
            file_lock.close(descriptor)
        self._folder = self._file = None

    def release(self) -> None:
        if self._file is not None:
            self._file.release()
        if self._folder is not None:
            with suppress(OSError):
                file_lock.flock(self._folder, fcntl.LOCK_UN)
            file_lock.close(self._folder)
        self._folder = self._file = None

    def _locked_folder(self) -> int | None:
        """Return a descriptor of the directory that holds its lock; None where the file system locks no directories."""
        descriptor = os.open(self.directory, FOLDER_FLAGS)
        deadline = time.monotonic() + TIMEOUT
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise _in_use(self.directory, _read_note(self.directory)) from None
                    time.sleep(0.02)
                else:
                    file_lock.register(descriptor, has_heartbeat=False)
                    return descriptor
        except OSError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise

    def _locked_file(self, take_over: bool) -> FileLock:
        deadline = time.monotonic() + TIMEOUT
        replaces: str | None = None
        while True:
            try:
                with naming(self.directory / LOCK_FILE):
                    return FileLock.acquire(self.directory / LOCK_FILE, replaces=replaces)
            except HeldError as error:
                note = error.note
                if error.by_flock or note is None:
                    if time.monotonic() >= deadline:
                        raise _in_use(self.directory, note) from None
                    time.sleep(0.02)
                elif note.token != replaces and (take_over or _job_has_ended(note)):
                    replaces = note.token
                else:
                    raise _running_elsewhere(self.directory, note) from None


@contextmanager
def lock_run(directory: Path, *, take_over: bool = False) -> Iterator[RunLock]:
    """Hold the lock of a run while the block runs. Raises UserError (HELD), which names the holder, after a second."""
    lock = RunLock(directory, take_over=take_over)
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def handed_over(directory: Path) -> Iterator[RunLock]:
    """Hold the lock of a run that a child process started in the block inherits, and keeps when the block ends.

    The child gets `descriptors`, whose numbers are in the variable `file_lock.INHERITED`, and `give_to` its number.
    Raises UserError (HELD) as `lock_run` does.
    """
    lock = RunLock(directory)
    try:
        yield lock
    except BaseException:
        lock.release()
        raise
    lock.hand_over()


def _in_use(directory: Path, note: LockNote | None) -> UserError:
    message = f"{directory.name} is in use by {note or 'another process'}"
    return UserError(message, Exit.HELD, fix=f"wait for it, or stop it: {_stop(directory)}")


def _running_elsewhere(directory: Path, note: LockNote) -> UserError:
    message = f"{directory.name} is running on {note.host}: in use by {note}"
    fix = (
        f"stop it: {_stop(directory)}; if its process is gone, take the run over: "
        f"convnn resume {shlex.quote(f'{directory}/')} --take-over"
    )
    return UserError(message, Exit.HELD, fix=fix)


def _stop(directory: Path) -> str:
    return f"convnn stop {shlex.quote(f'{directory}/')}"


def _job_has_ended(note: LockNote) -> bool:
    """Return whether the holder was a process of a Slurm job that has ended or waits to start again, as Slurm says.

    One that Slurm does not know may be of another cluster, which shares the file system.
    """
    if note.job is None:
        return False
    if note.job == slurm_job.current_job() and note.restarts < slurm_job.current_restarts():
        return True  # of an earlier start of this job
    try:
        state = slurm_job.job_state(note.job)
    except slurm_job.SlurmError:
        return False
    return state is None or state.is_waiting or state.restarts > note.restarts  # a waiting job has no processes


def _read_note(directory: Path) -> LockNote | None:
    try:
        with open_regular(directory / LOCK_FILE) as file:
            return file_lock.read_note(file.fileno())
    except OSError:
        return None


def is_lock_note(path: Path) -> bool:
    """Return whether a file is a lock that we made: it holds nothing that a person wrote."""
    try:
        with open_regular(path) as file:
            return not file.read(1) or file_lock.read_note(file.fileno()) is not None
    except OSError:
        return False


def is_locked(directory: Path) -> bool:
    """Return whether a process holds the lock of a run now."""
    return file_lock.is_held(directory / LOCK_FILE) or _is_folder_locked(directory)


def remote_host(directory: Path) -> str | None:
    """Return the name of the other node on which a process holds the lock of a run; None where it is here, or free."""
    try:
        note = file_lock.read_holder(directory / LOCK_FILE)
    except (OSError, HeldError):
        return None
    if note is None or note.is_of_this_node or note.released:
        return None
    return note.host[:MAX_HOST]


def _is_folder_locked(directory: Path) -> bool:
    try:
        descriptor = os.open(directory, os.O_RDONLY | FOLDER_FLAGS)
    except FileNotFoundError:
        return False
    try:
        return file_lock.is_flocked(descriptor)
    except OSError:
        return False  # nothing that can be locked
    finally:
        os.close(descriptor)
