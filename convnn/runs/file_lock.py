"""Locks on files that the processes of all nodes of a cluster respect.

The kernel releases a `flock` when its process ends, however it ends; but on many file systems of clusters only the
processes of one node see it, and some have none. So the file also holds a note about its holder, and the holder sets
the time of the file anew every 30 s. Where the `flock` is free or missing, the note of a process of this node counts
while that process lives, and the note of another node while the time of the file is recent.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from convnn import hardware, slurm_job
from convnn.events import now
from convnn.files import NOT_REGULAR, sync_file

HEARTBEAT_SECONDS = 30.0
RECENT_SECONDS = 120.0  # of the last heartbeat of a process that is taken for alive
GUARD_SECONDS = 10.0  # after which a guard was left by a process that was killed: it is needed for milliseconds
PROBE = r"\.clock\.[0-9a-f]{8}\.tmp"  # name of a file that is made to learn the time of a file system
READER_SECONDS = 1.0  # longer than a reader holds a lock to test it
CLOCK_SECONDS = 10.0  # for which the clock of a file system is known once it was read
MAX_NOTE, MAX_TEXT = 1 << 18, 1 << 15  # bytes of the file that are read, characters of its text
FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
NO_FLOCK = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
INHERITED = "CONVNN_LOCKS"  # variable with the descriptors that hold locks which a parent process hands over


class LockNote(BaseModel):
    """What the holder of a lock wrote about itself. Anybody may write there, so it decides nothing by itself."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, defer_build=True)

    pid: int = Field(gt=0, lt=1 << 31)
    host: str = Field(max_length=300)
    started: str = Field(max_length=50)
    token: str = Field(default="", max_length=50)  # of this lock; earlier versions wrote none
    boot: str = Field(default="", max_length=300)  # of the node
    process_start: str = Field(default="", max_length=50)  # tells the process from a later one of the same number
    inode: int = 0  # of the file: a copy has another
    job: str | None = Field(default=None, max_length=50)  # of Slurm
    restarts: int = 0  # of the job
    text: str = ""  # of the holder, for readers
    released: bool = False

    def __str__(self) -> str:
        job = f", Slurm job {self.job}" if self.job else ""
        since = self.started
        with suppress(ValueError):
            since = f"{datetime.fromisoformat(since).astimezone():%Y-%m-%d %H:%M}"
        return f"process {self.pid} on {self.host}{job} since {since}"[:300]

    @property
    def is_of_this_node(self) -> bool:
        """Whether the holder is a process of this node since its latest start."""
        return self.host == hardware.host_name() and self.boot in ("", hardware.boot_id())


class HeldError(Exception):
    """A process holds the lock: that of `note`, which is None where it wrote none."""

    def __init__(self, note: LockNote | None, *, by_flock: bool) -> None:
        self.note, self.by_flock = note, by_flock
        super().__init__(str(note or "another process"))


