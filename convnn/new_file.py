"""The check of a file that a person names before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convnn.errors import Exit, UserError


def check_new_file(path: Path, formats: Sequence[str], *, overwrite: bool | None = None) -> None:
    """Raise UserError where a path has the ending of no format, is there already, or is in no folder.

    With `overwrite` a file is replaced; without the flag, None, no fix names it.
    """
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
