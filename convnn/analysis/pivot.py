"""A pivot table of runs: a row and a column for each combination of options, the mean of a metric in each cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from convnn.analysis.fields import Field, check_number, chosen_on_test_note
from convnn.analysis.repeats import RunGroup, copies_note, differing_values, drawn_note, group_repeats, mean_text
from convnn.analysis.run_table import imported_note
from convnn.analysis.statistics import MeanEstimate
from convnn.analysis.training_data import data_conflict
from convnn.config.recorded import UNKNOWN
from convnn.errors import UserError
from convnn.json_values import json_value
from convnn.runs.summary import Summary
from convnn.tables import Column, Table
from convnn.text import plural

EMPTY_CELL = "·"
MAX_NAMES = 3  # runs that an error names
Values = tuple[Any, ...]  # of the fields of an axis
Cells = dict[tuple[Values, Values], list[RunGroup]]


@dataclass(frozen=True)
class PivotTable:
    """The values that each row and column stands for, and a cell for each pair; None where there is no run."""

    row_fields: Sequence[Field]
    col_fields: Sequence[Field]
    cell: Field
    rows: list[Values]
    cols: list[Values]
    cells: list[list[MeanEstimate | None]]
    notes: list[str]

    def json(self) -> dict[str, Any]:
        """Return the document of `convnn table --json`."""
        return {
            "cell": self.cell.key,
            "rows": [_named_values(self.row_fields, values) for values in self.rows],
            "cols": [_named_values(self.col_fields, values) for values in self.cols],
            "cells": [
                [cell and {"n": cell.n, "mean": json_value(cell.mean), "sd": cell.sd} for cell in row]
                for row in self.cells
            ],
        }

    def table(self) -> Table:
        """Return the table as text: the value of one run, mean ± sd (n) of several."""
        columns = [Column(field.key) for field in self.row_fields]
        columns += [Column("/".join(_texts(self.col_fields, values)), right=True) for values in self.cols]
        rows = [
            [*_texts(self.row_fields, values), *map(self._cell_text, row)]
            for values, row in zip(self.rows, self.cells, strict=True)
        ]
        return Table(columns, rows, notes=self.notes, key_columns=len(self.row_fields))

    def _cell_text(self, cell: MeanEstimate | None) -> str:
        if cell is None:
            return EMPTY_CELL
        return mean_text(cell, self.cell.format_as)


def _named_values(fields: Sequence[Field], values: Values) -> dict[str, Any]:
    return {field.key: json_value(value) for field, value in zip(fields, values, strict=True)}


def _texts(fields: Sequence[Field], values: Values) -> list[str]:
    return [field.show(value) for field, value in zip(fields, values, strict=True)]


def pivot(runs: Sequence[Summary], rows: Sequence[Field], cols: Sequence[Field], cell: Field) -> PivotTable:
    """Lay runs out by the values of the fields of rows and columns.

    Raises UserError where the runs of a cell differ in more than the seed: it names the options to add.
    """
    if not rows and not cols:
        raise UserError("a table needs rows or columns", fix="give --rows layer.K, for example")
    check_number(cell, "cell")
    members: dict[tuple[Values, Values], list[Summary]] = {}
    for run in runs:
        row, col = tuple(field.get(run) for field in rows), tuple(field.get(run) for field in cols)
        if UNKNOWN not in row + col:
            members.setdefault((row, col), []).append(run)
    groups = {pair: group_repeats(cell_runs, cell) for pair, cell_runs in members.items()}
    _check_repeats(groups, rows, cols)
    estimates = {pair: group.estimate for pair, (group,) in groups.items()}
    row_values, col_values = _sorted(rows, {row for row, _ in groups}), _sorted(cols, {col for _, col in groups})
    cells = [[estimates.get((row, col)) for col in col_values] for row in row_values]
    axes = " by ".join("/".join(field.key for field in axis) for axis in (rows, cols) if axis)
    notes = [f"{cell.key} by {axes}"]
    if unplaced := len(runs) - sum(map(len, members.values())):
        notes.append(f"without the row or column they belong to: {unplaced} of {len(runs)} runs")
    notes += _notes([group for (group,) in groups.values()], cell)
    return PivotTable(rows, cols, cell, row_values, col_values, cells, notes)


def _sorted(fields: Sequence[Field], values: Iterable[Values]) -> list[Values]:
    return sorted(values, key=lambda row: [field.sort_key(value) for field, value in zip(fields, row, strict=True)])


def _notes(groups: list[RunGroup], cell: Field) -> list[str]:
    notes = copies_note(groups) + drawn_note(groups, cell)
    if missing := sum(group.missing for group in groups):
        notes.append(f"without {cell.key}: {plural(missing, 'run')}")
    duplicates = len(groups) - len({group.runs[0].config.key for group in groups})
    if duplicates:
        cells = plural(duplicates, "cell")
        notes.append(f"{cells} with the model of another cell: the options that tell them apart have no effect there")
    runs = [run for group in groups for run in group.runs]
    return [*notes, *chosen_on_test_note(cell, runs), *imported_note(runs)]


def _check_repeats(cells: Cells, rows: Sequence[Field], cols: Sequence[Field]) -> None:
    """Raise UserError where a cell holds runs that are not repeats of each other."""
    mixed = {pair: groups for pair, groups in cells.items() if len(groups) > 1}
    if not mixed:
        return
    differing = differing_values(mixed.values())
    values = "; ".join(f"{key} ({', '.join(sorted(values))})" for key, values in differing.items())
    (row, col), groups = next(iter(mixed.items()))
    values_by_field = zip([*rows, *cols], row + col, strict=True)
    place = ", ".join(f"{field.key} {field.show(value)}" for field, value in values_by_field)
    names = ", ".join(group.runs[0].name for group in groups[:MAX_NAMES])
    fix = f"add {', '.join(differing)} to --rows or --cols, or keep one value with --where (at {place}: {names})"
    if not differing:
        values = f"the data, {data_conflict(groups[0].runs[0], groups[1].runs[0])}"
        fix = f"keep the runs on one of them with --where (at {place}: {names})"
    message = f"runs differ in more than the seed in {len(mixed)} of {plural(len(cells), 'cell')}: {values}"
    raise UserError(message, key="table", value=list(differing), fix=fix)