class FileLock:
    """A lock on a file that is held from `acquire` to `release`, or by a child process that inherits `descriptor`."""

    def __init__(self, path: Path, descriptor: int, note: LockNote) -> None:
        self.path, self.descriptor, self.note = path, descriptor, note
        register(descriptor)

    @classmethod
    def acquire(cls, path: Path, text: str = "", *, replaces: str | None = None) -> FileLock:
        """Take the lock of the file at `path`, which is made where it is missing.

        A note with the token `replaces` does not count. Raises HeldError, and OSError where the file is no file of its
        own or the disk refuses.
        """
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | FLAGS, 0o666)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
                if status.st_nlink > 1:  # it is a file elsewhere, too
                    raise OSError(errno.EMLINK, f"{path.name} is not a file of its own", str(path))
                _flock_alone(descriptor)
                note = _own_note(descriptor, text)
                with _guarded(path, note):
                    if not _is_at(descriptor, path):  # its last holder removed it: lock the one that is there now
                        os.close(descriptor)
                        continue
                    holder = _live_note(descriptor, path)
                    if holder is not None and holder.token != replaces:
                        raise HeldError(holder, by_flock=False)
                    _write_note(descriptor, note)
                return cls(path, descriptor, note)
            except BaseException:
                os.close(descriptor)
                raise

    @classmethod
    def adopt(cls, path: Path) -> FileLock | None:
        """Return the lock of the file at `path` that a parent process handed over; None where it is not that one."""
        descriptor = take_inherited(path)
        note = None if descriptor is None else read_note(descriptor)
        return None if descriptor is None or note is None else cls(path, descriptor, note)

    def present_note(self) -> LockNote | None:
        """Return the note that the file at the path has now. Raises OSError; ESTALE where it is another file."""
        descriptor = os.open(self.path, os.O_RDONLY | FLAGS)  # a network file system looks at the server again
        try:
            if not os.path.samestat(os.fstat(self.descriptor), os.fstat(descriptor)):
                raise OSError(errno.ESTALE, "replaced by another file", str(self.path))
            return read_note(descriptor)
        finally:
            os.close(descriptor)

    @property
    def is_own(self) -> bool:
        """Whether no other process has taken the lock, as one of another node may after a time without heartbeats.

        Raises OSError where the file cannot be read.
        """
        try:
            present = self.present_note()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            return False
        return present is None or present.token == self.note.token

    def rewrite(self, **changes: object) -> None:
        """Write the note again, with these changes of it."""
        self.note = self.note.model_copy(update=changes)
        _write_note(self.descriptor, self.note)

    def give_to(self, pid: int) -> None:
        """Say that a child process, which inherits the descriptor, holds the lock from now on."""
        self.rewrite(pid=pid, process_start=_process_start(pid) or "")

    def close(self) -> None:
        """Close the file here; a child process that inherited it holds the lock until it ends."""
        close(self.descriptor)

    def release(self) -> None:
        with suppress(OSError):  # the file is gone or the disk refuses: then it is free when the note is old
            present = self.present_note()
            if present is not None and present.token == self.note.token:
                self.rewrite(released=True)
        with suppress(OSError):
            flock(self.descriptor, fcntl.LOCK_UN)
        close(self.descriptor)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def read_holder(path: Path) -> LockNote | None:
    """Return the note of the process that holds the lock of the file at `path` now; None while that is free.

    Raises HeldError where a process holds it that wrote no note, and OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | FLAGS)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # nothing, a link or a socket: no lock of ours
            return None
        raise
    try:
        if is_flocked(descriptor):
            if (note := read_note(descriptor)) is None:
                raise HeldError(None, by_flock=True)
            return note
        return _live_note(descriptor, path)
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock of the file at `path` now. Raises OSError."""
    try:
        return read_holder(path) is not None
    except HeldError:
        return True


def is_open_in(pid: int, path: Path) -> bool:
    """Return whether a process has the file at `path` open, as every holder of its lock has.

    A note names any process. Where the system does not show what one has open, it is taken for true.
    """
    folder = Path(f"/proc/{pid}/fd")
    if not Path("/proc/self/fd").is_dir():
        return True
    with suppress(OSError):  # it has ended, or is of another user
        status = path.stat()
        for link in folder.iterdir():
            with suppress(FileNotFoundError):  # it was open for a moment
                if os.path.samestat(link.stat(), status):
                    return True
    return False


def read_note(descriptor: int) -> LockNote | None:
    """Return the note in an open file; None where it holds none."""
    try:
        return LockNote.model_validate_json(os.pread(descriptor, MAX_NOTE, 0))
    except (ValueError, OSError):
        return None


# -- flock ------------------------------------------------------------------------------------------------------------

_flock_error = ""  # how a file system said that it has no locks


def flock(descriptor: int, operation: int) -> None:
    """Call `flock`; where the file system has none, nothing happens. Raises BlockingIOError where it is held."""
    global _flock_error
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        _flock_error = error.strerror or str(error)


