"""Removed runs: `ROOT/.trash/TIME-NAME`, until the trash is emptied. A run from elsewhere keeps its link beside it."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from convnn.errors import Exit, Problem, UserError
from convnn.files import write_atomic
from convnn.runs.lock import lock_run
from convnn.text import escaped

NAME = ".trash"
STAMP = "%Y%m%d-%H%M%S-%f-"  # UTC; of one length, so that the name behind it is known
LENGTH = len("20261122-151500-123456-")


def _place(root: Path) -> Path:
    place = root / NAME
    if place.is_symlink():
        raise UserError(f"{escaped(place)} is a symbolic link: the trash has to be a directory of its own")
    return place


def _entries(root: Path) -> list[Path]:
    place = _place(root)
    return sorted(place.iterdir()) if place.is_dir() else []


def link_target(link: Path) -> Path | None:
    """The absolute path in a `.link` file; None where it holds none."""
    with link.open("rb") as file:
        text = os.fsdecode(file.read(5000).partition(b"\n")[0])
    return Path(text) if text.startswith("/") and "\0" not in text else None


def write_link(link: Path, target: Path) -> None:
    """Make `link` a file of one line: the absolute path `target`."""
    write_atomic(link, os.fsencode(target) + b"\n")


def discard(path: Path, name: str, root: Path) -> Path:
    """Move the run at `path`, known as `name` in `root`, to the trash; its new place. UserError (HELD) if it trains."""
    place = _place(root)
    if place.resolve().is_relative_to(path.resolve()):
        raise UserError(f"{escaped(path)} cannot be removed: it holds the runs in {escaped(root)}")
    place.mkdir(parents=True, exist_ok=True)
    with lock_run(path):
        to = place / f"{datetime.now(UTC):{STAMP}}{name}"
        if path.parent.resolve() != root.resolve() or path.name != name:
            write_link(to.with_name(to.name + ".link"), path)
        shutil.move(path, to)
    link = root / f"{name}.link"
    if link.is_file() and link_target(link) == path:
        link.unlink()
    return to


def undo(root: Path) -> Path:
    """Bring back the run that was removed last; its path. UserError if its place is taken, NO_RUN if there is none."""
    entries = [entry for entry in _entries(root) if entry.is_dir() and not entry.is_symlink()]
    if not entries:
        raise UserError(f"the trash of {escaped(root)} is empty", Exit.NO_RUN)
    entry = entries[-1]
    name = entry.name[LENGTH:]
    link = entry.with_name(entry.name + ".link")
    target = (link_target(link) if link.is_file() else None) or root / name
    if os.path.lexists(target):
        raise UserError(
            Problem(f"{escaped(name)} cannot come back: {escaped(target)} is taken", fix="move that away first")
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(entry, target)
    if link.is_file():
        link.replace(root / f"{name}.link")
    return target


def empty(root: Path) -> int:
    """Delete what is in the trash for good; how many runs that were."""
    count = 0
    for entry in _entries(root):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
            count += 1
        else:
            entry.unlink()
    return count
