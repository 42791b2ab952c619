"""The draft of a run: a preset, a past run or the defaults, what was typed over it, and the check of the two."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from convnn import hardware
from convnn.config import toml
from convnn.config.active import inactive_options
from convnn.config.command_line import Parsed, changed_flags, command, spelled
from convnn.config.options import BY_FLAG, BY_KEY, OPTIONS, Option, Value, value_at
from convnn.config.recorded import SEED
from convnn.config.schema import RunConfig
from convnn.costs.plan import Plan, plan
from convnn.data.catalog import DatasetInfo, data_summary, dataset_info
from convnn.errors import Problem, UserError, did_you_mean
from convnn.presets import resolve, store
from convnn.presets.store import Preset
from convnn.runs.resume import resume_command
from convnn.runs.run import Run, not_free
from convnn.sweeps.axes import option_axis, parse_values
from convnn.sweeps.file import Sweep
from convnn.sweeps.plan import Cell, SweepPlan, plan_sweep

FIELDS = tuple(option for option in OPTIONS if option.key != "output.test_only")
TEST_ONLY_PROBLEM = "--test_only evaluates a checkpoint and prints the result: use `convnn run --test_only` in a shell"
UNPLANNABLE = frozenset(
    {"layer.K", "layer.shuffle_scale", "sampling.num_samples", "sampling.sample_padding", "data.resize"}
)
"""Options without a plan of the model while they have a problem: the sizes of its feature maps are unknown."""
LISTED_KINDS = ("int", "float", "choice", "bool")  # of options that a field takes several values of
MAX_CELLS = 300  # that the form plans while one types
FILE_FIX = "write a sweep file: convnn sweep check"
ONE_DIRECTORY = "one directory cannot hold several runs"
NO_COMMAND = "# ctrl+s saves this sweep as a file, which `convnn sweep run` trains; f6 needs none"
RUN_NAME = "run.name"
FIELD_ORDER = {option.key: index for index, option in enumerate(FIELDS)}
DATASET_OPTIONS = ("data.dataset", "data.path", "data.resize")
DatasetKey = tuple[str, str, int | None]  # dataset, path and resize of [data]


@dataclass(frozen=True)
class CheckedDraft:
    """What is known of a draft. It can be launched when there are no problems."""

    config: RunConfig
    base: RunConfig  # what the form started from
    problems: tuple[Problem, ...]  # in the order of the fields
    inactive: Mapping[str, str]  # options without effect, and why
    plan: Plan | None  # None while the image size is unknown, or an option does not fit the model
    data: str  # classes and images of the splits, what is missing, or what will be downloaded
    is_downloaded: bool  # the run begins with a download
    varied: Mapping[str, Sequence[Value]] = field(default_factory=dict)  # options with several values, by key
    sweep: SweepPlan | None = None  # of the several values; `config` is that of the first cell to train
    flops: tuple[int | None, ...] = ()  # of the training of each cell to train

    @property
    def cells(self) -> Sequence[Cell]:
        """The cells to train; none where every option has one value."""
        if self.sweep is None:
            return ()
        return self.sweep.to_train

    def problems_of(self, key: str) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.key == key)

    @property
    def unplannable(self) -> str:
        keys = [problem.key for problem in self.problems if problem.key in UNPLANNABLE]
        if keys:
            return f"{keys[0]} does not fit the model"
        return f"the size of the images is unknown: {self.data}"

    @property
    def general_problems(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.key not in BY_KEY)

    def fixable_problem(self, key: str | None) -> Problem | None:
        """The first problem whose fix can be applied, preferably of this option."""
        problems = [problem for problem in self.problems if problem.change]
        return min(problems, key=lambda problem: problem.key != key, default=None)


@dataclass
class Draft:
    """A configuration in the making."""

    preset: Preset | None = None
    typed: dict[str, str] = field(default_factory=dict)  # by key, only what differs from the initial texts
    run: Preset | None = None  # without a preset, the run that the form started from, as a preset
    forks: Run | None = None  # the run whose checkpoint the new one begins with
    _dataset_keys: dict[tuple[str | None, ...], DatasetKey] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_run(cls, config: RunConfig, name: str, forks: Run | None = None) -> Draft:
        """A draft of a run's settings, without its directory and its name; a fork of it has twice the epochs."""
        preset = store.parse(toml.dumps(config), name)
        values = {
            key: value
            for key, value in preset.values.items()
            if key != "run.name" and not key.startswith("output.")
        }  # fmt: skip
        draft = cls(run=replace(preset, values=values), forks=forks)
        if forks is not None:
            draft.type("training.num_epochs", str(2 * config.training.num_epochs))
        return draft

    @classmethod
    def from_command(cls, parsed: Parsed) -> Draft:
        """The draft that a pasted command describes. Raises UserError with everything that was not understood."""
        problems = [Problem(f"not understood: {word}{_suggestion(word)}") for word in parsed.unknown]
        typed = dict(parsed.typed)
        if typed.pop("output.test_only", "false") == "true":
            problems.append(Problem(TEST_ONLY_PROBLEM))
        preset = None
        if parsed.preset is not None:
            try:
                preset = store.read(parsed.preset)
            except UserError as error:
                problems += error.problems
        if problems:
            raise UserError(problems)
        draft = cls(preset)
        for key, text in typed.items():
            draft.type(key, _normalized(BY_KEY[key], text))
        return draft

    @property
    def base(self) -> Preset | None:
        """What the form started from; None for the defaults."""
        return self.preset or self.run

    def initial_text(self, option: Option) -> str:
        """The text of a field at the start: the value of the preset, allowed or not, else the default."""
        value = self._base_values.get(option.key, option.default)
        if isinstance(value, list):
            value = tuple(value)
        is_text_list = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        if value is None or is_text_list or isinstance(value, bool | int | float | str):
            return option.text(value)
        return str(value)

    def text(self, option: Option) -> str:
        return self.typed.get(option.key, self.initial_text(option))

    def type(self, key: str, text: str) -> None:
        if text == self.initial_text(BY_KEY[key]) and self._is_initial_value_allowed(key):
            self.typed.pop(key, None)
        else:
            self.typed[key] = text

    def reset(self, key: str) -> None:
        """Set a field to its initial text or, where it has that already, to its default."""
        if key in self.typed:
            del self.typed[key]
        else:
            self.type(key, BY_KEY[key].text(BY_KEY[key].default))

    def apply(self, problem: Problem) -> None:
        for key, value in (problem.change or {}).items():
            self.type(key, BY_KEY[key].text(value))

    @property
    def dataset_key(self) -> DatasetKey:
        """What the data set is known by."""
        texts = tuple(self.typed.get(key) for key in DATASET_OPTIONS)
        if texts not in self._dataset_keys:  # every key press asks for it
            typed = {key: text for key, text in zip(DATASET_OPTIONS, texts, strict=True) if text is not None}
            data = resolve.resolve(self.base, typed).config.data
            self._dataset_keys[texts] = data.dataset, data.path, data.resize
        return self._dataset_keys[texts]

    def inspect_dataset(self) -> DatasetInfo:
        """Inspect the data set on disk; a large one takes a while."""
        return dataset_info(*self.dataset_key)

    def check(self, dataset: DatasetInfo | None = None) -> CheckedDraft:
        """Find every problem that `convnn run` would report, and plan the model.

        Nothing is read of the data set: `dataset` is what is known of it, by default what its name tells. Of an option
        with several values the first one is checked; `with_plan` plans the others.
        """
        varied, problems = self._lists()
        texts = {key: text for key, text in self.typed.items() if key not in {problem.key for problem in problems}}
        texts |= {key: BY_KEY[key].text(values[0]) for key, values in varied.items()}
        checked = self._check(texts, dataset)
        return replace(checked, varied=varied, problems=_in_order([*checked.problems, *problems]))

    def with_plan(self, checked: CheckedDraft, dataset: DatasetInfo | None = None) -> CheckedDraft:
        """Return a checked draft with several values, planned as a sweep; its problems are those of all cells."""
        varied = checked.varied
        count = prod(len(values) for values in varied.values())
        if count > MAX_CELLS:
            problem = Problem(f"{count:,} runs: the form takes at most {MAX_CELLS}", key=list(varied)[-1], fix=FILE_FIX)
            return replace(checked, problems=(*checked.problems, problem))
        try:
            plan = plan_sweep(self.sweep(), self.flags)
        except UserError as error:
            known = {problem.key for problem in checked.problems}
            new = [problem for problem in error.problems if problem.key not in known]
            return replace(checked, problems=_in_order([*checked.problems, *new]))
        except ValueError:  # a value of the preset that is not allowed, which is among the problems
            return checked
        if not plan.to_train:
            return replace(checked, sweep=plan, problems=checked.problems or plan.cells[0].problems)
        first = plan.to_train[0].config
        texts = {**self.typed, **{key: BY_KEY[key].text(value_at(first, key)) for key in varied}}
        flops = tuple(cell.training_flops for cell in plan.to_train)
        planned = replace(self._check(texts, dataset), varied=varied, sweep=plan, flops=flops)
        if first.output.dir is None:
            return planned
        problem = Problem(ONE_DIRECTORY, key="output.dir", fix="leave it empty", change={"output.dir": None})
        return replace(planned, problems=_in_order([*planned.problems, problem]))

    def sweep(self) -> Sweep:
        """Return the sweep that `flags` vary: its base, under the name that the run would have."""
        config = self._base_config
        name = f"{config.model.name}-{config.layer.type}"
        if self.preset:
            name = self.preset.name
        return Sweep(self.typed.get(RUN_NAME) or name, base=self.base)

    @property
    def flags(self) -> dict[str, str | bool]:
        """What was typed, as the flags of a sweep; the name of the run is that of the sweep."""
        return {key: text for key, text in self.typed.items() if key != RUN_NAME}

    def _lists(self) -> tuple[dict[str, list[Value]], list[Problem]]:
        """Return the values of each option that was typed several, and what is wrong with such lists."""
        varied: dict[str, list[Value]] = {}
        problems: list[Problem] = []
        for key, text in self.typed.items():
            option = BY_KEY[key]
            if option.kind in LISTED_KINDS and ("," in text or ".." in text):
                try:
                    varied[key] = parse_values(option, text)
                    if key != SEED:
                        option_axis(option, varied[key])
                except UserError as error:
                    varied.pop(key, None)
                    problems += [replace(problem, key=key) for problem in error.problems]
        return varied, problems

    def _check(self, texts: Mapping[str, str], dataset: DatasetInfo | None) -> CheckedDraft:
        resolved = resolve.resolve(self.base, texts, dataset=dataset)
        config, dataset = resolved.config, resolved.dataset
        problems = list(resolved.problems)
        keys = {problem.key for problem in problems}
        if dataset.problem is not None and "data.dataset" not in keys:
            problems.append(dataset.problem)
        if "runtime.device" not in keys and (problem := hardware.missing(config.runtime.device)):
            problems.append(problem)
        if config.output.dir and (problem := not_free(Path(config.output.dir))):
            fix = "choose another directory, or none for a new one under ./runs"
            problems.append(replace(problem, value=config.output.dir, fix=fix, change={"output.dir": None}))
        model_plan = None
        if dataset.image_size and dataset.num_classes and UNPLANNABLE.isdisjoint(problem.key for problem in problems):
            model_plan = plan(config, dataset.image_size, dataset.num_classes)
        data = config.data
        summary = data_summary(data.dataset, data.path, dataset, limit=data.limit, val_share=data.val_share)
        return CheckedDraft(
            config,
            self._base_config,
            _in_order(problems),
            inactive_options(config),
            model_plan,
            summary,
            is_downloaded=dataset.download is not None,
        )

    def command(self, checked: CheckedDraft) -> str:
        """The command that does the same; values that are not allowed stand in it as they were typed."""
        if checked.varied:
            return self._sweep_command(checked)
        if self.forks is not None:
            words = f"{resume_command(self.forks)} --fork {shlex.join(changed_flags(checked.config, checked.base))}"
        elif self.preset is None:
            words = command(checked.config)
        else:
            words = command(checked.config, self._preset_word, checked.base)
        for key, text in self.typed.items():
            option = BY_KEY[key]
            if not _is_value(option, text, value_at(checked.config, key)):
                words += f" {option.flag} {shlex.quote(text)}"
        return words

    def _sweep_command(self, checked: CheckedDraft) -> str:
        if self.preset is None:
            return NO_COMMAND
        typed = {key: text for key, text in self.typed.items() if key not in checked.varied}
        config = resolve.resolve(self.base, typed).config
        words = ["convnn", "sweep", "run", self._preset_word, *changed_flags(config, checked.base)]
        return shlex.join([*words, *(part for key in checked.varied for part in (BY_KEY[key].flag, self.typed[key]))])

    @cached_property
    def _base_config(self) -> RunConfig:
        return resolve.resolve(self.base).config

    @cached_property
    def _preset_word(self) -> str:
        """The name of the preset, or its path where the name stands for another file."""
        assert self.preset is not None
        paths, path = store.listed().get(self.preset.name, []), self.preset.path
        is_found_by_name = bool(paths) and path is not None and paths[0].absolute() == path.absolute()
        if is_found_by_name:
            return self.preset.name
        return str(path)

    @property
    def _base_values(self) -> Mapping[str, Any]:
        if self.base is None:
            return {}
        return self.base.values

    def _is_initial_value_allowed(self, key: str) -> bool:
        """Whether the preset's value is allowed; typing over one that is not is a correction, even with its text."""
        if self.base is None or key not in self._base_values:
            return True
        preset = replace(self.base, values={key: self._base_values[key]}, problems=())
        return not any(problem.key == key and problem.file for problem in resolve.resolve(preset).problems)


def _in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems in the order of the fields, those of no field first."""
    return tuple(sorted(problems, key=lambda problem: FIELD_ORDER.get(problem.key or "", -1)))


def _is_value(option: Option, text: str, value: Any) -> bool:
    try:
        return bool(option.parse(text) == value)
    except ValueError:
        return False


def _suggestion(word: str) -> str:
    """The flag that an unknown word probably means."""
    flag = spelled(re.split(r"[=\s]", word, maxsplit=1)[0])
    if flag.startswith("--") and flag not in BY_FLAG:
        return did_you_mean(flag, BY_FLAG)
    return ""


def _normalized(option: Option, text: str) -> str:
    """The text as the form writes it, where it is a value: 1e-3 becomes 0.001."""
    try:
        return option.text(option.parse(text))
    except ValueError:
        return text
