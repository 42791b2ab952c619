"""The metrics of a run in one table: how each is computed, which direction is better and how it is formatted.

A score function takes logits (B, classes) and targets (B,) and returns the score of each image, 0 to 1, as (B,). Its
mean over a split is recorded in percent as `train_NAME`, `test_NAME` and, with a validation split, `val_NAME`; that of
the moving average of the weights as `ema_test_NAME` and `ema_val_NAME`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Score = Callable[["Tensor", "Tensor"], "Tensor"]
SPLITS = ("train", "val", "test")
ALL_SPLITS = (*SPLITS, "ema_val", "ema_test")  # the last two with the moving average of the weights


def top(k: int) -> Score:
    """Return the score "the target is among the k highest logits" (all of them where there are fewer classes)."""

    def score(logits: Tensor, targets: Tensor) -> Tensor:
        classes = logits.topk(min(k, logits.shape[1]), dim=1).indices  # (B, k)
        return (classes == targets[:, None]).any(dim=1)  # (B,)

    return score


@dataclass(frozen=True)
class Metric:
    """A row of the table: a metric under its name without the split."""

    name: str
    better: Literal["higher", "lower"] | None = None
    unit: str = ""
    decimals: int | None = None  # None: four significant digits
    score: Score | None = None  # None: measured by the trainer, not computed from logits and targets
    per_split: bool = False
    hardware: bool = False  # depends on the machine
    of_layers: bool = False  # a mean over the layers, which LayerStatistics events hold

    @property
    def traced(self) -> bool:
        """Whether it is a part of the digest of a run."""
        return not (self.hardware or self.of_layers)


class Best(NamedTuple):
    """The best value of the monitored metric so far, and its epoch."""

    metric: str
    value: float
    epoch: int


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("loss", "lower", decimals=4, per_split=True),
        Metric("top1", "higher", "%", 2, top(1), per_split=True),
        Metric("top5", "higher", "%", 2, top(5), per_split=True),
        Metric("lr"),
        Metric("grad_norm"),
        Metric("images_per_s", "higher", "images/s", hardware=True),
        Metric("train_s", "lower", "s", hardware=True),
        Metric("eval_s", "lower", "s", hardware=True),
        Metric("peak_bytes", "lower", "bytes", hardware=True),
        Metric("neighbors_outside", unit="%", decimals=2, of_layers=True),
        Metric("neighbors_distance", unit="px", decimals=2, of_layers=True),
        Metric("neighbors_padding", unit="%", decimals=2, of_layers=True),
        Metric("neighbors_hub", unit="times", decimals=1, of_layers=True),
        Metric("neighbors_gini", decimals=3, of_layers=True),
        Metric("neighbors_overlap", unit="%", decimals=2, of_layers=True),
        Metric("branch_activation", unit="%", decimals=2, of_layers=True),
        Metric("branch_weight", unit="%", decimals=2, of_layers=True),
        Metric("branch_gradient", unit="%", decimals=2, of_layers=True),
    )
}
LAYER_METRICS = {name: metric for name, metric in METRICS.items() if metric.of_layers}
# of the machine while it trains: recorded with steps, part of no epoch and digest
SYSTEM_METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("data_loading", unit="%"),  # share of the training time that waits for batches
        Metric("gpu_util", unit="%"),
        Metric("cpu_util", unit="%"),  # of the CPUs that the process may use, by all processes
        Metric("gpu_bytes", unit="bytes"),  # in use on the card, by all processes
        Metric("rss_bytes", unit="bytes"),  # resident memory of the process
        Metric("gpu_power", unit="W"),
        Metric("gpu_temp", unit="C"),
        Metric("cpu_temp", unit="C"),
        Metric("gpu_clock", unit="MHz"),
        Metric("cpu_clock", unit="MHz"),
    )
}
SCORES: dict[str, Score] = {name: metric.score for name, metric in METRICS.items() if metric.score is not None}


def known_metric_names() -> list[str]:
    """Return every name a run of this version can record, with its split where it has one."""
    per_split = [name for name, metric in METRICS.items() if metric.per_split]
    names = [f"{split}_{name}" for split in ALL_SPLITS for name in per_split]
    return names + [name for name, metric in METRICS.items() if not metric.per_split]


@functools.lru_cache(1000)
def metric_info(name: str) -> Metric:
    """Return the row of a recorded name: that of `top1` for `test_top1` and `ema_test_top1`.

    A name that is not in the table, of an imported run or of another version, gets a row of its own.
    """
    words = name.split("_")
    for start in range(len(words)):
        if row := METRICS.get("_".join(words[start:])):
            return row
    return Metric(name, per_split=split_of(name) is not None)


def split_of(name: str) -> str | None:
    """Return the split that a metric was measured on: "train", "val" or "test"; None for metrics such as `lr`."""
    if name in METRICS:
        return None
    return next((word for word in name.split("_") if word in SPLITS), None)


def lower_is_better(name: str) -> bool:
    """Return whether a lower value is better: for losses, times and memory, not for accuracies and speeds."""
    return metric_info(name).better == "lower"


def direction_text(name: str) -> str:
    """Return which values of a metric are better, in words."""
    direction = metric_info(name).better
    return f"{direction} is better" if direction else "neither direction is better"


def best_of(name: str) -> Callable[..., Any]:
    """Return `min` or `max`, which chooses the best of several values."""
    return min if lower_is_better(name) else max


def monitored(*, validation: bool) -> str:
    """Return the metric that decides which epoch is best: on the validation split if the run has one."""
    return "val_top1" if validation else "test_top1"


def format_value(value: float, name: str = "") -> str:
    """Return a value with the digits of its metric; without a metric, with four significant digits."""
    if math.isnan(value):
        return "NaN"
    decimals = metric_info(name).decimals
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
