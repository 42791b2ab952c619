"""The plan of a sweep: every cell with its configuration, whether it can be trained, and which are the same model.

A cell is a configuration with a seed. Precedence: defaults < base < `set` < flags < axes and `derive`. Nothing is read
from a disk, and torch is not loaded.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from random import Random
from types import MappingProxyType
from typing import Any

from convnn.config.active import active_options, inactive_options
from convnn.config.fixes import in_sweep
from convnn.config.options import BY_KEY, OPTIONS, Value, value_at
from convnn.config.recorded import SEED, value_text
from convnn.config.schema import RunConfig
from convnn.costs.plan import plan as plan_costs
from convnn.data.catalog import DATASETS, published_info
from convnn.errors import Problem, UserError
from convnn.presets import rules
from convnn.presets.resolve import build_config
from convnn.runs.summary import Summary
from convnn.sweeps.axes import MAX_POINTS, Axis, Point, find_option, option_axis, parse_values, sweepable_option
from convnn.sweeps.expression import Expression, ExpressionError
from convnn.sweeps.file import PLACEHOLDER, Block, Derivation, Sweep
from convnn.sweeps.search.settings import search_problems
from convnn.sweeps.search.space import random_point

MAX_CELLS = MAX_POINTS
EXAMPLES = 50  # cells of a search that are planned before it starts
DATA_PATH = "data.path"
WHERE = ("runtime.device", "runtime.threads", "data.workers")  # where and how fast a cell is trained, not what
_UNSAFE = re.compile(r"[^A-Za-z0-9._+=-]+")
NAME_LENGTH = 80


@dataclass(frozen=True)
class Cell:
    """A cell of a sweep: what it is called, what it varies, its configuration, and why it is not trained."""

    index: int  # from 1
    block: str
    name: str  # of its runs
    seed: int
    labels: Mapping[str, str]  # its value of each axis, as text
    config: RunConfig
    problems: tuple[Problem, ...] = ()  # of a cell that cannot be trained
    varied_keys: tuple[str, ...] = ()  # options that axes, blocks and derivations set
    same_as: int | None = None  # the index of an earlier cell that is the same model, trained once for both

    @property
    def is_infeasible(self) -> bool:
        return bool(self.problems)

    @property
    def reason(self) -> str:
        """Why it cannot be trained; empty where it can."""
        return next((problem.message for problem in self.problems), "")

    @cached_property
    def key(self) -> tuple[tuple[str, str], ...]:
        """Equal for cells that are one model with one seed: the options that decide the metrics, and their values."""
        return model_key(self.config)

    @property
    def varied(self) -> dict[str, Any]:
        """The options that the axes and derivations set, by key, with their values in this cell."""
        return {key: value_at(self.config, key) for key in self.varied_keys}

    @cached_property
    def training_flops(self) -> int | None:
        """FLOPs of the whole training, forward and backward; None where the size of the data is not published."""
        flops = epoch_flops(self.config)
        if flops is None:
            return None
        return flops * self.config.training.num_epochs


@dataclass(frozen=True)
class SweepPlan:
    """The cells of a sweep in their order, without those that are skipped; of a search some that it might draw."""

    sweep: Sweep
    cells: Sequence[Cell]
    skipped: int

    @property
    def infeasible(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.is_infeasible]

    @property
    def same(self) -> list[Cell]:
        """The cells that are the same model as an earlier one."""
        return [cell for cell in self.cells if cell.same_as is not None]

    @property
    def to_train(self) -> list[Cell]:
        return [cell for cell in self.cells if not cell.is_infeasible and cell.same_as is None]

    @property
    def repeated_names(self) -> list[str]:
        """Names that cells with one seed share, so that the names do not tell them apart."""
        counts = Counter((cell.name, cell.seed) for cell in self.cells)
        return list(dict.fromkeys(name for (name, _), count in counts.items() if count > 1))


def epoch_flops(config: RunConfig) -> int | None:
    """Return the FLOPs of an epoch, forward and backward; None where the size of the data is not published."""
    data = config.data
    info = published_info(data.dataset, data.resize)
    if info.image_size is None or info.num_classes is None or info.train_images is None:
        return None
    images = info.train_images
    if data.limit is not None:
        images = min(images, data.limit)
    costs = plan_costs(config, info.image_size, info.num_classes)
    return round(images * (1 - data.val_share)) * costs.training_flops


def plan_sweep(sweep: Sweep, typed: Mapping[str, str | bool] = MappingProxyType({})) -> SweepPlan:
    """Return the plan of a sweep.

    Args:
        sweep: what was read from a file
        typed: flags by option key, as text: "9" sets an option of all cells, "1,4,9" and "1..12" vary it; for an axis
            they replace its values

    Raises:
        UserError: a flag cannot be used so, or there are more than MAX_CELLS cells
    """
    sweep = _with_flags(sweep, typed)
    if sweep.search is not None:
        return _plan_search(sweep)
    if intervals := [axis for axis in sweep.all_axes if axis.interval is not None]:
        fix = "write [search], or { from, to, steps = 5 }"
        file = None if sweep.path is None else str(sweep.path)
        raise UserError(
            Problem(f"{axis.name}: min and max are for a search", key=axis.name, file=file, fix=fix)
            for axis in intervals
        )
    count = sum(prod(len(axis.points) for axis in (*sweep.axes, *block.axes)) for block in sweep.parts)
    count *= len(sweep.seeds or (0,))
    if count > MAX_CELLS:
        message = f"{sweep.name} has {count:,} cells: at most {MAX_CELLS:,} are planned"
        raise UserError(message, key="axes", value=count, fix="give fewer values, or divide it into two sweeps")
    planner = CellPlanner(sweep)
    cells = list(planner.cells())
    return SweepPlan(sweep, cells, planner.skipped)


def _plan_search(sweep: Sweep) -> SweepPlan:
    """Return random cells of a search, as many as it has trials or EXAMPLES: what share can be trained, and the cost.

    Raises UserError for what a search cannot do, and where nothing that was drawn can be trained.
    """
    planner = CellPlanner(sweep)
    assert sweep.search is not None
    if problems := list(search_problems(sweep, planner.base)):
        if sweep.path is not None:
            problems = [in_sweep(problem, str(sweep.path)) for problem in problems]
        raise UserError(problems)
    random = Random(sweep.search.seed)
    count = min(sweep.search.trials, EXAMPLES)
    cells: list[Cell] = []
    while sum(not cell.is_infeasible for cell in cells) < count and len(cells) < EXAMPLES + count:
        cells.append(planner.trial(len(cells) + 1, [random_point(axis, random) for axis in sweep.axes]))
    if all(cell.is_infeasible for cell in cells):
        message = f"none of {len(cells)} random combinations can be trained: {cells[0].problems[0].message}"
        raise UserError(replace(cells[0].problems[0], message=message))
    return SweepPlan(sweep, cells, 0)


def model_key(config: RunConfig) -> tuple[tuple[str, str], ...]:
    """Return what makes a configuration with its seed the same model as another one: its options with an effect."""
    return _model_key({key: BY_KEY[key].text(value) for key, value in active_options(config).items()})


def recorded_model_key(run: Summary) -> tuple[tuple[str, str], ...]:
    """Return the same of a run that recorded its options."""
    return _model_key({key: value_text(key, value) for key, value in run.config.active.items()})


def _model_key(texts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the options that decide a model: where a data set lies that is the same everywhere is none."""
    dataset = DATASETS.get(texts.get("data.dataset", ""))
    is_same_everywhere = dataset is not None and dataset.inspect is None
    items = []
    for key, text in texts.items():
        if key == DATA_PATH:
            if is_same_everywhere:
                continue
            text = os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111
        if key not in WHERE:
            items.append((key, text))
    return tuple(items)


