"""Two or more runs side by side: what differs, and figures at the last, at the best and at equal points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

from convnn.config.options import OPTIONS
from convnn.config.recorded import UNKNOWN
from convnn.costs import plan as costs_plan
from convnn.data.catalog import published_info
from convnn.errors import UserError
from convnn.metrics import metric_info, monitored, split_of
from convnn.runs.history import History
from convnn.runs.run import Run
from convnn.runs.summary import Summary, json_number, json_value
from convnn.text import short

BACKWARD = 2  # a backward pass costs about twice its forward pass
CostAxis = Literal["epochs", "seconds", "images", "FLOPs"]
NO_EFFECT, UNKNOWN_TEXT = None, "?"


class OptionDifference(NamedTuple):
    """An option that the runs differ in; NO_EFFECT where it changes nothing."""

    option: str
    values: list[Any]

    def json(self) -> dict[str, Any]:
        return {"option": self.option, "values": [json_value(value) for value in self.values]}


class MetricRow(NamedTuple):
    """A figure of each run at one point; None where it is not known."""

    figure: str
    at: str
    values: list[float | None]

    def json(self) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "at": self.at,
            "values": [None if value is None else json_number(value) for value in self.values],
        }


@dataclass(frozen=True)
class ComparedRun:
    """A run that is compared: its summary, its history, and what it costs by its configuration."""

    summary: Summary
    history: History

    @classmethod
    def of(cls, summary: Summary) -> ComparedRun:
        """The run of a summary, with its epochs read."""
        return cls(summary, Run(Path(summary.path), summary.name).history(steps=False))

    @cached_property
    def plan(self) -> costs_plan.Plan | None:
        """Parameters and FLOPs recomputed from the configuration; None where that or the images are not known."""
        try:
            config = Run(Path(self.summary.path), self.summary.name).config()
        except (UserError, OSError):
            return None
        published, started = published_info(config.data.dataset), self.history.started
        channels, side = 3, published.image_size
        if started and started.image_size and len(started.image_size) == 3:
            channels, side = started.image_size[0], started.image_size[1:]
        classes = (started and started.num_classes) or published.num_classes
        if side is None or not classes or self.summary.not_launchable_reason is not None:
            return None
        return costs_plan.plan(config, side, classes, channels)

    @cached_property
    def images(self) -> int | None:
        """Training images an epoch."""
        told = self.history.started.images.get("train") if self.history.started else None
        if told:
            return told
        settings = self.summary.config
        whole = settings.value("data.limit") is None and settings.value("data.val_share") == 0
        return published_info(settings.value("data.dataset")).train_images if whole else None

    def spent(self, axis: CostAxis) -> list[float] | None:
        """What the training had cost at the end of each epoch; None where it is not known. Seconds are of training."""
        epochs = [float(event.epoch) for event in self.history.epochs]
        if axis == "epochs":
            return epochs
        if axis == "seconds":
            times = [event.metrics.get("train_s", math.nan) for event in self.history.epochs]
            return list(accumulate(times)) if all(map(math.isfinite, times)) else None
        per_epoch = self.images
        if axis == "FLOPs" and per_epoch is not None:
            per_epoch = per_epoch * (1 + BACKWARD) * self.plan.flops if self.plan else None
        return None if per_epoch is None else [epoch * per_epoch for epoch in epochs]

    def at(self, metric: str, axis: CostAxis, point: float) -> float | None:
        """The metric at the last epoch that had ended when so much was spent."""
        spent = self.spent(axis)
        if spent is None:
            return None
        ended = sum(each <= point * (1 + 1e-9) for each in spent)
        return self.history.epochs[ended - 1].metrics.get(metric) if ended else None


def option_differences(runs: Sequence[Summary]) -> list[OptionDifference]:
    """The options that differ and have an effect in some of the runs, in the order of the schema.

    What a run does not tell is UNKNOWN_TEXT, and no difference by itself.
    """
    active = [run.config.active for run in runs]
    found = []
    for option in OPTIONS:
        values = [_word(run, option.key, told) for run, told in zip(runs, active, strict=True)]
        known = [value for value in values if value != UNKNOWN_TEXT]
        if any(value != known[0] for value in known):
            found.append(OptionDifference(option.key, values))
    return found


def _word(run: Summary, key: str, active: Mapping[str, Any]) -> Any:
    value = run.config.value(key)
    if value is UNKNOWN:
        return UNKNOWN_TEXT
    return NO_EFFECT if key not in active else "none" if value is None else value


def unknown_options(run: Summary) -> list[str]:
    """The options that the run does not tell and that could have an effect."""
    return [key for key, value in run.config.active.items() if value is UNKNOWN]


def best_label(metric: str) -> str:
    """How the best epoch is labelled: whether the test set chose it."""
    return "best on test" if split_of(metric) == "test" else "best"


def shared_monitor(runs: Sequence[ComparedRun]) -> str:
    """The metric that decides for all runs: on the validation share only where every run has one."""
    on_validation = monitored(validation=True)
    return monitored(validation=bool(runs) and all(run.history.best_metric == on_validation for run in runs))


def compared_metrics(runs: Sequence[ComparedRun], deciding: str) -> list[str]:
    """The metrics of some run, the deciding one first; what the machine did comes by other ways."""
    names = dict.fromkeys([deciding, *(name for run in runs for name in run.history.metrics)])
    return [name for name in names if metric_info(name).per_split]


def metric_rows(runs: Sequence[ComparedRun], metric: str) -> list[MetricRow]:
    """All figures: each metric at the last epoch and at the best, the deciding one at equal points, and the cost."""
    found = [
        MetricRow(name, "last epoch", [_last(run.history, name) for run in runs])
        for name in compared_metrics(runs, metric)
    ]
    bests = [run.history.best(metric) for run in runs]
    found.append(MetricRow(metric, best_label(metric), [best[0] if best else None for best in bests]))
    found.append(MetricRow("epoch", best_label(metric), [best[1] if best else None for best in bests]))
    for axis in ("epochs", "seconds", "images", "FLOPs"):
        spent = [run.spent(axis) for run in runs]
        ends = [each[-1] for each in spent if each]
        if len(ends) > 1:
            point = min(ends)
            found.append(MetricRow(metric, f"{short(point)} {axis}", [run.at(metric, axis, point) for run in runs]))
    found.append(MetricRow("epochs", "trained", [run.summary.epoch for run in runs]))
    found.append(MetricRow("s an epoch", "mean of training", [_pace(run) for run in runs]))
    found.append(MetricRow("FLOPs an image", "forward", [run.plan.flops if run.plan else None for run in runs]))
    found.append(MetricRow("parameters", "all", [run.plan.parameters if run.plan else None for run in runs]))
    return found


def _last(history: History, metric: str) -> float | None:
    return history.epochs[-1].metrics.get(metric) if history.epochs else None


def _pace(run: ComparedRun) -> float | None:
    seconds = run.spent("seconds")
    return seconds[-1] / len(seconds) if seconds else None
