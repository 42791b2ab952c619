"""Defaults, then a preset, then typed options: one checked configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from convnn.config.active import inactive_messages
from convnn.config.options import BY_KEY, OPTIONS, Value, value_at
from convnn.config.schema import RunConfig
from convnn.data.catalog import DatasetInfo, dataset_info
from convnn.errors import Problem, UserError
from convnn.presets import rules
from convnn.presets.store import Preset, _text, parse, shadowed_by
from convnn.text import escaped


@dataclass(frozen=True)
class Resolved:
    """A configuration with the origin of each value; it may be launched when `problems` is empty."""

    config: RunConfig
    origins: Mapping[str, str]  # key -> "default", "preset NAME" or "flag"
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]  # allowed, but said: options without effect, surprises
    dataset: DatasetInfo

    def checked(self) -> RunConfig:
        """The configuration. Raises UserError with every problem when there is one."""
        if self.problems:
            raise UserError(self.problems)
        return self.config


def resolve(
    preset: Preset | None = None, typed: Mapping[str, Any] | None = None, *, base: RunConfig | None = None
) -> Resolved:
    """Defaults < preset < what was typed, with every problem of the values, of the rules and of the file.

    `typed` is by key; a string for another kind of option is a word from a command line or a form.
    """
    typed = typed or {}
    values: dict[str, Any] = {option.key: value_at(base, option.key) if base else option.default for option in OPTIONS}
    origins = dict.fromkeys(values, "default")
    found = list(preset.problems) if preset else []
    given = [(key, value, preset) for key, value in (preset.values if preset else {}).items()]
    given += [(key, value, None) for key, value in typed.items()]
    overridden = set(typed)
    for key, value, source in given:
        if source is not None and key in overridden:
            continue
        problem, value = _checked(key, value, words=source is None)
        origins[key] = f"preset {source.name}" if source else "flag"
        if problem:
            found.append(problem.at(escaped(source.path or source.name)) if source else problem)
        else:
            values[key] = value
    config = build_config(values)
    known = dataset_info(config.data.dataset, config.data.path, config.data.resize)
    wrong = {problem.key for problem in found}
    for problem in rules.problems(config, known.image_size):
        origin = origins.get(problem.key or "", "default")
        in_file = preset and (origin.startswith("preset ") or (origin == "default" and not typed))
        if problem.key not in wrong:
            found.append(problem.at(escaped(preset.path or preset.name)) if preset and in_file else problem)
    set_by_hand = {key for key, origin in origins.items() if origin != "default"}
    notes = [*inactive_messages(config, set_by_hand), *rules.notes(config)]
    if preset and preset.hidden:
        notes.insert(0, shadowed_by(preset))
    return Resolved(config, origins, tuple(found), tuple(notes), known)


def build_config(values: Mapping[str, Any]) -> RunConfig:
    """A configuration from allowed values by key."""
    tables: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, field = key.partition(".")
        tables.setdefault(section, {})[field] = value
    return RunConfig.model_validate(tables)


def _checked(key: str, value: Any, *, words: bool) -> tuple[Problem | None, Value]:
    """One value, checked against its field alone; words are parsed first."""
    option = BY_KEY[key]
    if words and isinstance(value, str):
        try:
            value = option.parse(value)
        except ValueError:
            return option.problem(value), None
    try:
        section = RunConfig.model_fields[option.section].annotation.model_validate({option.field: value})  # type: ignore[union-attr]
    except ValidationError:
        return option.problem(value), None
    return None, getattr(section, option.field)


def read_run(path: Path) -> RunConfig:
    """The configuration of a run's `config.toml`. Raises UserError when it is damaged or from another schema."""
    resolved = resolve(parse(_text(path), path.parent.name, path))
    # rules are not asked: the run exists, whatever a later version thinks of it
    broken = [problem for problem in resolved.problems if problem.file]
    if broken:
        raise UserError(broken)
    return resolved.config
