"""Presets: found by name or path, read, and written.

A preset is TOML: an `about` line and the sections of the schema, holding what differs from the defaults.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convnn.config import toml
from convnn.config.fixes import in_file
from convnn.config.options import BY_KEY, SECTIONS
from convnn.config.schema import SAFE_NAME, RunConfig
from convnn.errors import Problem, UserError, did_you_mean
from convnn.files import TRASH, config_folder, read_regular, with_time, without_time, write_atomic
from convnn.paths import typed_path

SWEEP_KEYS = {"axes", "block", "search"}  # keys of a sweep's file that no preset has


@dataclass(frozen=True)
class Preset:
    """A preset's file as it was read: values by option key, and what is wrong with the file in `problems`."""

    name: str
    path: Path | None
    about: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    shadowed: tuple[Path, ...] = ()  # files of the same name in later folders, which are not used


def folders() -> list[Path]:
    """Return where a preset's name is looked up, in order: ./presets, the user's own, those that come with convnn."""
    bundled = Path(__file__).resolve().parents[1] / "_presets"
    try:
        own = config_folder() / "presets"
    except ValueError:  # a user without a home
        return [Path("presets"), bundled]
    return [Path("presets"), own, bundled]


def listed() -> dict[str, list[Path]]:
    """Return every preset by name, with the files of that name: the first is used."""
    by_name: dict[str, list[Path]] = {}
    for folder in folders():
        for path in sorted(path for path in folder.glob("*.toml") if path.is_file()):
            paths = by_name.setdefault(path.stem, [])
            if not any(path.samefile(known) for known in paths):
                paths.append(path)
    return dict(sorted(by_name.items()))


def find(name: str) -> Path:
    """Return the file of a preset. Raises UserError that names the nearest known one."""
    if toml.is_path(name):
        path = typed_path(name)
        if not path.is_file():
            raise UserError(_no_file(name, path))
        return path
    known = listed()
    if name not in known:
        message = (
            f"there is no preset {name or repr(name)} in {', '.join(map(str, folders()))}{did_you_mean(name, known)}"
        )
        raise UserError(message, fix="`convnn presets` lists them; a path ends in .toml")
    return known[name][0]


def _no_file(name: str, path: Path) -> Problem:
    """Return why a path that was typed as a preset is none, with the name that was likely meant as its fix."""
    message = f"there is no preset file {name}"
    if path.is_dir():
        message = f"{name} is a directory"
    known = listed()
    if path.stem in known:
        return Problem(message, fix=f"use {path.stem}, the name of {known[path.stem][0]}")
    return Problem(message, fix="give the path of a .toml file, or a name that `convnn presets` lists")


def _text(path: Path) -> str:
    """Return the text of a preset. Those that come with convnn may be hard links: installers share their files."""
    return toml.read_text(path, single_link=path.parent != folders()[-1])


def read(name: str) -> Preset:
    """Return a preset by name or path, with what is wrong in it. Raises UserError when there is no such file."""
    path = find(name)
    shadowed: tuple[Path, ...] = ()
    if not toml.is_path(name):
        shadowed = tuple(listed()[name][1:])
    return replace(parse(_text(path), path.stem, path), shadowed=shadowed)


def read_checked(name: str) -> Preset:
    """Return a preset by name or path; for one that is missing or cannot be read, the error is its problem."""
    try:
        return read(name)
    except UserError as error:
        return Preset(name, None, problems=error.problems)


def read_all() -> Iterator[Preset]:
    """Yield every preset that can be opened by its name, as `read_checked` returns it."""
    for name, (path, *shadowed) in listed().items():
        yield replace(read_checked(str(path)), name=name, path=path, shadowed=tuple(shadowed))


def shadowed_by(preset: Preset) -> str:
    """Return the note that a preset of this name hides others."""
    used, *hidden = [str(path.parent) for path in [preset.path or Path(), *preset.shadowed]]
    return f"preset {preset.name} of {used} is used; it hides the one in {', '.join(hidden)}"


def origin(path: Path) -> str:
    """Return whose a preset file is, as lists say it."""
    return "yours" if is_ours(path) else "ships with convnn"


def hidden_by(path: Path) -> str:
    """Return which presets a file hides, or will hide once it is saved, as an end of a sentence: "" for none.

    A file that is in no folder where names are looked up hides nothing.
    """
    known = folders()
    places = [index for index, folder in enumerate(known) if folder.absolute() == path.parent.absolute()]
    if not places:
        return ""
    hidden = [folder / path.name for folder in known[places[0] + 1 :] if (folder / path.name).is_file()]
    if path.exists():
        hidden = [file for file in hidden if not path.samefile(file)]
    return " and ".join(f"the {path.stem} that {_belongs(file)}" for file in hidden)


def _belongs(path: Path) -> str:
    return f"is yours in {path.parent}" if is_ours(path) else "ships with convnn"


