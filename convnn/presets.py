"""Presets: found by name or path, read, merged under the flags that were typed, checked, and written.

A preset is TOML: an `about` line and the sections of the schema, holding what differs from the defaults.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from convnn import rules
from convnn.config import SAFE_NAME, RunConfig
from convnn.datasets import Facts, facts
from convnn.effects import typed_without_effect
from convnn.errors import Problem, UserError, escaped
from convnn.files import write_atomic
from convnn.nearest import did_you_mean
from convnn.options import BY_PLACE, OPTIONS, SECTIONS, Value, value_at

LARGEST = 1 << 20  # bytes of a preset: one beyond is no preset


@dataclass(frozen=True)
class Preset:
    """A file of settings as it was read: values by place, whatever is wrong with the file in `problems`."""

    name: str
    path: Path | None
    about: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    hidden: tuple[Path, ...] = ()  # files that carry the name too, and are not used


@dataclass(frozen=True)
class Resolved:
    """A configuration with the origin of each value; it may be launched when `problems` is empty."""

    config: RunConfig
    origins: Mapping[str, str]  # place -> "default", "preset NAME" or "flag"
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]  # allowed, but said: options without effect, surprises
    facts: Facts

    def checked(self) -> RunConfig:
        """The configuration. Raises UserError with every problem when there is one."""
        if self.problems:
            raise UserError(self.problems)
        return self.config


def folders() -> list[Path]:
    """Where a preset's name is looked for, in order: ./presets, the person's own, those that came with convnn."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    package = Path(__file__).resolve().parent
    bundled = package / "_presets"
    return [Path("presets"), home / "convnn" / "presets", bundled if bundled.is_dir() else package.parent / "presets"]


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


def twice(preset: Preset) -> str:
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
    for place in [place for place in values if place not in BY_PLACE]:
        found.append(_unknown(place, values.pop(place)))
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


def _unknown(place: str, value: Any) -> Problem:
    keys = {option.key: option.place for option in OPTIONS} | {option.name: option.place for option in OPTIONS}
    guess = keys.get(place.rpartition(".")[2])
    what, known = ("option", [*BY_PLACE, *SECTIONS]) if "." in place else ("section", SECTIONS)
    hint = f". Did you mean {guess}?" if guess else did_you_mean(place, known)
    return Problem(
        f"there is no {what} {escaped(place)}{hint}",
        key=escaped(place),
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


def resolve(
    preset: Preset | None = None, typed: Mapping[str, Any] | None = None, *, base: RunConfig | None = None
) -> Resolved:
    """Defaults < preset < what was typed, with every problem of the values, of the rules and of the file.

    `typed` is by place; a string for another kind of option is a word from a command line or a form.
    """
    typed = typed or {}
    values: dict[str, Any] = {
        option.place: value_at(base, option.place) if base else option.default for option in OPTIONS
    }
    origins = dict.fromkeys(values, "default")
    found = list(preset.problems) if preset else []
    given = [(place, value, preset) for place, value in (preset.values if preset else {}).items()]
    given += [(place, value, None) for place, value in typed.items()]
    overridden = set(typed)
    for place, value, source in given:
        if source is not None and place in overridden:
            continue
        problem, value = _checked(place, value, words=source is None)
        origins[place] = f"preset {source.name}" if source else "flag"
        if problem:
            found.append(problem.at(escaped(source.path or source.name)) if source else problem)
        else:
            values[place] = value
    config = build_config(values)
    known = facts(config.data.dataset, config.data.path, config.data.resize)
    wrong = {problem.key for problem in found}
    for problem in rules.problems(config, known.image_size):
        origin = origins.get(problem.key or "", "default")
        in_file = preset and (origin.startswith("preset ") or (origin == "default" and not typed))
        if problem.key not in wrong:
            found.append(problem.at(escaped(preset.path or preset.name)) if preset and in_file else problem)
    set_by_hand = {place for place, origin in origins.items() if origin != "default"}
    notes = [*typed_without_effect(config, set_by_hand), *rules.notes(config)]
    if preset and preset.hidden:
        notes.insert(0, twice(preset))
    return Resolved(config, origins, tuple(found), tuple(notes), known)


def build_config(values: Mapping[str, Any]) -> RunConfig:
    """A configuration from allowed values by place."""
    tables: dict[str, dict[str, Any]] = {}
    for place, value in values.items():
        section, _, key = place.partition(".")
        tables.setdefault(section, {})[key] = value
    return RunConfig.model_validate(tables)


def _checked(place: str, value: Any, *, words: bool) -> tuple[Problem | None, Value]:
    """One value, checked against its field alone; words are parsed first."""
    option = BY_PLACE[place]
    if words and isinstance(value, str):
        try:
            value = option.parse(value)
        except ValueError:
            return option.problem(value), None
    try:
        section = RunConfig.model_fields[option.section].annotation.model_validate({option.key: value})  # type: ignore[union-attr]
    except ValidationError:
        return option.problem(value), None
    return None, getattr(section, option.key)


def read_run(path: Path) -> RunConfig:
    """The configuration of a run's `config.toml`. Raises UserError when it is damaged or from another schema."""
    resolved = resolve(parse(_text(path), path.parent.name, path))
    # rules are not asked: the run exists, whatever a later version thinks of it
    broken = [problem for problem in resolved.problems if problem.file]
    if broken:
        raise UserError(broken)
    return resolved.config


def text(config: RunConfig, about: str = "", *, whole: bool = False) -> str:
    """A configuration as a preset's text: what differs from the defaults, or all of it."""
    tables: dict[str, Any] = {"about": about} if about else {}
    for option in OPTIONS:
        value = value_at(config, option.place)
        if option.place == "output.dir" or (whole and option.section == "output"):
            continue  # where one run is written, and whether it is only evaluated, is no part of it
        if whole or value != option.default:
            plain = "none" if value is None else list(value) if isinstance(value, tuple) else value
            tables.setdefault(option.section, {})[option.key] = plain
    return tomli_w.dumps(tables)


def save(path: Path, config: RunConfig, about: str, *, overwrite: bool = False) -> None:
    """Write a preset, whole or not at all. Raises UserError when the file is there and may not be replaced."""
    if path.exists() and not overwrite:
        raise UserError(Problem(f"{escaped(path)} exists", fix="choose another name, or agree to overwrite it"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text(config, about))
