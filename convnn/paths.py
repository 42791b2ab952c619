"""Paths that a person types."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from convnn.errors import Exit, UserError
from convnn.files import expand_home


def typed_path(path: Path | str) -> Path:
    """Return a path that a person typed, with `~` expanded. Raises UserError where that is no directory."""
    try:
        return Path(expand_home(os.fspath(path)))
    except ValueError as error:
        raise UserError(str(error), value=str(path)) from error


def new_file(path: Path | str, formats: Sequence[str], *, overwrite: bool | None = None) -> Path:
    """Return the path of a file to make, with `~` expanded.

    Raises UserError where it has the ending of no format, is there already, or is in no folder. With `overwrite` a file
    is replaced; without the flag, None, no fix names it.
    """
    path = typed_path(path)
    if path.suffix.lower() not in formats:
        raise UserError(f"{str(path)!r} must end in {', '.join(formats)}", key="out", value=str(path))
    if (path.exists() or path.is_symlink()) and not (overwrite and path.is_file()):
        fix = "choose another name"
        if overwrite is False:
            fix += ", or give --overwrite"
        raise UserError(f"{path} is there already", key="out", value=str(path), fix=fix)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", Exit.STORAGE, key="out", value=str(path))
    return path