def _flock_alone(descriptor: int) -> None:
    """Lock an open file exclusively, waiting for readers that test the lock. Raises HeldError."""
    deadline = time.monotonic() + READER_SECONDS
    while True:
        try:
            return flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if is_flocked(descriptor) or time.monotonic() > deadline:
                raise HeldError(read_note(descriptor), by_flock=True) from None
            time.sleep(0.001)


def is_flocked(descriptor: int) -> bool:
    """Return whether a process holds the `flock` of an open file exclusively."""
    try:
        flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: readers never see each other
    except BlockingIOError:
        return True
    flock(descriptor, fcntl.LOCK_UN)
    return False


def flock_warnings() -> list[str]:
    """Return the warning that a file system has no locks, as soon as this process knows; else nothing."""
    if not _flock_error:
        return []
    return [
        f"the file system keeps no locks (flock: {_flock_error}): whether a run is trained is told by the heartbeat in "
        f"its lock file; a process that was killed on another node counts as running for {RECENT_SECONDS:.0f} s"
    ]


# -- heartbeats -------------------------------------------------------------------------------------------------------

_descriptors: dict[int, bool] = {}  # of the locks that this process holds, and whether they have a heartbeat
_inherited: list[int] = []  # those that a parent process handed over, until they are asked for
_mutex = threading.Lock()  # a descriptor is closed, and its number used again, only between two heartbeats
_thread: threading.Thread | None = None


def register(descriptor: int, *, has_heartbeat: bool = True) -> None:
    """Set the time of a locked file every HEARTBEAT_SECONDS until `close`, whatever the process does meanwhile."""
    global _thread
    with _mutex:
        _descriptors[descriptor] = has_heartbeat
        if _thread is None:
            _thread = threading.Thread(target=_beat, daemon=True, name="heartbeat")
            _thread.start()


def close(descriptor: int) -> None:
    """Close a descriptor that was registered."""
    with _mutex:
        _descriptors.pop(descriptor, None)
        os.close(descriptor)


def _beat() -> None:
    while True:
        time.sleep(HEARTBEAT_SECONDS)
        with _mutex:
            for descriptor, has_heartbeat in _descriptors.items():
                with suppress(OSError):
                    if has_heartbeat:
                        os.utime(descriptor)


def _drop_in_child() -> None:
    """Close the locks in a forked child: a data worker must not keep a run locked when its parent is gone."""
    global _mutex, _thread
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()
    _inherited.clear()
    _mutex, _thread = threading.Lock(), None


os.register_at_fork(after_in_child=_drop_in_child)


def inherit() -> None:
    """Hold the locks that a parent process handed over, from the start of this process on."""
    for number in os.environ.pop(INHERITED, "").split():
        with suppress(OSError, ValueError):
            descriptor = int(number)
            os.set_inheritable(descriptor, False)
            note = read_note(descriptor)
            register(descriptor, has_heartbeat=note is not None)
            _inherited.append(descriptor)
            if note is not None:  # it is no directory
                start = _process_start(os.getpid()) or ""
                _write_note(descriptor, note.model_copy(update={"pid": os.getpid(), "process_start": start}))


def inherited(path: Path) -> int | None:
    """Return the descriptor of the file or directory at `path` that a parent process handed over; else None."""
    inherit()
    return next((descriptor for descriptor in _inherited if _is_at(descriptor, path)), None)


def take_inherited(path: Path) -> int | None:
    """Return the same once: who takes it closes it."""
    descriptor = inherited(path)
    if descriptor is not None:
        _inherited.remove(descriptor)
    return descriptor


# -- notes ------------------------------------------------------------------------------------------------------------


def _own_note(descriptor: int, text: str) -> LockNote:
    return LockNote(
        pid=os.getpid(),
        host=hardware.host_name(),
        started=now().isoformat(),
        token=secrets.token_hex(8),
        boot=hardware.boot_id(),
        process_start=_process_start(os.getpid()) or "",
        inode=os.fstat(descriptor).st_ino,
        job=slurm_job.current_job(),
        restarts=slurm_job.current_restarts(),
        text=text[:MAX_TEXT],  # a longer note would not be read
    )


