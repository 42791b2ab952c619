"""Removed runs: `ROOT/.trash/TIME-NAME`, until the trash is emptied. A run from elsewhere keeps its link beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from convnn.errors import Exit, Problem, UserError
from convnn.files import TRASH, with_time, without_time, write_atomic
from convnn.runs.lock import lock_run


def _trash_directory(root: Path) -> Path:
    directory = root / TRASH
    if directory.is_symlink():
        raise UserError(f"{directory} is a symbolic link: the trash has to be a directory of its own")
    return directory


def _entries(root: Path) -> list[Path]:
    directory = _trash_directory(root)
    return sorted(directory.iterdir()) if directory.is_dir() else []


def trashed_runs(root: Path) -> list[Path]:
    """Return the directories of the runs in the trash, the one removed last at the end."""
    return [entry for entry in _entries(root) if entry.is_dir() and not entry.is_symlink()]


def link_target(link: Path) -> Path | None:
    """Return the absolute path in a `.link` file; None where it holds none."""
    with link.open("rb") as file:
        text = os.fsdecode(file.read(5000).partition(b"\n")[0])
    return Path(text) if text.startswith("/") and "\0" not in text else None


def write_link(link: Path, target: Path) -> None:
    """Make `link` a file of one line: the absolute path `target`."""
    write_atomic(link, os.fsencode(target) + b"\n")


def discard(path: Path, name: str, root: Path) -> Path:
    """Move the run at `path`, called `name` in `root`, to the trash and return its place there.

    Raises UserError (HELD) while a process trains it.
    """
    directory = _trash_directory(root)
    if directory.resolve().is_relative_to(path.resolve()):
        raise UserError(f"{path} cannot be removed: it holds the runs in {root}")
    directory.mkdir(parents=True, exist_ok=True)
    with lock_run(path):
        entry = directory / with_time(name)
        if path.parent.resolve() != root.resolve() or path.name != name:
            write_link(_link_of(entry), path)
        shutil.move(path, entry)
    link = root / f"{name}.link"
    if link.is_file() and link_target(link) == path:
        link.unlink()
    return entry


def undo(root: Path) -> Path:
    """Restore the run that was removed last and return its path.

    Raises UserError where something else is at its path, or (NO_RUN) where the trash is empty.
    """
    entries = trashed_runs(root)
    if not entries:
        raise UserError(f"the trash of {root} is empty", Exit.NO_RUN)
    entry = entries[-1]
    name = without_time(entry.name)
    link = _link_of(entry)
    target = (link_target(link) if link.is_file() else None) or root / name
    if os.path.lexists(target):
        raise UserError(Problem(f"{name} cannot be restored: {target} exists", fix="move that away first"))
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(entry, target)
    if link.is_file():
        link.replace(root / f"{name}.link")
    return target


def _link_of(entry: Path) -> Path:
    return entry.with_name(entry.name + ".link")


def empty(root: Path) -> int:
    """Delete everything in the trash for good and return the number of runs."""
    runs = set(trashed_runs(root))
    for entry in _entries(root):
        if entry in runs:
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return len(runs)
