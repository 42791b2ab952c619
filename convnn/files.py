"""Files that are replaced as a whole and survive a crash, and files that are opened only where they are files."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

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


def write_atomic(path: Path, data: str | bytes) -> None:
    """Replace the file at `path`, or make it; on disk when this returns. Raises OSError and leaves the old file."""
    if isinstance(data, str):
        data = data.encode("utf-8", "backslashreplace")
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb") as file:  # noqa: PTH123
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


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read. Raises OSError for a link, which may lead anywhere, and for a pipe."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def with_time(name: str) -> str:
    """Return a name for a file in a trash: the time (UTC), then `name`, so that names sort by the time of removal."""
    return f"{datetime.now(UTC):{TIME_FORMAT}}{name}"


def without_time(name: str) -> str:
    """Return the name that `with_time` was called with."""
    return name[TIME_LENGTH:]


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