def trained_cells(plan: SweepPlan, runs: Iterable[Summary]) -> dict[int, Summary]:
    """Return the runs that trained cells to their end already, by the number of the cell."""
    done = done_runs(runs)
    return {cell.index: done[cell.key] for cell in plan.to_train if cell.key in done}


def done_runs(runs: Iterable[Summary]) -> dict[tuple[tuple[str, str], ...], Summary]:
    """Return the runs that were trained to their end by the key of their model; of several the first."""
    done: dict[tuple[tuple[str, str], ...], Summary] = {}
    for run in runs:
        if run.status == "done" and run.not_launchable_reason is None:
            done.setdefault(recorded_model_key(run), run)
    return done


def _with_flags(sweep: Sweep, typed: Mapping[str, str | bool]) -> Sweep:
    """Return a sweep with flags over its values, and over its axes."""
    problems: list[Problem] = []
    derived = {key for derivation in sweep.derivations for key in derivation.values}
    for key, text in typed.items():
        try:
            option = sweepable_option(key)
            values = parse_values(option, text)
            if key in derived:
                message = f"{option.flag} cannot be given: {sweep.name} derives {key}"
                raise UserError(message, key=key, value=text, fix="change the [[derive]] of the sweep")
            if key == SEED:
                sweep = replace(sweep, seeds=[value for value in values if isinstance(value, int)])
            else:
                sweep = _with_values(sweep, key, values)
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return sweep


