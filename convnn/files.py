"""Files that are replaced as a whole and survive a crash, and files that are opened only where they are files."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

NOT_REGULAR = "not a regular file"
TRASH = ".trash"  # a directory of removed things, beside the others
TIME_FORMAT = "%Y%m%d-%H%M%S-%f-"  # of one length, so that the name after it is known
TIME_LENGTH = len("20261122-151500-123456-")
# How a file system says that it has no such call. To create, write, rename and list files is essential; to sync, to
# set modes and times, to link and to allocate is not: over a network or in user space many can do without.
UNSUPPORTED = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EBADF, errno.EPERM, errno.EACCES}
)


@contextmanager
def optional_call() -> Iterator[None]:
    """Pass over the refusal of a call that is not essential; what a full or a broken disk reports is raised."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def sync_file(descriptor: int) -> None:
    """Bring a file to disk. Raises OSError where the disk is full or broken."""
    with optional_call():
        os.fsync(descriptor)


def allocate(path: Path, size: int) -> None:
    """Make a file of `size` bytes that take room on the disk. Raises OSError where it, or a quota, has none."""
    with path.open("wb") as file, optional_call():
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have errors of the block name this file: one of a write names none, one of a temporary file names that."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def write_atomic(path: Path, data: str | bytes) -> None:
    """Replace the file at `path`, or make it; on disk when this returns. Raises OSError and leaves the old file."""
    if isinstance(data, str):
        data = data.encode("utf-8", "backslashreplace")
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with naming(path):
        try:
            with open(os.open(temporary, flags, 0o666), "wb") as file:  # noqa: PTH123
                file.write(data)
                file.flush()
                sync_file(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Bring the entries of a directory to disk: a rename is not durable before that."""
    with optional_call():
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def open_regular(path: Path, *, single_link: bool = True) -> BinaryIO:
    """Open a regular file to read, at once whatever is there.

    Raises OSError for a symbolic link, which may lead anywhere, for a pipe, a device, a socket or a directory and, with
    `single_link`, for a file that has other names too.
    """
    return os.fdopen(_open_checked(path, os.O_RDONLY, single_link=single_link), "rb")


def read_regular(path: Path, limit: int, *, single_link: bool = True) -> bytes:
    """Return the bytes of a file that `open_regular` opens. Raises OSError (EFBIG) where it is larger than `limit`."""
    with open_regular(path, single_link=single_link) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes, the limit of such a file", str(path))
    return data


def read_tail(path: Path, size: int) -> str:
    """Return the last `size` bytes of a text file; empty where it cannot be read."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read(size).decode("utf-8", "replace")
    except OSError:
        return ""


def folder_entries(path: Path) -> list[Path]:
    """Return what is in a folder, sorted; nothing where there is no folder."""
    if not path.is_dir():
        return []
    return sorted(path.iterdir())


def open_append(path: Path) -> int:
    """Return a descriptor to append to a regular file with, which is made where it is missing; it can be read, too.

    Raises OSError as `open_regular` does: what is appended must not end in a file elsewhere.
    """
    return _open_checked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, single_link=True)


def append_lines(descriptor: int, data: bytes) -> None:
    """Append whole lines in one write, so that writers never mix; they begin a line of their own.

    Raises OSError where the disk takes only a part, which is cut off.
    """
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a writer was killed in the middle of a line
        data = b"\n" + data
    written = os.write(descriptor, data)
    if written < len(data):
        if os.fstat(descriptor).st_size == size + written:  # nobody wrote behind it: half a line is no line
            os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes were written")


def _open_checked(path: Path, flags: int, *, single_link: bool) -> int:
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    except OSError as error:
        reasons = {errno.ELOOP: "a symbolic link, which is not followed", errno.ENXIO: NOT_REGULAR}
        if (reason := reasons.get(error.errno or 0)) is None:
            raise
        raise OSError(error.errno, reason, str(path)) from None
    except ValueError as error:  # a null character, in a path that another file names
        raise OSError(errno.EINVAL, "not a path that a file can have", ascii(str(path))) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        reason = "a directory" if stat.S_ISDIR(status.st_mode) else NOT_REGULAR
        raise OSError(errno.EINVAL, reason, str(path))
    if single_link and status.st_nlink > 1:
        os.close(descriptor)
        raise OSError(errno.EMLINK, f"one of {status.st_nlink} hard links to a file", str(path))
    return descriptor


def expand_home(path: str) -> str:
    """Return a path with `~` and `~user` at its beginning replaced by that home directory.

    Raises ValueError where there is no such directory, and for a path that no file can have.
    """
    if "\0" in path:
        raise ValueError("a path cannot hold a null character")
    expanded = os.path.expanduser(path)  # noqa: PTH111 pathlib raises RuntimeError, and drops "./"
    if path.startswith("~") and expanded == path:
        name = path.partition("/")[0]
        raise ValueError(f"there is no home directory {name}; a file of that name is ./{name}")
    return expanded


def config_folder() -> Path:
    """Return the folder of the user's own presets and settings. Raises ValueError for a user without a home."""
    return Path(expand_home(os.environ.get("XDG_CONFIG_HOME") or "~/.config"), "convnn")


def with_time(name: str) -> str:
    """Return a name for a file in a trash: the time (UTC), then `name`, so that names sort by the time of removal."""
    return f"{datetime.now(UTC):{TIME_FORMAT}}{name}"


def without_time(name: str) -> str:
    """Return the name that `with_time` was called with."""
    return name[TIME_LENGTH:]


def has_time(name: str) -> bool:
    """Return whether a name is one that `with_time` makes."""
    return re.match(r"\d{8}-\d{6}-\d{6}-.", name) is not None


def directory_size(path: Path) -> int:
    """Return the bytes of all files below a directory; links are not followed, and files that vanish are left out."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                status = Path(folder, name).lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                total += status.st_size
    return total