def _write_note(descriptor: int, note: LockNote) -> None:
    """Write a note over the former one, in one call: a reader sees one of the two."""
    size = os.fstat(descriptor).st_size
    if size > MAX_NOTE:
        os.ftruncate(descriptor, 0)
        size = 0
    os.pwrite(descriptor, note.model_dump_json().encode().ljust(max(0, size - 1)) + b"\n", 0)
    sync_file(descriptor)


def _live_note(descriptor: int, path: Path) -> LockNote | None:
    """Return the note in an open file whose `flock` says nothing, if its process holds the lock still; else None."""
    note = read_note(descriptor)
    if note is None or not note.token or note.released:
        return None
    status = os.fstat(descriptor)
    if note.is_of_this_node:
        is_live = note.inode == status.st_ino and _is_alive(note)
    else:
        is_live = abs(_file_system_time(path.parent, status.st_dev) - status.st_mtime) < RECENT_SECONDS
    return note if is_live else None


def _is_alive(note: LockNote) -> bool:
    """Return whether the process of a note of this node lives and, if it is this one, holds the lock."""
    if note.pid == os.getpid():
        with _mutex:
            own_notes = [read_note(descriptor) for descriptor in _descriptors]
        return note.token in [own.token for own in own_notes if own is not None]
    try:
        os.kill(note.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # of another user
    return _process_start(note.pid) in (None, note.process_start)


def _process_start(pid: int) -> str | None:
    """Return when a process started, in ticks since the start of the node; "" for a zombie, None where unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]


class _ClockReading(NamedTuple):
    """The time of a file system when it was read, and the monotonic time then."""

    time: float
    monotonic: float


_clocks: dict[int, _ClockReading] = {}  # by device


def _file_system_time(folder: Path, device: int) -> float:
    """Return the present time by the clock that gives files in a folder their times.

    It is the time of a file that is made there: the clocks of nodes differ. Where none can be made it is that of this
    node.
    """
    reading = _clocks.get(device)
    if reading is not None and time.monotonic() < reading.monotonic + CLOCK_SECONDS:
        return reading.time + time.monotonic() - reading.monotonic
    path = folder / f".clock.{secrets.token_hex(4)}.tmp"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS, 0o600)
    except OSError:
        return time.time()
    try:
        _clocks[device] = _ClockReading(os.fstat(descriptor).st_mtime, time.monotonic())
        return _clocks[device].time
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


@contextmanager
def _guarded(path: Path, note: LockNote) -> Iterator[None]:
    """Let one process of all nodes at a time, that of `note`, read and write the note in the file at `path`.

    To make a file that is not there yet is atomic on every file system.
    """
    guard = path.with_name(f".{path.name}.tmp")
    while True:
        try:
            descriptor = os.open(guard, os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS, 0o600)
            break
        except FileExistsError:
            with suppress(FileNotFoundError):
                if _was_left(guard):
                    guard.unlink()
            time.sleep(0.01)
    try:
        with suppress(OSError):  # a full disk: then its time alone tells whether it was left
            os.pwrite(descriptor, note.model_dump_json().encode(), 0)
        os.close(descriptor)
        yield
    finally:
        guard.unlink(missing_ok=True)


def _was_left(guard: Path) -> bool:
    """Return whether the process that made a guard was killed before it removed it. Raises FileNotFoundError."""
    status = guard.lstat()
    if abs(_file_system_time(guard.parent, status.st_dev) - status.st_mtime) > GUARD_SECONDS:
        return True
    try:
        descriptor = os.open(guard, os.O_RDONLY | FLAGS)
    except OSError:  # of another user, or just removed
        return False
    try:
        note = read_note(descriptor)
    finally:
        os.close(descriptor)
    return note is not None and note.is_of_this_node and note.pid != os.getpid() and not _is_alive(note)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