def _with_values(sweep: Sweep, key: str, values: Sequence[Value]) -> Sweep:
    owner = next((axis for axis in sweep.all_axes if key in axis.option_keys), None)
    if owner is not None and find_option(owner.name) is None:
        message = f"{BY_KEY[key].flag} cannot be given: the axis {owner.name} sets {key}"
        raise UserError(message, key=key, fix=f"change the axis {owner.name} of the sweep")
    new = option_axis(BY_KEY[key], values)
    if owner is not None:
        blocks = [replace(block, axes=_replaced(block.axes, key, new)) for block in sweep.blocks]
        return replace(sweep, axes=_replaced(sweep.axes, key, new), blocks=blocks)
    blocks = [replace(block, values=_without(block.values, key)) for block in sweep.blocks]
    if len(values) == 1:
        return replace(sweep, values={**sweep.values, key: values[0]}, blocks=blocks)
    return replace(sweep, values=_without(sweep.values, key), axes=[*sweep.axes, new], blocks=blocks)


def _replaced(axes: Sequence[Axis], key: str, new: Axis) -> list[Axis]:
    return [new if key in axis.option_keys else axis for axis in axes]


def _without(values: Mapping[str, Value], key: str) -> dict[str, Value]:
    return {name: value for name, value in values.items() if name != key}


