"""A comparison of runs as it is shown: tables, curves, words, and the same as JSON.

Runs are called A, B, C ... in the order given; all are held against A.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from string import ascii_uppercase
from typing import Any

from convnn import text as convnn_text
from convnn.analysis import comparison, fields, repeats, significance
from convnn.analysis.comparison import ComparedRun, MetricRow, OptionDifference
from convnn.analysis.fields import Field
from convnn.analysis.repeats import NoiseFloor, RunGroup
from convnn.analysis.significance import GroupComparison, signed
from convnn.charts.chart import Chart, Series, draw
from convnn.config.recorded import shown
from convnn.errors import UserError
from convnn.metrics import format_value, lower_is_better, split_of
from convnn.runs.summary import Summary
from convnn.tables import Column, Table
from convnn.text import escaped

NO_EFFECT, NOTHING = "no effect", "—"
COUNTS = ("epoch", "epochs", "FLOPs an image", "parameters")
FORMAT_AS = {"s an epoch": "top1"}  # the metric whose digits a figure has that is no metric
ROWS = 14  # of the chart, in lines


def letters(count: int) -> list[str]:
    """A, B, ... Z, AA, AB, ..."""
    size = 1
    names = list(ascii_uppercase)
    while len(names) < count:
        size += 1
        names += ["".join(each) for each in product(ascii_uppercase, repeat=size)]
    return names[:count]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side. `differences` and `figures` have a value for each run, in their order."""

    runs: list[ComparedRun]
    metric: str
    differences: list[OptionDifference]
    figures: list[MetricRow]
    groups: list[RunGroup]
    verdicts: list[GroupComparison]
    group_figure: Field

    @classmethod
    def of(
        cls, chosen: Sequence[Summary], known: Sequence[Summary], figure: str, metric: str | None, effect: float
    ) -> Comparison:
        """Compare the chosen runs; `known` are all there are, whose repeats tell the noise floor."""
        runs = [ComparedRun.of(run) for run in chosen]
        names = fields.metric_names(chosen)
        if metric is not None and metric not in names:
            fields.get_field(metric, names)  # says what is nearest
            raise UserError(f"none of these runs has a {escaped(metric)}")
        field = fields.get_field(figure, names)
        if field.kind != "number":
            raise UserError(f"{escaped(figure)} is no figure: give best, test_top1 or best:test_loss, for example")
        told = repeats.group_repeats(chosen, field)
        held = significance.compare_groups(told, field, effect, _noise(chosen, known, field))
        chief = metric or comparison.shared_monitor(runs)
        return cls(
            runs, chief, comparison.option_differences(chosen), comparison.metric_rows(runs, chief), told, held, field
        )

    @cached_property
    def names(self) -> list[str]:
        return letters(len(self.runs))

    def json(self) -> dict[str, Any]:
        """As `convnn compare --json` writes it."""
        return {
            "runs": [run.summary.json() for run in self.runs],
            "differences": [each.json() for each in self.differences],
            "figures": [each.json() for each in self.figures],
            "groups": [self._group_json(at) for at in range(len(self.groups))],
        }

    def _group_json(self, at: int) -> dict[str, Any]:
        group, spread = self.groups[at], self.groups[at].estimate
        told = {"figure": self.group_figure.key, "runs": [run.name for run in group.runs], "n": 0}
        told |= vars(spread) if spread else {"mean": None, "sd": None, "low": None, "high": None}
        return told | {"against_first": self.verdicts[at - 1].json() if at else None}

    def tables(self) -> list[Table]:
        """The runs, what differs, the figures and, where there are repeats, the groups."""
        found = [self._legend(), self._differences(), self._figures()]
        return found + ([self._groups()] if any(len(group.runs) > 1 for group in self.groups) else [])

    def _legend(self) -> Table:
        columns = [Column(""), Column("run"), Column("status"), Column("epoch", right=True), Column("figures")]
        rows = []
        for name, run in zip(self.names, self.runs, strict=True):
            summary = run.summary
            planned = fields.get_field("num_epochs").text(summary) or "?"
            origin = "as published" if summary.source else ""
            rows.append([name, escaped(summary.name), summary.status, f"{summary.epoch}/{planned}", origin])
        shown = 5 if any(row[4] for row in rows) else 4
        return Table(columns[:shown], [row[:shown] for row in rows])

    def _differences(self) -> Table:
        rows = [
            [
                each.option,
                *(NO_EFFECT if value is comparison.NO_EFFECT else shown(each.option, value) for value in each.values),
            ]
            for each in self.differences
        ]
        title = "what differs and has an effect" if rows else "nothing that has an effect differs"
        return Table([Column("option"), *(Column(name, right=True) for name in self.names)], rows, title, key_columns=1)

    def _figures(self) -> Table:
        columns = [Column("figure"), Column("at"), *(Column(name, right=True) for name in self.names)]
        rows = [[each.figure, each.at, *self._values(each)] for each in self.figures]
        return Table(columns, rows, f"figures, with the difference to {self.names[0]}", key_columns=2)

    def _values(self, figure: MetricRow) -> list[str]:
        first = figure.values[0]
        metric = FORMAT_AS.get(figure.figure, figure.figure)
        plain = figure.figure in COUNTS
        cells = []
        for at, value in enumerate(figure.values):
            if value is None:
                cells.append(NOTHING)
                continue
            text = convnn_text.short(value) if plain else format_value(value, metric)
            if at and first is not None and not plain and math.isfinite(value - first):
                text += f" ({signed(value - first, metric)})"
            cells.append(text)
        return cells

    def _groups(self) -> Table:
        columns = [Column("repeats"), *(Column(name, right=True) for name in ("n", "mean", "sd", "95 % interval"))]
        rows = []
        for name, group in zip(self._group_names, self.groups, strict=True):
            spread, metric = group.estimate, self.group_figure.format_as
            if spread is None:
                rows.append([name, "0", NOTHING, NOTHING, NOTHING])
                continue
            sd = format_value(spread.sd, metric) if spread.sd is not None else NOTHING
            interval = spread.interval(metric) or NOTHING
            rows.append([name, str(spread.n), format_value(spread.mean, metric), sd, interval])
        return Table(columns, rows, f"repeats: the same but for the seed, by {self.group_figure.key}")

    @cached_property
    def _group_names(self) -> list[str]:
        names_by_path = {run.summary.path: name for name, run in zip(self.names, self.runs, strict=True)}
        return ["+".join(names_by_path[run.path] for run in group.runs) for group in self.groups]

    def chart(self, width: int, *, ascii: bool = False) -> Chart:
        """The curves of all runs over each other, labelled at their ends."""
        series = [
            Series(name, *run.history.series(self.metric)) for name, run in zip(self.names, self.runs, strict=True)
        ]
        return draw(series, width, ROWS, x="epoch", ascii=ascii, empty_text=f"no epoch with {self.metric} yet")

    def words(self) -> list[str]:
        """What the differences are worth, and what has to be known to read the figures."""
        label = self.group_figure.key
        found = [
            f"{name} less {self._group_names[0]}, {label}: {verdict.words}"
            for name, verdict in zip(self._group_names[1:], self.verdicts, strict=True)
        ]
        if (claims := sum(each.difference is not None for each in self.verdicts)) > 1:
            found.append(f"p is adjusted for {claims} comparisons, an interval is that of its pair alone")
        found += {f"noise floor: {each.noise.source}": None for each in self.verdicts if each.noise}
        if not self.verdicts:
            found.append("these are repeats of one configuration: there is nothing to tell apart")
        found += repeats.copied(self.groups)
        for name, run in zip(self.names, self.runs, strict=True):
            if keys := comparison.unknown_options(run.summary):
                some = ", ".join(keys[:3]) + ", ..." * (len(keys) > 3)
                found.append(f"{name} does not tell {len(keys)} options, which may differ, too: {some}")
            if run.summary.status != "done":
                found.append(
                    f"{name}: {run.summary.status} at epoch {run.summary.epoch}, its figures are not of a whole run"
                )
        if label == "best" or self.group_figure.best:
            decided = self.group_figure.metric or self.metric
            if split_of(decided) == "test":
                found.append("best on test: the epoch was chosen on the test set, which flatters every run")
        if any(run.summary.source for run in self.runs):
            found.append("figures of imported runs are as published; their seconds are of training alone")
        if lower_is_better(self.metric):
            found.append(f"less is better for {self.metric}")
        return found


def _noise(chosen: Sequence[Summary], known: Sequence[Summary], figure: Field) -> NoiseFloor | None:
    """The noise floor of the data set of the first run, which the others are held against."""
    dataset = chosen[0].config.value("data.dataset")
    everything = {run.path: run for run in [*known, *chosen]}
    return repeats.noise_floor(everything.values(), str(dataset), figure)
