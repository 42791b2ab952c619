"""Removed runs: `ROOT/.trash/TIME-NAME`, until the trash is emptied. A run from elsewhere keeps its link beside it.

Only runs are moved and deleted, and nothing leaves the root: a run from elsewhere returns there if this person removed
it, which a signature in its link tells. The key lies in the person's home, so that a stranger's trash has none.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from pathlib import Path

from convnn import predictions
from convnn.errors import Exit, UserError
from convnn.files import TRASH, folder_entries, has_time, read_regular, with_time, without_time, write_atomic
from convnn.repository import state
from convnn.runs.lock import lock_run
from convnn.runs.marker import MARKER, is_ours
from convnn.runs.signature import is_signed, sign
from convnn.runs.slurm_jobs import LOG, SCRIPT, STARTING, job_of_run

OWN_NAMES = frozenset(  # of what a run has in its directory
    (
        *("config.toml", "events.jsonl", "checkpoints", "log.txt", "control", "run.lock", MARKER, "imported.json"),
        *("args.txt", "model.txt", "train_eval_results.txt"),
        SCRIPT,
        LOG,
        predictions.NAME,
        state.DIFF,
    )
)
MAX_LINK = 5000  # bytes of a link
MAX_REASON = 200  # characters of an error in a message


def _trash_directory(root: Path) -> Path:
    directory = root / TRASH
    if directory.is_symlink():
        raise UserError(f"{directory} is a symbolic link: the trash has to be a directory of its own")
    return directory


def trashed_runs(root: Path) -> list[Path]:
    """Return the directories of the runs in the trash, the one removed last at the end."""
    return [entry for entry in folder_entries(_trash_directory(root)) if has_time(entry.name) and is_ours(entry)]


def link_target(link: Path) -> Path | None:
    """Return the absolute path in a `.link` file; None where it holds none. Raises OSError."""
    text = os.fsdecode(read_regular(link, MAX_LINK).partition(b"\n")[0])
    if text.startswith("/") and "\0" not in text:
        return Path(text)
    return None


def write_link(link: Path, target: Path) -> None:
    """Make `link` a file of one line: the absolute path `target`."""
    write_atomic(link, os.fsencode(target) + b"\n")


def _signed(entry: Path, target: Path) -> bytes:
    """Return what a person signs who moves the run at `target` to `entry`."""
    return os.fsencode(entry.name) + b"\n" + os.fsencode(target)


def _original_place(entry: Path) -> Path | None:
    """Return where a run from elsewhere was when this person removed it; None for a run of the root."""
    link = _link_of(entry)
    try:
        target, signature = link_target(link), read_regular(link, MAX_LINK).split(b"\n")[1]
    except (OSError, IndexError):
        return None
    if target is None or not is_signed(_signed(entry, target), os.fsdecode(signature)):
        return None
    return target


def discard(path: Path, name: str, root: Path, *, waits: bool = True) -> Path:
    """Move the run at `path`, called `name` in `root`, to the trash and return its place there.

    Raises UserError (HELD) while a process trains it or a Slurm job is to, and for what is no run of ours. Unless it
    `waits`, what is known of jobs is a few seconds old.
    """
    directory = _trash_directory(root)
    if not is_ours(path):
        message = f"{path} cannot be removed: it has neither {MARKER} nor a history of ours"
        raise UserError(message, fix="if it is a run all the same, remove it by hand")
    if directory.resolve().is_relative_to(path.resolve()):
        raise UserError(f"{path} cannot be removed: it holds the runs in {root}")
    job = job_of_run(path, waits=waits)
    if job is not None and (job.state.is_waiting or job.state.state in STARTING):
        message = f"{name} is to be trained by the Slurm job {job.name}"
        raise UserError(message, Exit.HELD, fix=f"cancel it first: convnn stop {shlex.quote(f'{path}/')}")
    directory.mkdir(parents=True, exist_ok=True)
    with lock_run(path):
        entry = directory / with_time(name)
        if path.parent.resolve() != root.resolve() or path.name != name:
            signature = sign(_signed(entry, path)) or ""
            write_atomic(_link_of(entry), os.fsencode(path) + f"\n{signature}\n".encode())
        _move(path, entry)
    link = root / f"{name}.link"
    if link.is_file() and link_target(link) == path:
        link.unlink()
    return entry


def _move(path: Path, target: Path) -> None:
    """Move a directory, also to another file system. Raises OSError and leaves it where it was."""
    try:
        shutil.move(path, target)
    except shutil.Error as error:  # it holds what cannot be copied, such as a pipe
        shutil.rmtree(target, ignore_errors=True)
        raise OSError(errno.EIO, f"{path} cannot be moved: {str(error)[:MAX_REASON]}", str(path)) from error


def undo(root: Path) -> Path:
    """Restore the run that was removed last and return its path: where it was or, if it is a stranger's, in the root.

    Raises UserError where something else is at its path, or (NO_RUN) where the trash is empty.
    """
    entries = trashed_runs(root)
    if not entries:
        raise UserError(f"the trash of {root} is empty", Exit.NO_RUN)
    entry = entries[-1]
    name = without_time(entry.name)
    link = _link_of(entry)
    original = _original_place(entry)
    target = original or root / name
    if os.path.lexists(target):
        raise UserError(f"{name} cannot be restored: {target} exists", fix="move that away first")
    target.parent.mkdir(parents=True, exist_ok=True)
    _move(entry, target)
    link.unlink(missing_ok=True)
    if original is not None and (original.parent, original.name) != (root, name):
        write_link(root / f"{name}.link", original)
    return target


def _link_of(entry: Path) -> Path:
    return entry.with_name(entry.name + ".link")


def foreign_files(run: Path) -> list[Path]:
    """Return the files and folders in the directory of a run that no run has by itself, in order."""
    return sorted(entry for entry in run.iterdir() if entry.name not in OWN_NAMES and not entry.name.endswith(".tmp"))


def empty(root: Path) -> int:
    """Delete the runs in the trash for good, and the links in it, and return the number of runs."""
    runs = trashed_runs(root)
    for run in runs:
        try:
            shutil.rmtree(run)
        except RecursionError as error:
            raise UserError(f"{run} holds folders nested too deeply", fix="remove it by hand") from error
    for entry in folder_entries(_trash_directory(root)):
        is_link = has_time(entry.name) and entry.suffix == ".link" and entry.is_file()
        if entry.is_symlink() or is_link:
            entry.unlink()
    return len(runs)
