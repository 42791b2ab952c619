"""Make a run below a hidden name, which no list shows, and give it its place when it is complete."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convnn.errors import UserError
from convnn.files import sync_directory
from convnn.runs.lock import LOCK_FILE, is_locked, lock_run
from convnn.runs.run import Run, check_directory, check_free, create_run, named_run

STAGING = ".staging-"  # and the process, and eight hexadecimal digits


@contextmanager
def staged_run(config_toml: str, model: str, layer: str, root: Path, name: str | None = None) -> Iterator[Run]:
    """Make a run under a hidden name in `root`, for the block to fill and to publish.

    What is left at the end of the block is removed, and what killed processes left earlier.
    """
    root.mkdir(parents=True, exist_ok=True)
    for directory in root.glob(f"{STAGING}*"):
        if _is_abandoned(directory):
            shutil.rmtree(directory, ignore_errors=True)
    staging = root / f"{STAGING}{os.getpid()}-{secrets.token_hex(4)}"
    staging.mkdir()
    try:
        with lock_run(staging):
            yield create_run(config_toml, model=model, layer=layer, root=staging, name=name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_abandoned(directory: Path) -> bool:
    """Return whether a process that is gone made a run there."""
    is_staging = re.fullmatch(re.escape(STAGING) + r"[0-9]+-[0-9a-f]{8}", directory.name) is not None
    if not is_staging or directory.is_symlink() or not (directory / LOCK_FILE).is_file():
        return False
    return not is_locked(directory)


def publish(run: Run, root: Path, directory: Path | None = None) -> Run:
    """Give a staged run its place, in one step: in `root` or, linked from there, at `directory`, which must be empty.

    Raises UserError where it is not.
    """
    path = root / run.name
    if directory is not None:
        path = directory.resolve()
        check_directory(path, root)
        check_free(path)
    root.mkdir(parents=True, exist_ok=True)
    try:
        run.path.rename(path)  # replaces an empty directory, and no other
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        fix = "give --output_dir a directory that is empty or not there yet"
        raise UserError(f"{path} is not empty", key="output.dir", fix=fix) from error
    sync_directory(path.parent)
    return named_run(path, run.name, root)
