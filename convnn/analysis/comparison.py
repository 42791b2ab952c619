"""Two or more runs side by side: the options that differ, metrics at equal points, and groups of repeats.

Runs are named A, B, C ... in the order given, and all are compared with A. This file computes; `comparison_report`
makes tables and sentences of it, and `convnn.terminal.panes` draws the curves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, product
from string import ascii_uppercase
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from convnn.analysis.fields import Field, check_recorded, metric_names, number_field
from convnn.analysis.prediction_comparison import PredictionPair, compare_runs
from convnn.analysis.repeats import RunGroup, group_repeats, noise_floor
from convnn.analysis.training_data import train_images
from convnn.analysis.verdict import GroupComparison, compare_groups
from convnn.config.options import OPTIONS
from convnn.config.recorded import NO_EFFECT, UNKNOWN
from convnn.config.schema import RunConfig
from convnn.costs.plan import Plan, plan
from convnn.data.catalog import published_info
from convnn.json_values import json_value
from convnn.metrics import LAYER_METRICS, metric_info, monitored, split_of
from convnn.runs.history import History
from convnn.runs.summary import Summary
from convnn.text import prefixed

CostAxis = Literal["epochs", "seconds", "images", "FLOPs"]
COST_AXES: tuple[CostAxis, ...] = ("epochs", "seconds", "images", "FLOPs")


class OptionDifference(NamedTuple):
    """An option in which the runs differ: its value in each run, NO_EFFECT or UNKNOWN."""

    option: str
    values: list[Any]

    def json(self) -> dict[str, Any]:
        """Return the values as JSON: null stands for no effect, "?" for unknown and "none" for None."""
        words = {NO_EFFECT: None, UNKNOWN: "?", None: "none"}
        return {"option": self.option, "values": [words.get(value, json_value(value)) for value in self.values]}


class MetricRow(NamedTuple):
    """A metric, or a cost, of each run at one point such as "last epoch"; None where it is unknown."""

    name: str
    point: str
    values: list[float | None]

    def json(self) -> dict[str, Any]:
        return {"figure": self.name, "at": self.point, "values": [json_value(value) for value in self.values]}


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs: its summary, its epochs, and its cost by its configuration."""

    summary: Summary
    history: History

    @classmethod
    def read(cls, summary: Summary) -> ComparedRun:
        return cls(summary, summary.run.history(steps=False))

    @cached_property
    def plan(self) -> Plan | None:
        """Parameters and FLOPs by the configuration; None where that or the size of the images is unknown."""
        if self.summary.not_launchable_reason is not None:
            return None
        try:
            config = RunConfig.model_validate(self.summary.config)
        except ValidationError:
            return None
        published, started = published_info(config.data.dataset), self.history.started
        channels, image_size = 3, published.image_size
        if started and started.image_size and len(started.image_size) == 3:
            channels, image_size = started.image_size[0], started.image_size[1:]
        classes = (started and started.num_classes) or published.num_classes
        if image_size is None or not classes:
            return None
        return plan(config, image_size, classes, channels)

    def costs(self, axis: CostAxis) -> list[float] | None:
        """Return the cumulative cost of the training at the end of each epoch; None where it is unknown.

        Seconds are those of training, without evaluation. FLOPs count the forward and the backward pass,
        which the search for neighbors has none of.
        """
        epochs = [float(event.epoch) for event in self.history.epochs]
        if axis == "epochs":
            return epochs
        if axis == "seconds":
            times = [event.metrics.get("train_s", math.nan) for event in self.history.epochs]
            if not all(map(math.isfinite, times)):
                return None
            return list(accumulate(times))
        per_epoch = train_images(self.summary)
        if axis == "FLOPs":
            per_epoch = self._epoch_flops
        if per_epoch is None:
            return None
        return [epoch * per_epoch for epoch in epochs]

    @property
    def _epoch_flops(self) -> int | None:
        images = train_images(self.summary)
        if images is None or self.plan is None:
            return None
        return images * self.plan.training_flops

    def metric_at(self, metric: str, axis: CostAxis, cost: float) -> float | None:
        """Return the metric of the last epoch that had ended at that cost."""
        costs = self.costs(axis) or []
        ended = sum(end <= cost * (1 + 1e-9) for end in costs)
        if not ended:
            return None
        return self.history.epochs[ended - 1].metrics.get(metric)

    @property
    def epoch_seconds(self) -> float | None:
        """Mean training time per epoch in seconds."""
        seconds = self.costs("seconds")
        if not seconds:
            return None
        return seconds[-1] / len(seconds)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side. Option differences and metric rows have a value for each run, in the order of `runs`."""

    runs: list[ComparedRun]
    metric: str  # of the curves and of the rows at equal cost
    option_differences: list[OptionDifference]
    metric_rows: list[MetricRow]
    groups: list[RunGroup]  # of repeats
    group_comparisons: list[GroupComparison]  # of each group but the first, with the first
    field: Field  # by which groups are compared
    prediction_pairs: list[PredictionPair]  # of each run but the first that keeps predictions, with the first

    @cached_property
    def names(self) -> list[str]:
        return letters(len(self.runs))

    @cached_property
    def group_names(self) -> list[str]:
        """The letters of the runs of each group that count in its mean, or of all if none does: "A+C"."""
        return ["+".join(self.letters(group.finished or group.runs)) for group in self.groups]

    def letters(self, runs: Iterable[Summary]) -> list[str]:
        """Return the letters of some of the runs."""
        names = {run.summary.path: name for name, run in zip(self.names, self.runs, strict=True)}
        return [names[run.path] for run in runs]

    @property
    def code_differs(self) -> bool | None:
        """Whether commits or changes to them differ; None where not all runs recorded them and none is known to."""
        codes = [run.history.code for run in self.runs]
        commits = {run.history.commit for run in self.runs} - {None}
        changes = {(code.dirty, code.diff_sha256) for code in codes if code is not None}
        if len(commits) > 1 or len(changes) > 1:
            return True
        return None if None in codes else False

    def json(self) -> dict[str, Any]:
        """Return the document of `convnn compare --json`."""
        comparisons = [None, *(comparison.json() for comparison in self.group_comparisons)]
        return {
            "runs": [run.summary.json() for run in self.runs],
            "code": [run.history.code_json() for run in self.runs],
            "code_differs": self.code_differs,
            "differences": [difference.json() for difference in self.option_differences],
            "figures": [row.json() for row in self.metric_rows],
            "groups": [
                self._group_json(group, comparison) for group, comparison in zip(self.groups, comparisons, strict=True)
            ],
            "predictions": [pair.json() for pair in self.prediction_pairs],
        }

    def _group_json(self, group: RunGroup, comparison: dict[str, Any] | None) -> dict[str, Any]:
        estimate = group.estimate
        low, high = group.interval or (None, None)
        return {
            "figure": self.field.key,
            "runs": [run.name for run in group.finished],
            "unfinished": [run.name for run in group.unfinished],
            "n": estimate.n if estimate else 0,
            "mean": estimate and estimate.mean,
            "sd": estimate and estimate.sd,
            "low": low,
            "high": high,
            "against_first": comparison,
        }


def compare(
    runs: Sequence[Summary],
    all_runs: Iterable[Summary] = (),
    *,
    key: str = "best",
    metric: str | None = None,
    effect_size: float = 1.0,
    unfinished: bool = False,
) -> Comparison:
    """Compare runs with the first of them.

    Args:
        runs: what to compare, at least two
        all_runs: every run there is; its repeats give the noise floor that single runs are compared with
        key: the field by which groups of repeats are compared, such as "best" or "best:test_loss"
        metric: of the curves and at equal cost; by default the one that all runs monitor
        effect_size: the difference that the number of runs needed is computed for
        unfinished: average runs that did not train to their end, too; nothing is claimed of them

    Raises:
        UserError: where `key` is no number, or no run has the metric
    """
    recorded = metric_names(runs)
    if metric is not None:
        check_recorded(metric, recorded)
    field = number_field(key, recorded, "figure")
    compared = [ComparedRun.read(run) for run in runs]
    metric = metric or shared_monitor(compared)
    groups = group_repeats(runs, field, only_finished=not unfinished)
    by_path = {run.path: run for run in [*all_runs, *runs]}
    noise = noise_floor(by_path.values(), [run for run in runs if run.status == "done"], field)
    return Comparison(
        compared,
        metric,
        option_differences(runs),
        metric_rows(compared, metric),
        groups,
        compare_groups(groups, field, effect_size, noise),
        field,
        compare_runs([run.run for run in runs], [run.history for run in compared], letters(len(runs))),
    )


def letters(count: int) -> list[str]:
    """Return A, B, ... Z, AA, AB, ..."""
    names: list[str] = []
    length = 0
    while len(names) < count:
        length += 1
        names += map("".join, product(ascii_uppercase, repeat=length))
    return names[:count]


def option_differences(runs: Sequence[Summary]) -> list[OptionDifference]:
    """Return the options that differ and have an effect in some of the runs, in the order of the schema.

    An option that a run did not record is UNKNOWN there, which alone is no difference.
    """
    active = [run.config.active for run in runs]
    differences = []
    for option in OPTIONS:
        values = [_option_value(run, option.key, options) for run, options in zip(runs, active, strict=True)]
        recorded = [value for value in values if value is not UNKNOWN]
        if any(value != recorded[0] for value in recorded):
            differences.append(OptionDifference(option.key, values))
    return differences


def _option_value(run: Summary, key: str, active: Mapping[str, Any]) -> Any:
    value = run.config.value(key)
    if value is UNKNOWN or key in active:
        return value
    return NO_EFFECT


def unknown_options(run: Summary) -> list[str]:
    """Return the options that the run did not record and that could have an effect."""
    return [key for key, value in run.config.active.items() if value is UNKNOWN]


def shared_monitor(runs: Sequence[ComparedRun]) -> str:
    """Return the metric that decides for all runs: on the validation split only where every run has one."""
    validation = monitored(validation=True)
    return monitored(validation=all(run.history.best_metric == validation for run in runs))


def compared_metrics(runs: Sequence[ComparedRun], monitor: str) -> list[str]:
    """Return the losses, accuracies and metrics of layers of the runs, the monitored metric first."""
    names = dict.fromkeys([monitor, *(name for run in runs for name in run.history.metrics)])
    return [name for name in names if metric_info(name).per_split or name in LAYER_METRICS]


def best_label(metric: str) -> str:
    """Return how the best epoch is labeled: "best on test" where the test split chose it."""
    return "best on test" if split_of(metric) == "test" else "best"


def metric_rows(runs: Sequence[ComparedRun], metric: str) -> list[MetricRow]:
    """Return every metric at the last epoch, `metric` at the best epoch and at equal costs, and the costs."""
    names = compared_metrics(runs, metric)
    rows = [MetricRow(name, "last epoch", [run.history.last(name) for run in runs]) for name in names]
    best = [run.history.best(metric) or (None, None) for run in runs]
    rows.append(MetricRow(metric, best_label(metric), [value for value, _ in best]))
    rows.append(MetricRow("epoch", best_label(metric), [epoch for _, epoch in best]))
    for axis in COST_AXES:
        ends = [costs[-1] for run in runs if (costs := run.costs(axis))]
        if len(ends) > 1:
            cost = min(ends)
            rows.append(
                MetricRow(metric, f"{prefixed(cost)} {axis}", [run.metric_at(metric, axis, cost) for run in runs])
            )
    rows.append(MetricRow("epochs", "trained", [run.summary.epoch for run in runs]))
    rows.append(MetricRow("s an epoch", "mean of training", [run.epoch_seconds for run in runs]))
    plans = [run.plan for run in runs]
    rows.append(MetricRow("FLOPs an image", "forward", [costs.flops if costs else None for costs in plans]))
    rows.append(MetricRow("parameters", "all", [costs.parameters if costs else None for costs in plans]))
    return rows