class _RecordedView:
    """The options of a cell in the making, as a filter asks a run for them."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.values = values

    def value(self, key: str) -> Value:
        return self.values[key]

    @property
    def inactive(self) -> Mapping[str, str]:
        return inactive_options(build_config(self.values))


@dataclass(frozen=True)
class _CellView:
    """A cell in the making: what `when` and arithmetic ask of it."""

    config: _RecordedView
    variables: Mapping[str, int | float | str]


class CellPlanner:
    """Expands a sweep into its cells, or the points that a search draws into one."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        base = {option.key: option.default for option in OPTIONS}
        if sweep.base is not None:
            base |= sweep.base.values
        self.base = {key: BY_KEY[key].validate(value) for key, value in base.items()}
        self.seeds = sweep.seeds or [int(self.base[SEED])]  # type: ignore[arg-type]
        self.skipped = 0
        self._first_cells: dict[tuple[tuple[str, str], ...], int] = {}  # by model: the index of the first cell

    def cells(self) -> Iterator[Cell]:
        index, seeds = 0, self.seeds
        for block in self.sweep.parts:
            axes = [*self.sweep.axes, *block.axes]
            for points in product(*(axis.points for axis in axes)):
                cell = self._cell(block, axes, points, seeds[0])
                if cell is None:
                    self.skipped += len(seeds)
                    continue
                for seed in seeds:
                    index += 1
                    yield self._numbered(cell, index, seed)

    def trial(self, number: int, points: Sequence[Point], seed: int | None = None) -> Cell:
        """Return the cell of a trial, which is infeasible where a `skip` leaves it out."""
        (block,), axes = self.sweep.parts, self.sweep.axes
        if seed is None:
            seed = self.seeds[0]
        cell = self._cell(block, axes, points, seed, number)
        assert cell is not None
        return self._numbered(cell, number, cell.seed)

    def _cell(
        self, block: Block, axes: Sequence[Axis], points: Sequence[Point], seed: int, trial: int | None = None
    ) -> Cell | None:
        """Return a cell without its number; None where it is skipped."""
        values = {**self.base, **self.sweep.values, **block.values, SEED: seed}
        variables: dict[str, int | float | str] = {}
        for point in points:
            values |= point.options
            variables |= point.variables
        problems = [
            problem for derivation in self.sweep.derivations for problem in self._derive(derivation, values, variables)
        ]
        view: Any = _CellView(_RecordedView(values), variables)
        skip = next((skip for skip in self.sweep.skips if skip.condition.matches(view)), None)
        if skip is not None and trial is None:
            return None
        config = build_config(values)
        labels = {axis.name: point.label for axis, point in zip(axes, points, strict=True)}
        name = self._name(config, labels, variables, trial)
        if skip is not None:
            problems = [Problem(f"left out: {skip.text}", key="skip")]
        if not problems:
            info = published_info(config.data.dataset, config.data.resize)
            problems = [*rules.problems(config, info.image_size), *rules.data_problems(config, info)]
        derived = [key for derivation in self.sweep.derivations for key in derivation.values]
        varied = dict.fromkeys([*(key for point in points for key in point.options), *block.values, *derived])
        return Cell(0, block.id, name, seed, labels, config, tuple(problems), tuple(varied))

    def _derive(
        self, derivation: Derivation, values: dict[str, Value], variables: Mapping[str, int | float | str]
    ) -> Iterator[Problem]:
        """Set the options that follow from others; yield a problem for each that has no allowed value."""
        view: Any = _CellView(_RecordedView(values), variables)
        if not derivation.when.condition.matches(view):
            return
        for key, value in derivation.values.items():
            if not isinstance(value, Expression):
                values[key] = value
                continue
            try:
                values[key] = _evaluate(key, value, values, variables)
            except UserError as error:
                yield from error.problems

    def _name(
        self, config: RunConfig, labels: Mapping[str, str], variables: Mapping[str, Any], trial: int | None
    ) -> str:
        template = self.sweep.template
        if template is None and trial is not None:
            template = f"{self.sweep.name}-{trial}"
        elif template is None:
            template = "-".join([self.sweep.name, *(f"{name}{{{name}}}" for name in labels)])

        def text(match: re.Match[str]) -> str:
            name = match[1]
            if name in labels:
                return labels[name]
            if (option := find_option(name)) is not None:
                return option.text(value_at(config, option.key))
            return str(variables.get(name, ""))

        return _UNSAFE.sub("-", PLACEHOLDER.sub(text, template)).lstrip("-._+=")[:NAME_LENGTH] or "cell"

    def _numbered(self, cell: Cell, index: int, seed: int) -> Cell:
        config = cell.config.with_values({SEED: seed, "run.name": cell.name})
        numbered = replace(cell, index=index, seed=seed, config=config)
        if numbered.is_infeasible or self.sweep.trains_same:
            return numbered
        first = self._first_cells.setdefault(numbered.key, index)
        if first == index:
            return numbered
        return replace(numbered, same_as=first)


def _evaluate(
    key: str, expression: Expression, values: Mapping[str, Value], variables: Mapping[str, int | float | str]
) -> Value:
    """Return the value that arithmetic gives an option of a cell. Raises UserError where there is none."""
    numbers: dict[str, int | float] = {}
    for name in expression.names:
        option = find_option(name)
        number: Value = variables.get(name)
        if number is None and option is not None:
            number = values[option.key]
        if isinstance(number, bool) or not isinstance(number, int | float):
            message = f"{key}: {name} has no number in this cell"
            raise UserError(message, key=key, value=expression.text, fix="restrict it with `when`")
        numbers[name] = number
    option = BY_KEY[key]
    try:
        result = expression.value(numbers)
        if option.kind == "int" and isinstance(result, float) and result.is_integer():
            result = int(result)
        return option.validate(result)
    except ExpressionError as error:
        message = f"{key} {expression.text}: {error}"
        raise UserError(message, key=key, value=expression.text, fix="restrict it with `when`") from None
    except ValueError:
        raise UserError(option.problem(result)) from None
