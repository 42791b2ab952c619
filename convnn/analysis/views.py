"""Saved views: filter, order, columns and grouping of the table of runs by name, in the user's `views.toml`."""

from __future__ import annotations

from pathlib import Path

import tomlkit
from pydantic import BaseModel, ConfigDict, ValidationError
from tomlkit.exceptions import TOMLKitError

from convnn.config.toml import loads, read_text
from convnn.errors import Problem, UserError, did_you_mean
from convnn.files import config_folder, write_atomic
from convnn.text import one_line

LONGEST_NAME = 60  # characters


class View(BaseModel):
    """How a table of runs is arranged; the values are written as the flags of `convnn runs` take them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    filter: str = ""
    sort: str | None = None
    columns: str | None = None
    group: str | None = None

    def __str__(self) -> str:
        values = self.model_dump(exclude_defaults=True)
        return "  ".join(f"{key} {value}" for key, value in values.items()) or "all runs"


def views_path() -> Path:
    """Return the file of the views. Raises UserError for a user without a home."""
    try:
        return config_folder() / "views.toml"
    except ValueError as error:
        raise UserError("there is no home directory to keep views in", fix="set XDG_CONFIG_HOME") from error


def read_views() -> dict[str, View]:
    """Return the saved views by name. Raises UserError where the file is damaged."""
    path = views_path()
    if not path.exists():
        return {}
    views: dict[str, View] = {}
    problems = []
    for name, table in loads(read_text(path), str(path)).items():
        try:
            views[name] = View.model_validate(table)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            key = ".".join(map(str, (name, *detail["loc"])))
            fix = f"a view has {', '.join(View.model_fields)}, each a text"
            problems.append(Problem(f"{key}: {detail['msg']}", key=key, file=str(path), fix=fix))
    if problems:
        raise UserError(problems)
    return views


def find_view(name: str) -> View:
    """Return a saved view. Raises UserError that names the nearest known one."""
    views = read_views()
    if name not in views:
        known = ", ".join(views) or "none yet: convnn runs ... --save-view NAME"
        message = f"no view is called {name!r}{did_you_mean(name, views)}"
        raise UserError(message, key="view", value=name, fix=f"the views are {known}")
    return views[name]


def save_view(name: str, view: View) -> bool:
    """Write a view; return whether it replaced one of that name. Comments of the file stay.

    Raises UserError for a name that is empty or long, and where the file is damaged.
    """
    if name != one_line(name) or not name or len(name) > LONGEST_NAME:
        message = f"{name!r} is no name of a view: give one line of at most {LONGEST_NAME} characters"
        raise UserError(message, key="save-view", value=name)
    path, replaces = views_path(), name in read_views()
    document = _document(path)
    document[name] = view.model_dump(exclude_defaults=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, tomlkit.dumps(document))
    return replaces


def remove_view(name: str) -> None:
    """Remove a saved view. Raises UserError where there is none of that name."""
    find_view(name)
    path = views_path()
    document = _document(path)
    document.remove(name)
    write_atomic(path, tomlkit.dumps(document))


def _document(path: Path) -> tomlkit.TOMLDocument:
    if not path.exists():
        return tomlkit.document()
    try:
        return tomlkit.parse(read_text(path))
    except TOMLKitError as error:
        raise UserError(f"not valid TOML: {error}", file=str(path)) from error
