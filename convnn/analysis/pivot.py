"""Runs laid out by their options: a row and a column for each combination of values, a figure in each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convnn.analysis.fields import Field, order
from convnn.analysis.repeats import RunGroup, copied, group_repeats
from convnn.analysis.run_table import AS_PUBLISHED
from convnn.analysis.statistics import MeanEstimate
from convnn.config.options import BY_KEY
from convnn.config.recorded import UNKNOWN, shown
from convnn.errors import Problem, UserError
from convnn.metrics import format_value, split_of
from convnn.runs.summary import Summary, json_value
from convnn.tables import Column, Table
from convnn.text import escaped

EMPTY = "·"
Values = tuple[Any, ...]


@dataclass(frozen=True)
class PivotTable:
    """The table: what each row and column stands for, and the figures; None where there is no run."""

    row_fields: Sequence[Field]
    col_fields: Sequence[Field]
    cell: Field
    rows: list[Values]
    cols: list[Values]
    cells: list[list[MeanEstimate | None]]
    notes: list[str]

    def json(self) -> dict[str, Any]:
        """As `convnn table --json` writes it."""
        return {
            "cell": self.cell.key,
            "rows": [_named(self.row_fields, values) for values in self.rows],
            "cols": [_named(self.col_fields, values) for values in self.cols],
            "cells": [
                [{"n": c.n, "mean": json_value(c.mean), "sd": c.sd} if c else None for c in line] for line in self.cells
            ],
        }

    def table(self) -> Table:
        """As text: one run is its figure alone, several are mean ± sd (n)."""
        columns = [Column(field.key) for field in self.row_fields]
        columns += [Column(_title(self.col_fields, values), right=True) for values in self.cols]
        rows = [
            [*(field.show(value) for field, value in zip(self.row_fields, values, strict=True)), *map(self._text, line)]
            for values, line in zip(self.rows, self.cells, strict=True)
        ]
        return Table(columns, rows, notes=self.notes, key_columns=len(self.row_fields))

    def _text(self, cell: MeanEstimate | None) -> str:
        if cell is None:
            return EMPTY
        metric = self.cell.format_as
        several = "" if cell.sd is None else f" ± {format_value(cell.sd, metric)} ({cell.n})"
        return format_value(cell.mean, metric) + several


def _named(fields: Sequence[Field], values: Values) -> dict[str, Any]:
    return {field.key: json_value(value) for field, value in zip(fields, values, strict=True)}


def _title(fields: Sequence[Field], values: Values) -> str:
    return "/".join(field.show(value) for field, value in zip(fields, values, strict=True))


def pivot(runs: Sequence[Summary], rows: Sequence[Field], cols: Sequence[Field], cell: Field) -> PivotTable:
    """The runs by the values of the fields of rows and columns.

    Raises UserError where the runs of a cell differ in more than the seed: it names the options to add.
    """
    if not rows and not cols:
        raise UserError(Problem("a table needs rows or columns", fix="give --rows layer.K, for example"))
    if cell.kind != "number":
        raise UserError(Problem(f"{cell.key} is no figure", key="cell", fix="give --cell best:test_top1, for example"))
    found: dict[tuple[Values, Values], list[Summary]] = {}
    unknown = 0
    for run in runs:
        at = tuple(f.get(run) for f in rows), tuple(f.get(run) for f in cols)
        if UNKNOWN in at[0] + at[1]:
            unknown += 1
        else:
            found.setdefault(at, []).append(run)
    row_values, col_values = _sorted(rows, {at[0] for at in found}), _sorted(cols, {at[1] for at in found})
    groups = {at: group_repeats(several, cell) for at, several in found.items()}
    _check(groups, rows, cols)
    single = {at: several[0] for at, several in groups.items()}
    cells = [[single[r, c].estimate if (r, c) in single else None for c in col_values] for r in row_values]
    axes = " by ".join("/".join(field.key for field in each) for each in (rows, cols) if each)
    notes = [f"{cell.key} by {axes}"]
    notes += [f"without the row or column they belong to: {unknown} of {len(runs)} runs"] if unknown else []
    notes += _notes(list(single.values()), cell)
    return PivotTable(rows, cols, cell, row_values, col_values, cells, notes)


def _sorted(fields: Sequence[Field], values: set[Values]) -> list[Values]:
    return sorted(values, key=lambda each: [order(field, value) for field, value in zip(fields, each, strict=True)])


def _notes(groups: list[RunGroup], cell: Field) -> list[str]:
    without, notes = sum(group.without for group in groups), copied(groups)
    notes += [f"without {cell.key}: {without} of the runs"] if without else []
    keys = [group.runs[0].config.key for group in groups]
    if len(set(keys)) < len(keys):
        alike = len(keys) - len(set(keys))
        notes.append(f"{alike} cells repeat the model of another cell: what tells them apart has no effect there")
    if cell.key == "best" or (cell.best and split_of(cell.metric or "") == "test"):
        notes.append("best on test: the epoch was chosen on the test set")
    if any(run.source for group in groups for run in group.runs):
        notes.append(AS_PUBLISHED)
    return notes


def _check(groups: dict[tuple[Values, Values], list[RunGroup]], rows: Sequence[Field], cols: Sequence[Field]) -> None:
    """Raises UserError where a cell holds more than repeats."""
    mixed = {at: several for at, several in groups.items() if len(several) > 1}
    if not mixed:
        return
    differing: dict[str, set[str]] = {}
    for several in mixed.values():
        told = [dict(group.runs[0].config.key) for group in several]
        for key in BY_KEY:
            values = {each.get(key, "without effect") for each in told}
            if len(values) > 1:
                differing.setdefault(key, set()).update(values)
    real = {key: values for key, values in differing.items() if len(values - {"without effect"}) > 1}
    differing = real or differing  # an option that another one silences differs by that alone
    (row, col), several = next(iter(mixed.items()))
    where = ", ".join(
        f"{field.key} {shown(field.option_key or '', value)}"
        for field, value in zip([*rows, *cols], row + col, strict=True)
    )
    names = ", ".join(escaped(group.runs[0].name) for group in several[:3])
    where = f"at {escaped(where)}: {names}"
    said = "; ".join(f"{key} ({', '.join(sorted(values))})" for key, values in differing.items())
    raise UserError(
        Problem(
            f"{len(mixed)} of {len(groups)} cells hold runs that differ in more than the seed: {escaped(said)}",
            key="table",
            value=list(differing),
            fix=f"add {', '.join(differing)} to --rows or --cols, or keep one value with --where ({where})",
        )
    )
