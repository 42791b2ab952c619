"""Runs grouped into repeats of one configuration, and the noise floor: how far repeats differ by chance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from convnn.analysis.fields import Field, choosing_metrics
from convnn.analysis.statistics import MeanEstimate, estimate_mean, pooled_sd
from convnn.config.recorded import UNKNOWN
from convnn.metrics import format_value, monitored
from convnn.runs.summary import Summary
from convnn.text import plural

PUBLISHED_SD = {  # median sd, in points, of the best test accuracy among runs that share configuration and seed
    "cifar10": 0.44,
    "cifar100": 0.55,
}
PUBLISHED_SOURCE = "172 groups of repeated runs in the published experiments, arXiv 2511.14137"


@dataclass
class RunGroup:
    """Runs that belong together, and the value of each; of runs with the same digest only the first counts."""

    runs: list[Summary] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    copies: int = 0  # runs left out because an earlier one has the same digest
    missing: int = 0  # runs without a finite value

    @property
    def estimate(self) -> MeanEstimate | None:
        """The mean of the values; None without any."""
        return estimate_mean(self.values) if self.values else None


@dataclass(frozen=True)
class NoiseFloor:
    """The standard deviation of single runs that differ by chance alone, in the unit of the metric."""

    sd: float
    df: float  # degrees of freedom it was estimated with
    source: str


def group_repeats(runs: Iterable[Summary], field: Field) -> list[RunGroup]:
    """Return groups of runs that differ in the seed or in options without effect alone, in the order of their first."""
    groups: dict[object, RunGroup] = {}
    for run in runs:
        groups.setdefault(run.config.key, RunGroup()).runs.append(run)
    for group in groups.values():
        _collect_values(group, field)
    return list(groups.values())


def _collect_values(group: RunGroup, field: Field) -> None:
    digests: set[str] = set()
    for run in group.runs:
        value = field.get(run)
        if value is UNKNOWN or not math.isfinite(value):
            group.missing += 1
        elif run.digest is not None and run.digest in digests:
            group.copies += 1
        else:
            group.values.append(value)
            digests.add(run.digest or run.path)


def copies_note(groups: Iterable[RunGroup]) -> list[str]:
    """Return the note that some runs are copies of others, or none."""
    count = sum(group.copies for group in groups)
    return [f"left out: {plural(count, 'copy', 'copies')} of another run, epoch for epoch"] if count else []


def interval_text(estimate: MeanEstimate, metric: str) -> str:
    """Return the confidence interval as text; empty for a single run."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{format_value(estimate.low, metric)} to {format_value(estimate.high, metric)}"


def noise_floor(runs: Iterable[Summary], dataset: str, field: Field) -> NoiseFloor | None:
    """Return how far single runs on a data set differ by chance, from the repeats among runs that are done.

    Without any, the published standard deviation of the best test accuracy; None for another field or data set, and
    where a validation split chose the best epoch of some runs.
    """
    runs = [run for run in runs if run.config.value("data.dataset") == dataset]
    done = [run for run in runs if run.status == "done"]
    estimates = [group.estimate for group in group_repeats(done, field)]
    repeated = [estimate for estimate in estimates if estimate is not None and estimate.n > 1]
    if pooled := pooled_sd(repeated):
        sd, df = pooled
        return NoiseFloor(sd, df, f"{plural(len(repeated), 'group')} of repeats on {dataset} in these runs")
    if dataset in PUBLISHED_SD and choosing_metrics(field, runs) == {monitored(validation=False)}:
        return NoiseFloor(PUBLISHED_SD[dataset], math.inf, f"median on {dataset} of {PUBLISHED_SOURCE}")
    return None
