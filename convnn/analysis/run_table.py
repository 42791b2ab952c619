"""Runs as a table: sorted, with the columns that tell them apart, or with a row for each group of runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from convnn.analysis import fields
from convnn.analysis.fields import RUN_FIELDS, Field
from convnn.analysis.repeats import (
    RunGroup,
    copies_note,
    differing_values,
    drawn_note,
    group_repeats,
    interval_text,
    sd_text,
)
from convnn.config.active import UNCOUNTED
from convnn.config.options import OPTIONS
from convnn.config.recorded import SEED, Settings
from convnn.json_values import json_value
from convnn.metrics import best_of, format_value
from convnn.runs.summary import Summary
from convnn.tables import Column, Table
from convnn.text import joined, plural

REPEATS = "repeats"  # the key that groups runs by being repeats of each other
DATA = "data"  # stands for data that are known to differ where no option does
AVERAGED_OVER = "averages over"
MAX_AVERAGED = 3  # options that a row names
TIME_IN_NAME = r"\d{8}-\d{6}-"  # at the beginning of a run's name
AS_PUBLISHED = "metrics of imported runs are as published"
_OPTION_NAMES = {option.key: option.name for option in OPTIONS}
_NUMBER_KINDS = {"number", "age", "size"}


def differing_options(runs: Iterable[Summary]) -> list[str]:
    """Return the keys of the options in which the runs differ, in the order of the schema.

    An option that a run did not record, or that has no effect in it, is no difference.
    """
    settings: dict[int, Settings] = {id(run.config): run.config for run in runs}
    sections: dict[int, tuple[str, dict[str, Any]]] = {}  # by identity: thousands of runs share a few
    for config in settings.values():
        sections.update(zip(map(id, config.values()), config.items(), strict=True))
    first_values: dict[str, Any] = {}
    differing: set[str] = set()
    for section, values in sections.values():
        for name, value in values.items():
            key = f"{section}.{name}"
            if key not in differing and first_values.setdefault(key, value) != value:
                differing.add(key)
    return [o.key for o in OPTIONS if o.key in differing and _differs_in_effect(o.key, settings.values())]


def _differs_in_effect(key: str, configs: Iterable[Settings]) -> bool:
    """Return whether two configurations in which an option has an effect record different values of it."""
    section, _, name = key.partition(".")
    values = (
        config[section][name] for config in configs if name in config.get(section, ()) and key not in config.inactive
    )
    first_value = next(values, None)
    return any(value != first_value for value in values)


def columns(runs: Sequence[Summary], keys: str | None, *, all_options: bool = False) -> list[Field]:
    """Return the fields of `keys` or, without any, those that tell the runs apart.

    These are name, status, epoch, best and the options that differ; with `all_options`, every option.
    """
    if keys:
        return fields.parse_fields(keys, fields.metric_names(runs))
    if all_options:
        options = [option.key for option in OPTIONS if option.section != "output"]
    else:
        options = differing_options(runs)
    column_keys = ["name", "status", "epoch", "best"]
    column_keys += map(column_key, options)
    if all_options or not options:
        column_keys.append("started")
    imported = [run.source is not None for run in runs]
    if any(imported) and (all_options or not all(imported)):
        column_keys.append("imported")
    return [fields.get_field(key) for key in column_keys]


def ranked(columns: Sequence[Field], runs: Sequence[Summary]) -> list[Field]:
    """Return the columns with the options that tell the most runs apart first: not all may have room.

    The layer comes before them; names, places and checkpoints, which change no metric, come last.
    """

    def rank(field: Field) -> tuple[bool, bool, int]:
        assert field.option is not None
        key, section = field.option.key, field.option.section
        no_metric = section in UNCOUNTED or key in ("data.path", "data.workers", "runtime.threads")
        return no_metric, key != "layer.type", -len({field.effective_text(run) for run in runs})

    options = [field for field in columns if field.option is not None]
    options.sort(key=rank)
    next_option = iter(options)
    return [field if field.option is None else next(next_option) for field in columns]


def column_key(option: str) -> str:
    """Return the flag of an option, but for the name it gives a run: "name" is that of the directory."""
    return option if option == "run.name" else _OPTION_NAMES[option]


def imported_note(runs: Iterable[Summary]) -> list[str]:
    """Return the note that some runs are imported, or none."""
    if not any(run.source for run in runs):
        return []
    return [AS_PUBLISHED]


def sort_runs(runs: Sequence[Summary], keys: str | None) -> list[Summary]:
    """Return the runs sorted by keys with commas between, `-key` in descending order; unknown values come last."""
    result = list(runs)
    names = [name for key in (keys or "").split(",") if (name := key.strip()).lstrip("-")]
    for name in reversed(names):  # sorting is stable, so the first key is sorted by last
        field = fields.get_field(name.lstrip("-"), fields.metric_names(runs))
        result = _sort_by_field(result, field, descending=name.startswith("-"))
    return result


def _sort_by_field(runs: list[Summary], field: Field, *, descending: bool) -> list[Summary]:
    orders = [(field.sort_key(field.effective(run)), run) for run in runs]
    known = [(order, run) for order, run in orders if not fields.is_unknown(order)]
    known.sort(key=lambda pair: pair[0], reverse=descending)
    return [run for _, run in known] + [run for order, run in orders if fields.is_unknown(order)]


def run_table(runs: Sequence[Summary], columns: Sequence[Field], *, glyphs: bool = True) -> Table:
    """Return a table with a row for each run.

    Unless `glyphs` is False it is one for people: a status has its glyph, and an unfinished run its planned epochs.
    """
    removable = {"name": TIME_IN_NAME}
    titles = [
        Column(field.key, right=field.kind in _NUMBER_KINDS, removable=removable.get(field.key, ""))
        for field in columns
    ]
    rows = [[_cell(field, run, glyphs) for field in columns] for run in runs]
    if any(field.key == "imported" for field in columns):
        return Table(titles, rows)
    return Table(titles, rows, notes=imported_note(runs))


def _cell(field: Field, run: Summary, glyphs: bool) -> str:
    if glyphs and field is RUN_FIELDS["status"]:
        return run.status_label
    if glyphs and field is RUN_FIELDS["epoch"] and run.status != "done":
        return f"{run.epoch}/{fields.get_field('num_epochs').text(run) or '?'}"
    return field.effective_text(run)


@dataclass(frozen=True)
class GroupRow:
    """A group of runs as a row: its value of each key, its runs, and what they differ in beside the seed."""

    values: list[Any]
    group: RunGroup
    averaged_over: list[str]  # keys of options, or DATA


@dataclass(frozen=True)
class GroupTable:
    """A row for each group of runs, by keys or by being repeats of each other."""

    keys: list[Field]
    field: Field  # that is averaged
    rows: list[GroupRow]
    notes: list[str]
    has_intervals: bool  # only of repeats: other groups are no sample of one distribution

    def json(self) -> list[dict[str, Any]]:
        """Return the groups of `convnn runs --group --json`."""
        return [
            {
                "values": {key.key: json_value(value) for key, value in zip(self.keys, row.values, strict=True)},
                "runs": [run.name for run in row.group.runs],
                "figure": self.field.key,
                **self._estimate_json(row.group),
                "averaged_over": row.averaged_over,
            }
            for row in self.rows
        ]

    def _estimate_json(self, group: RunGroup) -> dict[str, Any]:
        estimate = group.estimate
        if estimate is None:
            return {"n": 0, "mean": None, "sd": None, "low": None, "high": None}
        low, high = (self.has_intervals and group.interval) or (None, None)
        return {"n": estimate.n, "mean": estimate.mean, "sd": estimate.sd, "low": low, "high": high}

    def table(self) -> Table:
        titles = [Column(key.key, right=key.kind in _NUMBER_KINDS) for key in self.keys]
        titles += [Column(name, right=True) for name in self._statistics]
        rows = [[*self._key_cells(row), *self._statistic_cells(row.group)] for row in self.rows]
        if any(row.averaged_over for row in self.rows):
            titles.append(Column(AVERAGED_OVER))
            for cells, row in zip(rows, self.rows, strict=True):
                cells.append(averaged_over_text(row.averaged_over))
        return Table(titles, rows, notes=self.notes, key_columns=len(self.keys))

    @property
    def _statistics(self) -> list[str]:
        names = ["n", "mean", "sd", "best"]
        if self.has_intervals:
            names.append("95 % interval")
        return names

    def _key_cells(self, row: GroupRow) -> list[str]:
        return [key.value_text(value) for key, value in zip(self.keys, row.values, strict=True)]

    def _statistic_cells(self, group: RunGroup) -> list[str]:
        estimate, metric = group.estimate, self.field.format_as
        if estimate is None:
            return ["0", *("" for _ in self._statistics[1:])]
        best = best_of(metric)(group.values)
        cells = [str(estimate.n), format_value(estimate.mean, metric), sd_text(estimate, metric)]
        cells.append(format_value(best, metric))
        if self.has_intervals:
            cells.append(interval_text(group, metric))
        return cells


def group_runs(runs: Sequence[Summary], by: str, field: Field) -> GroupTable:
    """Return the runs in groups: by keys with commas between, or by REPEATS.

    Raises UserError where the field is no number.
    """
    fields.check_number(field, "figure")
    notes = imported_note(runs)
    if by == REPEATS:
        return _group_by_repeats(runs, field, notes)
    keys = fields.parse_fields(by, fields.metric_names(runs))
    members: dict[tuple[Any, ...], list[Summary]] = {}
    for run in runs:
        members.setdefault(tuple(key.effective(run) for key in keys), []).append(run)
    rows = [GroupRow(list(values), *merge_repeats(group, field)) for values, group in members.items()]
    rows.sort(key=lambda row: [key.sort_key(value) for key, value in zip(keys, row.values, strict=True)])
    if mixed := sum(bool(row.averaged_over) for row in rows):
        count = f"{mixed} of {plural(len(rows), 'row')}"
        notes.append(
            f"no repeats: the runs of {count} differ in more than the seed, so mean and sd are over all of that"
        )
    return GroupTable(keys, field, rows, notes, has_intervals=False)


def _group_by_repeats(runs: Sequence[Summary], field: Field, notes: list[str]) -> GroupTable:
    groups = group_repeats(runs, field)
    keys = group_keys(groups)
    rows = [GroupRow([key.effective(group.runs[0]) for key in keys], group, []) for group in groups]
    if len({group.runs[0].config.key for group in groups}) < len(groups):
        notes.append("rows with the same options are on different data")
    notes += copies_note(groups) + drawn_note(groups, field)
    return GroupTable(keys, field, rows, notes, has_intervals=True)


def group_keys(groups: Sequence[RunGroup]) -> list[Field]:
    """Return the options in which groups of repeats differ."""
    options = differing_options(group.runs[0] for group in groups)
    return [
        fields.get_field(_OPTION_NAMES[key]) for key in options if key != SEED and key.split(".")[0] not in UNCOUNTED
    ]


def averaged_over_text(keys: Sequence[str]) -> str:
    """Return what is averaged over as text: "K, lr, dataset and 3 more"."""
    return joined([_OPTION_NAMES.get(key, key) for key in keys], MAX_AVERAGED)


def merge_repeats(runs: list[Summary], field: Field) -> tuple[RunGroup, list[str]]:
    """Return runs as one group, and what they differ in beside the seed: keys of options with an effect, or DATA.

    Copies among repeats count once. Repeats differ in nothing.
    """
    merged = RunGroup(runs)
    groups = group_repeats(runs, field)
    for group in groups:
        merged.values += group.values
        merged.copies += group.copies
        merged.forks += group.forks
        merged.missing += group.missing
    if len(groups) < 2:
        return merged, []
    return merged, list(differing_values([groups])) or [DATA]
