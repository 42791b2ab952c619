"""Defaults, then a preset, then typed options: one checked configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from convnn.config.active import inactive_messages
from convnn.config.fixes import in_file
from convnn.config.options import BY_KEY, OPTIONS, Option, Value, value_at
from convnn.config.schema import RunConfig, section_tables
from convnn.data.catalog import DatasetInfo, dataset_info, published_info
from convnn.errors import Problem, UserError
from convnn.presets import rules
from convnn.presets.store import Preset, read, shadowed_by


@dataclass(frozen=True)
class Resolved:
    """A configuration with the origin of each value; it may be launched when `problems` is empty."""

    config: RunConfig
    origins: Mapping[str, str]  # option key -> "default", "preset NAME" or "flag"
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]  # allowed, but worth saying: inactive options, surprises
    dataset: DatasetInfo  # the rules about feature maps were checked with its image size

    def checked(self) -> RunConfig:
        """Return the configuration. Raises UserError with every problem when there is one."""
        if self.problems:
            raise UserError(self.problems)
        return self.config


def resolve(
    preset: Preset | None = None, typed: Mapping[str, Any] | None = None, *, dataset: DatasetInfo | None = None
) -> Resolved:
    """Merge defaults < preset < typed, and check the values, the rules across them, and the preset's file.

    `typed` is by option key; a string for an option of another kind is a word from a command line or a form. `dataset`
    is what is known of the data set, by default what its name tells: no file is opened here.
    """
    merged = _Merged(preset, typed or {})
    data = merged.config.data
    return merged.check(dataset or published_info(data.dataset, data.resize))


def resolve_with_data(
    preset: Preset | None = None, typed: Mapping[str, Any] | None = None, *, base: RunConfig | None = None
) -> Resolved:
    """Do what `resolve` does with the image size of the data on this machine, and `base` in place of the defaults."""
    merged = _Merged(preset, typed or {}, base)
    data = merged.config.data
    return merged.check(dataset_info(data.dataset, data.path, data.resize))


def resolve_named(name: str | None, typed: Mapping[str, Any]) -> Resolved:
    """Do what `resolve_with_data` does with a preset by its name or path; None for the defaults."""
    preset = None
    if name is not None:
        preset = read(name)
    return resolve_with_data(preset, typed)


class _Merged:
    """The values of a preset and typed ones over the defaults, each checked alone."""

    def __init__(self, preset: Preset | None, typed: Mapping[str, Any], base: RunConfig | None = None) -> None:
        self.preset, self.typed = preset, typed
        self.file: str | None = None
        self.problems: list[Problem] = []
        self.values = {option.key: value_at(base or RunConfig(), option.key) for option in OPTIONS}
        self.origins = dict.fromkeys(self.values, "default")
        if preset:
            self.file = str(preset.path or preset.name)
            self.problems += preset.problems
            for key, value in preset.values.items():
                if key not in typed:
                    self._set(BY_KEY[key], value, f"preset {preset.name}", self.file)
        for key, value in typed.items():
            self._set(BY_KEY[key], value, "flag")
        self.config = build_config(self.values)

    def _set(self, option: Option, value: Any, origin: str, file: str | None = None) -> None:
        self.origins[option.key] = origin
        try:
            if origin == "flag" and isinstance(value, str):
                value = option.parse(value)
            self.values[option.key] = option.validate(value)
        except ValueError:
            self.problems.append(in_file(option.problem(value), file))

    def check(self, dataset: DatasetInfo) -> Resolved:
        """Check the rules across options, where their own values are allowed."""
        problems = [*self.problems, *(self._located(problem) for problem in self._broken_rules(dataset))]
        set_keys = {key for key, origin in self.origins.items() if origin != "default"}
        notes = [*inactive_messages(self.config, set_keys), *rules.notes(self.config)]
        if self.preset and self.preset.shadowed:
            notes.insert(0, shadowed_by(self.preset))
        if dataset.problem is not None:
            dataset = replace(dataset, problem=self._located(dataset.problem))
        return Resolved(self.config, self.origins, tuple(problems), tuple(notes), dataset)

    def _broken_rules(self, dataset: DatasetInfo) -> list[Problem]:
        refused = {problem.key for problem in self.problems}
        problems = [*rules.problems(self.config, dataset.image_size), *rules.data_problems(self.config, dataset)]
        return [problem for problem in problems if problem.key not in refused]

    def _located(self, problem: Problem) -> Problem:
        """Name the preset's file where the value is the preset's, or a default that clashes with nothing typed."""
        origin = self.origins.get(problem.key or "", "default")
        is_in_file = origin.startswith("preset ") or (origin == "default" and not self.typed)
        if is_in_file:
            return in_file(problem, self.file)
        return problem


def build_config(values: Mapping[str, Value]) -> RunConfig:
    """Return a configuration from allowed values by option key."""
    return RunConfig.model_validate(section_tables(values))