def parse(text: str, name: str = "preset", path: Path | None = None) -> Preset:
    """Return a preset from its text: what is wrong becomes problems, the rest becomes values."""
    file = str(path) if path else name
    try:
        tables = toml.loads(text, file)
    except UserError as error:
        return Preset(name, path, problems=error.problems)
    if sweep_keys := sorted(SWEEP_KEYS & tables.keys()):
        message = f"this is the file of a sweep, not a preset: it has {' and '.join(sweep_keys)}"
        command = f"convnn sweep run {shlex.quote(file)}"
        return Preset(name, path, problems=(Problem(message, file=file, fix=f"train its runs with {command}"),))
    about = tables.pop("about", "")
    problems: list[Problem] = []
    if not isinstance(about, str) or "\n" in about:
        problems.append(Problem("about must be one line of text", key="about", value=about, fix='write about = "..."'))
        about = ""
    values: dict[str, Any] = {}
    for section, table in tables.items():
        if section not in SECTIONS:
            problems.append(toml.unknown_key(section, table))
        elif not isinstance(table, dict):
            problems.append(toml.not_a_table(section, table))
        else:
            values |= {f"{section}.{field}": value for field, value in table.items()}
    for key in [key for key in values if key not in BY_KEY]:
        problems.append(toml.unknown_key(key, values.pop(key)))
    if values.pop("output.dir", None) is not None:
        message = "output.dir cannot be set in a preset: the directory belongs to one run, as --output_dir sets it"
        problems.append(Problem(message, key="output.dir", fix="remove it"))
    return Preset(name, path, about, values, tuple(in_file(problem, file) for problem in problems))


def source(preset: Preset) -> str:
    assert preset.path is not None
    return _text(preset.path)


def own_path(name: str) -> Path:
    """Return where a user's preset of this name goes: a path as it is, a name into ./presets.

    Raises UserError when the name is not a safe file name.
    """
    if name.endswith(".toml"):
        return typed_path(name)
    if "/" in name:
        return typed_path(f"{name}.toml")
    return Path("presets") / f"{_safe(name)}.toml"


def new_path(name: str) -> Path:
    """Return the file of a new preset. Raises UserError where the name is not a safe file name."""
    return new_folder() / f"{_safe(name)}.toml"


def _safe(name: str) -> str:
    if not re.fullmatch(SAFE_NAME, name):
        message = f"{name!r} cannot be a preset's name"
        fix = "begin with a letter or digit; use letters, digits and . _ + = - (80 at most)"
        raise UserError(message, value=name, fix=fix)
    return name


def new_folder() -> Path:
    """Return where a new preset is saved: ./presets where there is one, else the user's own folder."""
    local, *others = folders()
    return local if local.is_dir() or len(others) < 2 else others[0]


def save(path: Path, config: RunConfig, about: str, *, overwrite: bool = False) -> None:
    """Write a preset atomically. Raises UserError when the file exists and `overwrite` is not set.

    Comments, blank lines and the order of a file that is replaced stay where `keeps_comments` is true.
    """
    text = toml.dumps(config, about)
    if os.path.lexists(path):
        if not overwrite:
            raise UserError(f"{path} exists", fix="choose another name, or confirm to overwrite it")
        text, _ = toml.updated(content(path).decode("utf-8", "replace"), config, about)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)


def content(path: Path) -> bytes:
    """Return the bytes of a preset. Raises UserError for a file that `open_regular` does not open, and a large one."""
    try:
        return read_regular(path, toml.MAX_BYTES, single_link=is_ours(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def keeps_comments(text: str, config: RunConfig, about: str) -> bool:
    """Whether the comments of a preset's text stay when a configuration is saved over it; true where it has none."""
    return "#" not in text or toml.updated(text, config, about)[1]


def is_ours(path: Path) -> bool:
    """Return whether a preset file may be changed: those that come with convnn may not, except in its source tree."""
    local, *_, bundled = folders()
    return path.parent != bundled or bundled == local.absolute()


def duplicate(path: Path) -> Path:
    """Copy a preset under the first free name NAME-2, NAME-3 ..., and return the copy."""
    number = 2
    while (copy := new_folder() / f"{path.stem}-{number}.toml").exists():
        number += 1
    copy.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(copy, content(path))
    return copy


def discard(path: Path) -> tuple[Path, Path]:
    """Move a preset to the trash of its folder, and return (old path, path in the trash).

    Raises UserError if the preset came with convnn.
    """
    if not is_ours(path):
        raise UserError(f"{path.stem} came with convnn", fix="ctrl+d makes a copy that is yours")
    trash = path.parent / TRASH
    if trash.is_symlink():
        raise UserError(f"{trash} is a symbolic link: the trash has to be a directory of its own")
    trash.mkdir(exist_ok=True)
    trashed = trash / with_time(path.name)
    path.rename(trashed)
    return path, trashed


def restore(trashed: Path, path: Path) -> None:
    """Undo a `discard`. Raises UserError where another preset has taken the name."""
    if os.path.lexists(path):
        raise UserError(f"{without_time(trashed.name)} cannot be restored: {path} exists")
    trashed.rename(path)
