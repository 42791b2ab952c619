"""What the form holds: a preset or nothing, what was typed over it, and what is known of the two together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convnn import hardware
from convnn.config import toml
from convnn.config.active import inactive_options
from convnn.config.command_line import Parsed, command, spelled
from convnn.config.options import BY_FLAG, BY_KEY, OPTIONS, Option, Value
from convnn.config.schema import RunConfig
from convnn.costs.plan import Plan, plan
from convnn.data.catalog import DATASETS
from convnn.errors import Problem, UserError, did_you_mean
from convnn.presets import resolve, store
from convnn.presets.resolve import Resolved
from convnn.presets.store import Preset
from convnn.runs import run as runs_run
from convnn.text import escaped

FIELDS = tuple(option for option in OPTIONS if option.key != "output.test_only")
ONLY_TESTS = "--test_only evaluates a checkpoint and prints: a thing for the shell, `convnn run --test_only`"


@dataclass(frozen=True)
class Checked:
    """All that is known of a draft; it may be launched when there are no problems."""

    config: RunConfig
    base: RunConfig  # what the form began with
    problems: tuple[Problem, ...]
    inactive: Mapping[str, str]  # options without effect, and why
    resolved: Resolved
    plan: Plan | None  # None where the images' size is not known

    def at(self, key: str) -> list[Problem]:
        """The problems of one field."""
        return [problem for problem in self.problems if problem.key == key]

    @property
    def homeless(self) -> list[Problem]:
        """The problems that belong to no field of the form."""
        return [problem for problem in self.problems if problem.key not in BY_KEY]


@dataclass
class Draft:
    """A configuration that is being made."""

    preset: Preset | None = None
    typed: dict[str, str] = field(default_factory=dict)  # by key, only what differs from what the form began with
    run: Preset | None = None  # without a preset, the run that it began with, in the shape of one

    @classmethod
    def of(cls, config: RunConfig, name: str) -> Draft:
        """A draft that begins with a run's settings, without its directory and its name."""
        told = store.parse(toml.dumps(config), name)
        kept = {k: v for k, v in told.values.items() if k != "run.name" and not k.startswith("output.")}
        return cls(run=replace(told, values=kept))

    @property
    def base(self) -> Preset | None:
        """What the form began with, unless that were the defaults."""
        return self.preset or self.run

    def __post_init__(self) -> None:
        self._begun: dict[str, Any] = dict(self.base.values) if self.base else {}

    def begun(self, option: Option) -> str:
        """What a field held at the beginning: the preset's word, right or wrong, else the default."""
        value = self._begun.get(option.key, option.default)
        value = tuple(value) if isinstance(value, list) else value
        fits = (
            value is None
            or isinstance(value, bool | int | float | str)
            or all(isinstance(w, str) for w in _words(value))
        )
        return option.text(value) if fits else str(value)

    def text(self, option: Option) -> str:
        """What a field holds now."""
        return self.typed.get(option.key, self.begun(option))

    def type(self, key: str, text: str) -> None:
        """Somebody typed this into a field."""
        option = BY_KEY[key]
        wrong = key in self._begun and not _is_allowed(self.base, key)
        if text == self.begun(option) and not wrong:
            self.typed.pop(key, None)
        else:
            self.typed[key] = text

    def reset(self, key: str) -> None:
        """The field as it was at the beginning, or, where it is that already, its default."""
        if key in self.typed:
            del self.typed[key]
        else:
            self.type(key, BY_KEY[key].text(BY_KEY[key].default))

    def copy(self) -> Draft:
        """The same now, for a thread that checks it while somebody types on."""
        return Draft(self.preset, dict(self.typed), self.run)

    def check(self) -> Checked:
        """Everything that `convnn run` would say of it, and what it would cost."""
        resolved = resolve.resolve_with_data(self.base, self.typed)
        base = resolve.resolve(self.base).config
        config, dataset = resolved.config, resolved.dataset
        found = list(resolved.problems)
        wrong = {problem.key for problem in found}
        downloads = DATASETS[config.data.dataset].download is not None
        if dataset.problem is not None and not downloads and "data.dataset" not in wrong:
            found.append(dataset.problem)
        if (missing := hardware.missing(config.runtime.device)) and "runtime.device" not in wrong:
            found.append(missing)
        if config.output.dir and runs_run.is_run(Path(config.output.dir)):
            found.append(_taken(config.output.dir))
        costs = None
        if dataset.image_size and dataset.num_classes and not {p.key for p in found} & MAPS:
            costs = plan(config, dataset.image_size, dataset.num_classes)
        order = {option.key: at for at, option in enumerate(FIELDS)}
        found.sort(key=lambda problem: order.get(problem.key or "", -1))
        return Checked(config, base, tuple(found), inactive_options(config), resolved, costs)

    def command(self, checked: Checked) -> str:
        """The command that does the same."""
        if self.preset is None:
            return command(checked.config)
        name = self.preset.name
        known = store.listed().get(name, [])
        by_name = bool(known) and self.preset.path is not None and known[0].absolute() == self.preset.path.absolute()
        return command(checked.config, name if by_name else str(self.preset.path), checked.base)


MAPS = {
    "layer.K",
    "layer.shuffle_scale",
    "sampling.num_samples",
    "sampling.sample_padding",
    "data.resize",
}  # no map, no cost


def _words(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (None,)


def _is_allowed(preset: Preset | None, key: str) -> bool:
    """Whether a preset's value is allowed: typing over one that is not is a correction, even with the same word."""
    only = replace(preset, values={key: preset.values[key]}, problems=()) if preset else None
    return not any(problem.key == key and problem.file for problem in resolve.resolve(only).problems)


def _taken(directory: str) -> Problem:
    return Problem(
        f"{escaped(directory)} holds a run already",
        key="output.dir",
        value=directory,
        fix="give another directory, or none for a fresh one under ./runs",
        change={"output.dir": None},
    )


def filled(parsed: Parsed) -> Draft:
    """The draft that a pasted command asks for. Raises UserError with all that was not understood."""
    found = [Problem(f"not understood: {escaped(word)}{_guess(word)}") for word in parsed.unknown]
    typed = dict(parsed.typed)
    if typed.pop("output.test_only", "false") == "true":
        found.append(Problem(ONLY_TESTS))
    preset = None
    if parsed.preset is not None:
        try:
            preset = store.read(parsed.preset)
        except UserError as error:
            found += error.problems
    if found:
        raise UserError(found)
    draft = Draft(preset)
    for key, text in typed.items():
        draft.type(key, _spelled(BY_KEY[key], text))
    return draft


def _guess(word: str) -> str:
    """The flag that was meant, where a word is one."""
    flag = spelled(re.split(r"[=\s]", word, maxsplit=1)[0])
    return did_you_mean(flag, BY_FLAG) if flag.startswith("--") and flag not in BY_FLAG else ""


def _spelled(option: Option, text: str) -> str:
    """The word as the form spells it, where it is one: 1e-3 is 0.001."""
    try:
        value: Value = option.parse(text)
    except ValueError:
        return text
    return option.text(value)
