"""Repeats of one configuration as one figure with its spread, and what a difference between two such figures is worth.

Welch's t for means of unequal variance (Welch 1947), Holm's step-down adjustment (Holm 1979), power by the noncentral
t distribution. Runs that are held alone are measured against a noise floor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from convnn.analysis.fields import Field
from convnn.analysis.statistics import MeanDifference, MeanEstimate, _difference, estimate_mean, pooled
from convnn.config.recorded import UNKNOWN
from convnn.metrics import monitored
from convnn.runs.summary import Summary

PUBLISHED = {  # median spread, in points, of the best test accuracy among runs that share configuration and seed
    "cifar10": 0.44,
    "cifar100": 0.55,
}
SOURCE = "172 groups of repeated runs in the published experiments, arXiv 2511.14137"


@dataclass
class RunGroup:
    """Runs that are the same but for the seed, and their figures: of runs with one trace only one counts."""

    runs: list[Summary] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    copies: int = 0
    without: int = 0  # runs that have no such figure

    @property
    def estimate(self) -> MeanEstimate | None:
        return estimate_mean(self.values) if self.values else None


@dataclass(frozen=True)
class NoiseFloor:
    """The standard deviation of single runs, the degrees of freedom it was found with, and where it is from."""

    sd: float
    df: float
    source: str


def group_repeats(runs: Iterable[Summary], figure: Field) -> list[RunGroup]:
    """The runs in groups, in the order each began."""
    groups: dict[object, RunGroup] = {}
    for run in runs:
        groups.setdefault(run.config.key, RunGroup()).runs.append(run)
    for group in groups.values():
        _fill(group, figure)
    return list(groups.values())


def copied(groups: Iterable[RunGroup]) -> list[str]:
    """What has to be said of runs that are copies, if there are any."""
    count = sum(group.copies for group in groups)
    few = "1 run is a copy of another, epoch for epoch, and counts once"
    return [few if count == 1 else f"{count} runs are copies of others, epoch for epoch, and count once"] * (count > 0)


def _fill(group: RunGroup, figure: Field) -> None:
    traces: set[str] = set()
    for run in group.runs:
        value = figure.get(run)
        if value is UNKNOWN or not math.isfinite(value):
            group.without += 1
        elif run.digest is not None and run.digest in traces:
            group.copies += 1
        else:
            group.values.append(value)
            traces.add(run.digest or run.path)


def noise_floor_difference(a: MeanEstimate, b: MeanEstimate, noise: NoiseFloor) -> MeanDifference:
    """a less b with the deviation of both taken from the noise floor."""
    return _difference(a.mean - b.mean, noise.sd * math.sqrt(1 / a.n + 1 / b.n), noise.df)


def noise_floor(runs: Iterable[Summary], dataset: str, figure: Field) -> NoiseFloor | None:
    """How far single runs on a data set lie apart by chance: from the repeats there are, else as published, else None.

    Only runs that were trained to their end count.
    """
    done = [run for run in runs if run.status == "done" and run.config.value("data.dataset") == dataset]
    spreads = [group.estimate for group in group_repeats(done, figure)]
    if found := pooled(each for each in spreads if each is not None):
        sd, df = found
        several = sum(each is not None and each.n > 1 for each in spreads)
        return NoiseFloor(
            sd, df, f"{several} {'group' if several == 1 else 'groups'} of repeats on {dataset} in these runs"
        )
    is_best_accuracy = figure.key == "best" or (figure.best and figure.metric == monitored(validation=False))
    if dataset in PUBLISHED and is_best_accuracy:
        return NoiseFloor(PUBLISHED[dataset], math.inf, f"the median spread on {dataset} of {SOURCE}")
    return None
