"""A list of runs as a table: sorted, with the columns that differ, or a row for each group of runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from convnn.analysis import fields
from convnn.analysis.fields import RUN_FIELDS, Field
from convnn.analysis.repeats import RunGroup, copied, group_repeats
from convnn.config.options import OPTIONS
from convnn.config.recorded import UNKNOWN, Settings
from convnn.errors import Problem, UserError
from convnn.metrics import format_value, lower_is_better
from convnn.runs.status import GLYPHS
from convnn.runs.summary import Summary, json_value
from convnn.tables import Column, Table

REPEATS = "repeats"
AS_PUBLISHED = "figures of imported runs are as published"
_SHORT = {option.key: option.name for option in OPTIONS}
_NUMBERS = {"number", "age", "size"}


def differing_options(runs: Iterable[Summary]) -> list[str]:
    """The keys of the options in which the runs differ, in the order of the schema."""
    settings: dict[int, Settings] = {id(run.config): run.config for run in runs}
    sections: dict[int, tuple[str, dict[str, Any]]] = {}  # by identity: most are shared
    for each in settings.values():
        sections.update(zip(map(id, each.values()), each.items(), strict=True))
    told: dict[str, Any] = {}  # by the first run that tells it: one that does not tell differs in nothing
    found: set[str] = set()
    for name, table in sections.values():
        for field, value in table.items():
            key = f"{name}.{field}"
            if key not in found and told.setdefault(key, value) != value:
                found.add(key)
    return [option.key for option in OPTIONS if option.key in found]


def columns(runs: Sequence[Summary], wanted: str | None, *, everything: bool = False) -> list[Field]:
    """The columns asked for, else what tells the runs apart: name, status, options that differ, epoch and best."""
    if wanted:
        return fields.parse_fields(wanted, fields.metric_names(runs))
    keys = [option.key for option in OPTIONS if option.section != "output"] if everything else differing_options(runs)
    chosen = [
        "name",
        "status",
        "epoch",
        "best",
        *(_SHORT[key] if _SHORT[key] != "name" else key for key in keys),
    ]
    chosen += ["started"] if everything or not keys else []
    if any(run.source for run in runs) and (everything or not all(run.source for run in runs)):
        chosen.append("imported")
    return [fields.get_field(key) for key in chosen]


def sort_runs(runs: Sequence[Summary], keys: str | None) -> list[Summary]:
    """The runs sorted by keys with commas between, `-key` from the largest; unknown values stay last."""
    result = list(runs)
    for key in reversed((keys or "").replace(" ", "").split(",")):
        if key.lstrip("-"):
            field = fields.get_field(key.lstrip("-"), fields.metric_names(runs))
            result = _sorted(result, field, down=key.startswith("-"))
    return result


def _sorted(runs: list[Summary], field: Field, *, down: bool) -> list[Summary]:
    orders = [(field.order(run), run) for run in runs]
    told = [pair for pair in orders if pair[0][0] < 2]
    told.sort(key=lambda pair: pair[0], reverse=down)
    return [run for _, run in told] + [run for order, run in orders if order[0] == 2]


def run_table(runs: Sequence[Summary], shown: Sequence[Field], glyphs: dict[str, str] | None = GLYPHS) -> Table:
    """A row for each run; a status without its glyph where there are none."""
    titles = [Column(field.key, right=field.kind in _NUMBERS) for field in shown]
    rows = [[_text(field, run, glyphs) for field in shown] for run in runs]
    imported = any(run.source for run in runs) and not any(field.key == "imported" for field in shown)
    return Table(titles, rows, notes=[AS_PUBLISHED] if imported else [])


def _text(field: Field, run: Summary, glyphs: dict[str, str] | None) -> str:
    return f"{glyphs[run.status]} {run.status}" if glyphs and field is RUN_FIELDS["status"] else field.text(run)


@dataclass(frozen=True)
class GroupRow:
    """Runs that are one row: what they have in common, and their figures."""

    values: list[Any]
    group: RunGroup


@dataclass(frozen=True)
class GroupTable:
    """A row for each group of runs, by keys or by being repeats of each other."""

    keys: list[Field]
    figure: Field
    rows: list[GroupRow]
    notes: list[str]
    intervals: bool  # only repeats have one: other groups are no sample of anything

    def json(self) -> list[dict[str, Any]]:
        """The groups as JSON values."""
        return [
            {
                "values": {key.key: json_value(value) for key, value in zip(self.keys, row.values, strict=True)},
                "runs": [run.name for run in row.group.runs],
                "figure": self.figure.key,
                **self._spread(row.group),
            }
            for row in self.rows
        ]

    def _spread(self, group: RunGroup) -> dict[str, Any]:
        spread = group.estimate
        if spread is None:
            return {"n": 0, "mean": None, "sd": None, "low": None, "high": None}
        low, high = (spread.low, spread.high) if self.intervals else (None, None)
        return {"n": spread.n, "mean": spread.mean, "sd": spread.sd, "low": low, "high": high}

    def table(self) -> Table:
        """The groups as text."""
        heads = [Column(key.key, right=key.kind in _NUMBERS) for key in self.keys]
        heads += [Column(name, right=True) for name in ("n", "mean", "sd", "best")]
        heads += [Column("95 % interval", right=True)] if self.intervals else []
        rows = [
            [key.show(value) if value is not UNKNOWN else "" for key, value in zip(self.keys, row.values, strict=True)]
            + self._figures(row.group)
            for row in self.rows
        ]
        return Table(heads, rows, notes=self.notes, key_columns=len(self.keys))

    def _figures(self, group: RunGroup) -> list[str]:
        spread, metric = group.estimate, self.figure.format_as
        if spread is None:
            return ["0", "", "", "", ""][: 4 + self.intervals]
        best = (min if lower_is_better(metric) else max)(group.values)
        cells = [str(spread.n), format_value(spread.mean, metric)]
        cells += ["" if spread.sd is None else format_value(spread.sd, metric), format_value(best, metric)]
        return cells + ([spread.interval(metric)] if self.intervals else [])


def group_runs(runs: Sequence[Summary], by: str, figure: Field) -> GroupTable:
    """The runs in groups: by keys with commas between, or `repeats` for those that are the same but for the seed."""
    if figure.kind != "number":
        raise UserError(
            Problem(f"{figure.key} is no figure", key="figure", fix="give --figure best:test_top1, for example")
        )
    notes = [AS_PUBLISHED] if any(run.source for run in runs) else []
    if by == REPEATS:
        groups = group_repeats(runs, figure)
        firsts = [group.runs[0] for group in groups]
        option_keys = [key for key in differing_options(firsts) if key not in ("training.seed", "run.name", "run.tags")]
        keys = [fields.get_field(_SHORT[key]) for key in option_keys]
        notes += copied(groups)
        rows = [GroupRow([_in_effect(key, group.runs[0]) for key in keys], group) for group in groups]
        return GroupTable(keys, figure, rows, notes, intervals=True)
    keys = fields.parse_fields(by, fields.metric_names(runs))
    found: dict[tuple[Any, ...], list[Summary]] = {}
    for run in runs:
        found.setdefault(tuple(key.get(run) for key in keys), []).append(run)
    rows = [GroupRow(list(values), _as_one(several, figure)) for values, several in found.items()]
    rows.sort(key=lambda row: [fields.order(key, value) for key, value in zip(keys, row.values, strict=True)])
    return GroupTable(keys, figure, rows, notes, intervals=False)


def _in_effect(key: Field, run: Summary) -> Any:
    """The value of an option, unknown where it changes nothing: repeats may differ in it."""
    return key.get(run) if key.option_key in run.config.active else UNKNOWN


def _as_one(runs: list[Summary], figure: Field) -> RunGroup:
    """Runs as one group, whatever they differ in."""
    whole = RunGroup(runs)
    for group in group_repeats(runs, figure):
        whole.values += group.values
        whole.copies += group.copies
        whole.without += group.without
    return whole
