"""The results of a sweep: its grid with mean ± sd in each cell, or why there is none, the best cell, and a verdict.

This file computes and words; the command line and the app lay out what it returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from convnn.analysis.fields import Field, chosen_on_test_note, get_field, metric_names, number_field
from convnn.analysis.repeats import RunGroup, copies_note, drawn_note, mean_text, noise_floor
from convnn.analysis.run_table import merge_repeats
from convnn.analysis.statistics import MeanEstimate, proportion_interval
from convnn.analysis.verdict import GroupComparison, compare_groups
from convnn.errors import UserError, did_you_mean
from convnn.json_values import json_value
from convnn.metrics import best_of, format_value, lower_is_better, metric_info, split_of
from convnn.runs.summary import Summary
from convnn.sweeps.plan import DATA_PATH, WHERE
from convnn.sweeps.search.importance import METHOD, Importance, axis_importance
from convnn.sweeps.search.trials import trials_of
from convnn.sweeps.states import INFEASIBLE, ORDER, SAME, CellState, SweepState
from convnn.tables import Column, Table
from convnn.text import joined, plural

BLOCK = "block"  # the name of the rows of several blocks
TRIAL = "trial"  # the name of the rows of a search
MAX_COLUMNS = 8  # values of the axis along the top
MAX_NAMES = 5  # cells that a sentence names
EMPTY = "·"


@dataclass(frozen=True)
class GridCell:
    """A place of the grid: the cells there, which differ in the seed alone, and the value of those that are done."""

    row: tuple[str, ...]
    col: str
    states: Sequence[CellState]
    field: Field
    chosen: CellState | None = None  # of a search: the one by whose value the others were made

    @property
    def name(self) -> str:
        return self.states[0].cell.name

    @cached_property
    def group(self) -> RunGroup | None:
        """The runs that were trained to the end; None where there are none, or where they are on data that differ."""
        runs = {state.run.path: state.run for state in self.measured if state.run is not None and state.is_done}
        group, differences = merge_repeats(list(runs.values()), self.field)
        return group if runs and set(differences) <= {DATA_PATH, *WHERE} else None

    @property
    def measured(self) -> Sequence[CellState]:
        """The cells that the value is of.

        Repeats of a trial measure it without its own run, which was chosen by its value and so is likely a lucky one.
        """
        if self.chosen is not None and not self.is_repeated:
            return [self.chosen]
        return [state for state in self.states if state is not self.chosen]

    @property
    def is_repeated(self) -> bool:
        """Whether repeats of a trial measure its value."""
        return self.chosen is not None and any(state.is_done for state in self.states if state is not self.chosen)

    @property
    def is_same(self) -> bool:
        """Whether all of it is the model of other cells."""
        return all(state.state == SAME for state in self.states)

    @property
    def missing(self) -> int:
        """The number of its cells that are not done."""
        return sum(not state.is_done for state in self.measured)

    @property
    def estimate(self) -> MeanEstimate | None:
        """The mean of the field over the runs that are done; None without any."""
        if self.group is None:
            return None
        return self.group.estimate

    @property
    def value(self) -> float | None:
        if self.estimate is None:
            return None
        return self.estimate.mean

    @property
    def text(self) -> str:
        """The value, "71.20 ± 0.31 (3)", or why there is none: "queued", "34 %", "infeasible", "= cell 3"."""
        estimate = self.estimate
        if estimate is None:
            return INFEASIBLE if self.reason.startswith(f"{INFEASIBLE}: ") else self.reason
        count = ""
        if self.missing:
            count = f"{estimate.n} of {len(self.measured)}"
        return mean_text(estimate, self.field.format_as, count)

    @property
    def reason(self) -> str:
        """Why there is no value: what the cell that is furthest says."""
        if not self.missing:
            return "runs on data that differ" if self.group is None else f"no {self.field.key}"
        unfinished = [state for state in self.measured if not state.is_done]
        first = min(unfinished, key=lambda state: ORDER.index(state.state))
        return first.text

    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"cells": [state.cell.index for state in self.states]}
        if (estimate := self.estimate) is None:
            return document | {"n": 0, "mean": None, "sd": None, "reason": self.reason}
        mean, sd = json_value(estimate.mean), json_value(estimate.sd)
        return document | {"n": estimate.n, "mean": mean, "sd": sd, "reason": None}


@dataclass(frozen=True)
class Results:
    """The grid of a sweep, and every cell that has a value compared with one of them."""

    state: SweepState
    field: Field
    row_axes: Sequence[str]
    col_axis: str | None  # None: one column
    rows: Sequence[tuple[str, ...]]
    cols: Sequence[str]
    grid: Sequence[Sequence[GridCell | None]]
    reference: GridCell | None  # the baseline, or else the best cell
    best: GridCell | None
    comparisons: Sequence[tuple[GridCell, GroupComparison]]  # of the others with the reference

    @property
    def cells(self) -> list[GridCell]:
        return [cell for row in self.grid for cell in row if cell is not None]

    def is_best(self, cell: GridCell | None) -> bool:
        """Return whether no cell is better than this one: several may have the value of the best."""
        if cell is None or self.best is None or cell.is_same:
            return False
        return cell.value == self.best.value and cell.is_repeated == self.best.is_repeated

    def col_title(self, col: str) -> str:
        """Return a value of the axis across the top with the name of that axis; without one it is the figure."""
        if self.col_axis is None:
            return col
        return f"{self.col_axis} {col}".strip()

    def table(self) -> Table:
        title = self.field.key
        columns = [Column(axis) for axis in self.row_axes]
        columns += [Column(self.col_title(col), right=True) for col in self.cols]
        rows = [
            [*row, *(EMPTY if cell is None else cell.text for cell in cells)]
            for row, cells in zip(self.rows, self.grid, strict=True)
        ]
        return Table(columns, rows, title, key_columns=len(self.row_axes), notes=self.notes())

    def notes(self) -> list[str]:
        """Return what has to be known to read the grid."""
        groups = [cell.group for cell in self.cells if cell.group is not None]
        notes = [*copies_note(groups), *drawn_note(groups, self.field)]
        return notes + chosen_on_test_note(self.field, [run for group in groups for run in group.runs])

    def sentences(self) -> list[str]:
        """Return the best cell, what is not distinguishable from the reference, and what is left out."""
        lines = []
        if self.best is not None:
            lines.append(f"best: {self.best.name}  {self.best.text}{self._image_interval(self.best)}")
            if ties := [cell.name for cell in self.cells if cell is not self.best and self.is_best(cell)]:
                lines[-1] += f"; the same value: {', '.join(ties[:MAX_NAMES])}"
        if self.importance.shares:
            lines.append(f"{self.importance_text} ({self.importance.source})")
        elif self.importance.source:
            lines.append(self.importance.source)
        if self.reference is not None and self.comparisons:
            lines += self._comparison_sentences(self.reference)
        lines += self._infeasible()
        if left_out := self._left_out():
            lines.append(left_out)
        return lines

    def _infeasible(self) -> list[str]:
        """Return why cells cannot be trained, a sentence per reason."""
        names: dict[str, list[str]] = {}
        for cell in self.cells:
            if cell.text == INFEASIBLE:
                names.setdefault(cell.reason.removeprefix(f"{INFEASIBLE}: "), []).append(cell.name)
        lines = [f"cannot be trained: {joined(cells, MAX_NAMES)} ({reason})" for reason, cells in names.items()]
        if (more := len(lines) - MAX_NAMES) > 0:
            lines[MAX_NAMES:] = [f"cannot be trained: cells with {plural(more, 'other reason')}"]
        return lines

    @cached_property
    def importance(self) -> Importance:
        """How much each axis of a search matters; this loads Optuna, so a view that does not show it leaves it out."""
        state = self.state
        if state.search is None:
            return Importance({}, "")
        return axis_importance(trials_of(state.cells), state.search, state.folder.sweep().axes)

    @property
    def importance_text(self) -> str:
        """How much each axis of a search matters: "importance: lr 71 %, K 29 %"; empty where it is unknown."""
        shares = [f"{name} {100 * share:.0f} %" for name, share in self.importance.shares.items()]
        if not shares:
            return ""
        return f"importance: {', '.join(shares)}"

    def _image_interval(self, cell: GridCell) -> str:
        """Return how far the images of the split leave the value of a single run of a search uncertain."""
        estimate = cell.estimate
        metric = self.field.metric or ""
        if self.state.search is None or cell.group is None or estimate is None or estimate.n > 1:
            return ""
        images = cell.group.runs[0].data.images.get(split_of(metric) or "")
        if not images or metric_info(metric).unit != "%":
            return ""
        low, high = proportion_interval(estimate.mean / 100, images)
        bounds = f"{format_value(100 * low, metric)} to {format_value(100 * high, metric)}"
        return f" of {plural(images, 'image')}: 95 % interval {bounds} by the images alone"

    def _comparison_sentences(self, reference: GridCell) -> Iterable[str]:
        tested = [(cell, comparison) for cell, comparison in self.comparisons if comparison.difference is not None]
        if len(tested) == 1 or (tested and len(tested) <= MAX_NAMES):
            for cell, comparison in tested:
                yield f"{cell.name} - {reference.name}: {comparison.text}"
        elif tested:
            similar = [cell.name for cell, comparison in tested if not comparison.distinguishable]
            yield (
                f"not distinguishable from {reference.name}: {joined(similar, MAX_NAMES) or 'none'} "
                f"(of {plural(len(tested), 'cell')}, p-values Holm-adjusted)"
            )
        reasons = Counter(comparison.text for _, comparison in self.comparisons if comparison.difference is None)
        for reason, count in reasons.items():
            yield f"{plural(count, 'cell')} {reason}"

    def _left_out(self) -> str:
        counts = Counter(state.state for state in self.state.trainable if not state.is_done)
        if not counts:
            return ""
        words = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
        unfinished = plural(sum(counts.values()), "run that is", "runs that are")
        return f"left out: {unfinished} not done ({words})"

    def json(self) -> dict[str, Any]:
        """Return the grid and the comparisons of `convnn sweep show --json`."""
        return {
            "figure": self.field.key,
            "rows": [dict(zip(self.row_axes, row, strict=True)) for row in self.rows],
            "cols": [{} if self.col_axis is None else {self.col_axis: col} for col in self.cols],
            "grid": [[cell and cell.json() for cell in row] for row in self.grid],
            **self._search_json(),
            "best": self.best and self.best.name,
            "reference": self.reference and self.reference.name,
            "comparisons": [{"name": cell.name, **comparison.json()} for cell, comparison in self.comparisons],
        }

    def _search_json(self) -> dict[str, Any]:
        search = self.state.search
        if search is None:
            return {}
        shares = dict(self.importance.shares)
        method = METHOD if shares else None
        return {"search": {**search.json(), "importance": {"method": method, "shares": shares}}}


def results(
    state: SweepState,
    runs: Sequence[Summary] = (),
    *,
    key: str = "best",
    baseline: str | None = None,
    effect_size: float = 1.0,
) -> Results:
    """Return the results of a sweep.

    Args:
        state: the states of its cells
        runs: every run there is; its repeats give the noise floor that single runs are compared with
        key: the field in the cells, such as "best" or "best:test_loss"
        baseline: name or number of the cell that the others are compared with, in place of the best
        effect_size: the difference that the number of runs needed is computed for

    The value of a trial of a search is by default the best of its metric over the epochs.

    Raises:
        UserError: where `key` is no number, or there is no such cell
    """
    cell_runs = [cell.run for cell in state.cells if cell.run is not None]
    field = number_field(key, metric_names(cell_runs), "figure")
    if state.search is not None:
        if key == "best":
            field = get_field(f"best:{state.search.metric}")
        return _search_results(state, field, runs, effect_size)
    row_axes, col_axis, places = _places(state.cells)
    cells = {place: GridCell(*place, states, field) for place, states in places.items()}
    rows, values = _ordered([row for row, _ in cells]), [col for (col,) in _ordered([(col,) for _, col in cells])]
    grid = [[cells.get((row, value)) for value in values] for row in rows]
    cols = [key] if col_axis is None else values
    valued = [cell for cell in cells.values() if cell.value is not None and not cell.is_same]
    best = best_of(field.format_as)(valued, key=lambda cell: cell.value, default=None)
    reference = best if baseline is None else _cell_called(baseline, list(cells.values()))
    comparisons = _comparisons(reference, valued, runs or cell_runs, effect_size)
    return Results(state, field, row_axes, col_axis, rows, cols, grid, reference, best, comparisons)


def _search_results(state: SweepState, field: Field, runs: Sequence[Summary], effect_size: float) -> Results:
    """Return a row for each trial of a search, the best first; those with repeats come before all others."""
    sign = 1 if lower_is_better(field.format_as) else -1
    axes = list(dict.fromkeys(axis for cell in state.cells for axis in cell.cell.labels))
    cells = []
    for trial in trials_of(state.cells):
        labels = [trial.state.cell.labels.get(axis, "") for axis in axes]
        row = (str(trial.number + 1), *labels)
        cells.append(GridCell(row, "", [trial.state, *trial.repeats], field, trial.state))

    def rank(cell: GridCell) -> tuple[bool, bool, int, float]:
        if cell.value is None:
            return True, not cell.is_repeated, ORDER.index(cell.states[0].state), 0.0
        return False, not cell.is_repeated, 0, sign * cell.value

    cells.sort(key=rank)
    best = next((cell for cell in cells if cell.value is not None), None)
    repeated = [cell for cell in cells if cell.group is not None and len(cell.group.runs) > 1]
    known = runs or [cell.run for cell in state.cells if cell.run is not None]
    comparisons = []
    if best in repeated:
        comparisons = _comparisons(best, repeated, known, effect_size)
    return Results(
        state,
        field,
        [TRIAL, *axes],
        None,
        [cell.row for cell in cells],
        [field.key],
        [[cell] for cell in cells],
        best,
        best,
        comparisons,
    )


def _comparisons(
    reference: GridCell | None, cells: Sequence[GridCell], runs: Sequence[Summary], effect_size: float
) -> list[tuple[GridCell, GroupComparison]]:
    """Return every other cell with a value compared with the reference, the nearest to it first."""
    if reference is None or reference.group is None or reference.value is None:
        return []
    value = reference.value
    others = sorted((cell for cell in cells if cell is not reference), key=lambda cell: abs((cell.value or 0) - value))
    groups = [reference.group, *(cell.group for cell in others if cell.group is not None)]
    compared = [run for group in groups for run in group.runs]
    noise = noise_floor({run.path: run for run in [*runs, *compared]}.values(), compared, reference.field)
    return list(zip(others, compare_groups(groups, reference.field, effect_size, noise), strict=True))


def _cell_called(name: str, cells: Sequence[GridCell]) -> GridCell:
    for cell in cells:
        if name == cell.name or any(name == str(state.cell.index) for state in cell.states):
            return cell
    names = [cell.name for cell in cells]
    message = f"the sweep has no cell {name}{did_you_mean(name, names)}"
    raise UserError(message, key="baseline", value=name, fix="give the name or the number of a cell")


def _places(
    cells: Sequence[CellState],
) -> tuple[list[str], str | None, dict[tuple[tuple[str, ...], str], list[CellState]]]:
    """Return the axes down the side, the one along the top, and the cells by their values of them.

    The axis along the top is the one with the fewest values, of at least two.
    """
    axes = list(dict.fromkeys(axis for state in cells for axis in state.cell.labels))
    values = {axis: {state.cell.labels.get(axis, "") for state in cells} for axis in axes}
    fitting = [axis for axis in reversed(axes) if 1 < len(values[axis]) <= MAX_COLUMNS]
    col_axis = None
    if len(axes) > 1:
        col_axis = min(fitting, key=lambda axis: len(values[axis]), default=None)
    row_axes = [axis for axis in axes if axis != col_axis]
    has_blocks = len({state.cell.block for state in cells}) > 1
    places: dict[tuple[tuple[str, ...], str], list[CellState]] = {}
    for state in cells:
        labels = state.cell.labels
        row = tuple(labels.get(axis, "") for axis in row_axes)
        if has_blocks:
            row = (state.cell.block, *row)
        places.setdefault((row, labels.get(col_axis or "", "")), []).append(state)
    if has_blocks:
        row_axes = [BLOCK, *row_axes]
    return row_axes, col_axis, places


def _ordered(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return distinct rows by the order in which the values of each column appear, numbers by their size."""
    distinct = list(dict.fromkeys(rows))
    ranks: list[dict[str, float]] = []
    for values in zip(*distinct, strict=True):
        unique = list(dict.fromkeys(values))
        numbers = [_number(value) for value in unique]
        is_numeric = all(number is not None for number in numbers)
        order = [number or 0.0 for number in numbers] if is_numeric else range(len(unique))
        ranks.append(dict(zip(unique, order, strict=True)))
    return sorted(distinct, key=lambda row: [rank[value] for rank, value in zip(ranks, row, strict=True)])


def _number(text: str) -> float | None:
    try:
        return float(text) if text else float("-inf")
    except ValueError:
        return None
