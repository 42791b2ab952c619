"""The files of presets: copied, thrown away, brought back, and where a new one goes."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

from convnn.config import SAFE_NAME
from convnn.errors import Problem, UserError, escaped
from convnn.files import write_atomic
from convnn.presets import folders
from convnn.trash import LENGTH, STAMP

TRASH = ".trash"


def home() -> Path:
    """Where a new preset is saved: ./presets where that is, else the person's own folder."""
    here, own, _ = folders()
    return here if here.is_dir() else own


def path_of(name: str) -> Path:
    """The file of a new preset. Raises UserError where the name is no safe file name."""
    if not re.fullmatch(SAFE_NAME, name):
        said = "begins with a letter or digit and holds letters, digits, . _ + = - (80 at most)"
        raise UserError(Problem(f"{escaped(name)!r} is no name of a preset: one {said}", value=name))
    return home() / f"{name}.toml"


def is_ours(path: Path) -> bool:
    """Whether the file may be changed: those that came with convnn may not, except in its own source tree."""
    return not (path.parent == folders()[2] and path.parent != folders()[0].absolute())


def duplicate(path: Path) -> Path:
    """Copy a preset under the first free name NAME-2, NAME-3 ...; the copy."""
    number = 2
    while (to := home() / f"{path.stem}-{number}.toml").exists():
        number += 1
    to.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(to, path.read_bytes())
    return to


def discard(path: Path) -> tuple[Path, Path]:
    """Move a preset to the trash of its folder: (where it was, where it is). UserError if it came with convnn."""
    if not is_ours(path):
        raise UserError(Problem(f"{escaped(path.stem)} came with convnn", fix="ctrl+d makes a copy that is yours"))
    place = path.parent / TRASH
    place.mkdir(exist_ok=True)
    to = place / f"{datetime.now(UTC):{STAMP}}{path.name}"
    path.rename(to)
    return path, to


def bring_back(thrown: Path, was: Path) -> None:
    """Undo a `discard`. Raises UserError where another preset has taken the name."""
    if os.path.lexists(was):
        raise UserError(f"{escaped(thrown.name[LENGTH:])} cannot come back: {escaped(was)} is taken")
    thrown.rename(was)
