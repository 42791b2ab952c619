"""Presets: found by name or path, read, merged under the flags that were typed, checked, and written.

A preset is TOML: an `about` line and the sections of the schema, holding what differs from the defaults.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from convnn.config.options import BY_KEY, OPTIONS, SECTIONS
from convnn.config.schema import SAFE_NAME, RunConfig
from convnn.config.toml import text
from convnn.errors import Problem, UserError, did_you_mean
from convnn.files import write_atomic
from convnn.runs.trash import LENGTH, STAMP
from convnn.text import escaped

LARGEST = 1 << 20  # bytes of a preset: one beyond is no preset


@dataclass(frozen=True)
class Preset:
    """A file of settings as it was read: values by key, whatever is wrong with the file in `problems`."""

    name: str
    path: Path | None
    about: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    hidden: tuple[Path, ...] = ()  # files that carry the name too, and are not used


def folders() -> list[Path]:
    """Where a preset's name is looked for, in order: ./presets, the person's own, those that came with convnn."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    bundled = Path(__file__).resolve().parents[1] / "_presets"
    return [Path("presets"), home / "convnn" / "presets", bundled]


def listed() -> dict[str, list[Path]]:
    """Every preset by name, with the files that carry the name, the one that is used first."""
    found: dict[str, list[Path]] = {}
    for folder in folders():
        for path in sorted(path for path in folder.glob("*.toml") if path.is_file()):
            paths = found.setdefault(path.stem, [])
            if not any(path.samefile(other) for other in paths):
                paths.append(path)
    return dict(sorted(found.items()))


def find(name: str) -> Path:
    """The file of a preset. Raises UserError that names the nearest known one."""
    if name.endswith(".toml") or "/" in name:
        if not Path(name).is_file():
            raise UserError(f"there is no preset file {escaped(name)}")
        return Path(name)
    known = listed()
    if name not in known:
        where = ", ".join(str(folder) for folder in folders())
        raise UserError(
            Problem(
                f"there is no preset {escaped(name) or repr(name)} in {where}{did_you_mean(name, known)}",
                fix="`convnn presets` lists them; a path ends in .toml",
            )
        )
    return known[name][0]


def read(name: str) -> Preset:
    """A preset by name or path, with what is wrong in it. Raises UserError when there is no such file."""
    path = find(name)
    hidden = () if path == Path(name) else tuple(listed()[name][1:])
    return replace(parse(_text(path), path.stem, path), hidden=hidden)


def shadowed_by(preset: Preset) -> str:
    """The sentence that other files carry the name of a preset, too."""
    folders = [preset.path or Path(), *preset.hidden]
    return f"{preset.name} stands in {' and '.join(escaped(path.parent) for path in folders)}; the first is used"


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"{escaped(path)} cannot be read: {error.strerror}") from error
    if len(data) > LARGEST:
        raise UserError(f"{escaped(path)} is larger than {LARGEST} bytes: no preset is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            Problem(f"the file is not UTF-8 text (line {line})", file=escaped(path), fix="save it as UTF-8")
        ) from error


def parse(text: str, name: str = "preset", path: Path | None = None) -> Preset:
    """A preset from its text: what is wrong becomes problems, what can be read is kept."""
    shown = escaped(path) if path else name
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        message = f"not valid TOML: {escaped(error)}" if str(error) else "not valid TOML: nested too deeply"
        return Preset(name, path, problems=(Problem(message, file=shown, fix=_toml_fix(text, str(error))),))
    about = tables.pop("about", "")
    found: list[Problem] = []
    if not isinstance(about, str) or "\n" in about:
        found.append(Problem("about must be one line of text", key="about", value=about, fix='write about = "..."'))
        about = ""
    values: dict[str, Any] = {}
    for section, table in tables.items():
        if section not in SECTIONS:
            found.append(_unknown(section, table))
        elif not isinstance(table, dict):
            found.append(
                Problem(f"{section} must be a table", key=section, value=table, fix=f"write [{section}] and its keys")
            )
        else:
            values |= {f"{section}.{key}": value for key, value in table.items()}
    for key in [key for key in values if key not in BY_KEY]:
        found.append(_unknown(key, values.pop(key)))
    if values.pop("output.dir", None) is not None:
        found.append(
            Problem(
                "a preset may not set output.dir: where a run is written belongs to one run",
                key="output.dir",
                fix="remove it, and give --output_dir on the command line",
            )
        )
    return Preset(name, path, about, values, tuple(problem.at(shown) for problem in found))


def _toml_fix(text: str, error: str) -> str:
    where = re.search(r"at line (\d+), column (\d+)", error)
    if where is None:
        return "check the last lines: something is left open"
    lines = text.splitlines()
    number = int(where[1])
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    shown = escaped(line.strip())[:100]
    return f"line {number}, column {where[2]} reads {shown!r}: text needs quotes, true and false are lower case"


def _unknown(key: str, value: Any) -> Problem:
    keys = {option.field: option.key for option in OPTIONS} | {option.name: option.key for option in OPTIONS}
    guess = keys.get(key.rpartition(".")[2])
    what, known = ("option", [*BY_KEY, *SECTIONS]) if "." in key else ("section", SECTIONS)
    hint = f". Did you mean {guess}?" if guess else did_you_mean(key, known)
    return Problem(
        f"there is no {what} {escaped(key)}{hint}",
        key=escaped(key),
        value=value,
        fix="remove it, or correct its name",
    )


def source(preset: Preset) -> str:
    """The text of a preset's file."""
    assert preset.path is not None
    return _text(preset.path)


def own_path(name: str) -> Path:
    """Where a person's preset of this name goes: a path as it is, a name into ./presets.

    Raises UserError when the name is no safe file name.
    """
    if name.endswith(".toml") or "/" in name:
        return Path(name) if name.endswith(".toml") else Path(name + ".toml")
    if not re.fullmatch(SAFE_NAME, name):
        raise UserError(Problem(f"{name!r} is no name for a preset", fix="use letters, digits and . _ + = -"))
    return Path("presets") / f"{name}.toml"


def save(path: Path, config: RunConfig, about: str, *, overwrite: bool = False) -> None:
    """Write a preset, whole or not at all. Raises UserError when the file is there and may not be replaced."""
    if path.exists() and not overwrite:
        raise UserError(Problem(f"{escaped(path)} exists", fix="choose another name, or agree to overwrite it"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text(config, about))


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
