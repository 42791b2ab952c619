"""Repeats of one configuration as one figure with its spread, and what a difference between two such figures is worth.

Welch's t for means of unequal variance (Welch 1947), Holm's step-down adjustment (Holm 1979), power by the noncentral
t distribution. Runs that are held alone are measured against a noise floor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from convnn.fields import Field, number
from convnn.settings import UNKNOWN
from convnn.summaries import Summary

LEVEL = 0.05
POWER = 0.8
MOST = 10_000  # runs per group: more than anybody makes
PUBLISHED = {  # median spread, in points, of the best test accuracy among runs that share configuration and seed
    "cifar10": 0.44,
    "cifar100": 0.55,
}
SOURCE = "172 groups of repeated runs in the published experiments, arXiv 2511.14137"


@dataclass(frozen=True)
class Spread:
    """Repeats in a few numbers; without a second run there is no deviation and no interval."""

    n: int
    mean: float
    sd: float | None
    low: float | None  # of the 95 % interval of the mean
    high: float | None

    def interval(self, metric: str) -> str:
        """The interval as it is shown; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"{number(self.low, metric)} to {number(self.high, metric)}"


@dataclass
class Group:
    """Runs that are the same but for the seed, and their figures: of runs with one trace only one counts."""

    runs: list[Summary] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    copies: int = 0
    without: int = 0  # runs that have no such figure

    @property
    def spread(self) -> Spread | None:
        return spread(self.values) if self.values else None


@dataclass(frozen=True)
class Difference:
    """The mean of one group less that of another, its 95 % interval, and p of its being noise."""

    value: float
    low: float
    high: float
    p: float
    se: float


@dataclass(frozen=True)
class Noise:
    """The standard deviation of single runs, the degrees of freedom it was found with, and where it is from."""

    sd: float
    df: float
    source: str


def repeats(runs: Iterable[Summary], figure: Field) -> list[Group]:
    """The runs in groups, in the order each began."""
    groups: dict[object, Group] = {}
    for run in runs:
        groups.setdefault(run.config.key, Group()).runs.append(run)
    for group in groups.values():
        _fill(group, figure)
    return list(groups.values())


def copied(groups: Iterable[Group]) -> list[str]:
    """What has to be said of runs that are copies, if there are any."""
    count = sum(group.copies for group in groups)
    few = "1 run is a copy of another, epoch for epoch, and counts once"
    return [few if count == 1 else f"{count} runs are copies of others, epoch for epoch, and count once"] * (count > 0)


def _fill(group: Group, figure: Field) -> None:
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


def spread(values: Sequence[float]) -> Spread:
    """n, mean, deviation and the 95 % interval of the mean of at least one value."""
    n, mean = len(values), fmean(values)
    if n < 2:
        return Spread(n, mean, None, None, None)
    sd = stdev(values)
    reach = _quantile(n - 1) * sd / math.sqrt(n)
    return Spread(n, mean, sd, mean - reach, mean + reach)


def _quantile(df: float) -> float:
    """Of Student's t: how many standard errors the 95 % interval reaches."""
    from scipy import special

    return float(special.stdtrit(df, 1 - LEVEL / 2))


def welch(a: Spread, b: Spread) -> Difference | None:
    """a less b by Welch's method; None where one of them is a single run."""
    if a.sd is None or b.sd is None:
        return None
    va, vb = a.sd**2 / a.n, b.sd**2 / b.n
    if va + vb == 0:
        return _difference(a.mean - b.mean, 0.0, math.inf)
    df = (va + vb) ** 2 / (va**2 / (a.n - 1) + vb**2 / (b.n - 1))
    return _difference(a.mean - b.mean, math.sqrt(va + vb), df)


def against_noise(a: Spread, b: Spread, noise: Noise) -> Difference:
    """a less b with the deviation of both taken from the noise floor."""
    return _difference(a.mean - b.mean, noise.sd * math.sqrt(1 / a.n + 1 / b.n), noise.df)


def _difference(value: float, se: float, df: float) -> Difference:
    from scipy import special

    if se == 0:
        return Difference(value, value, value, float(value == 0), se)
    p = 2 * float(special.ndtr(-abs(value) / se) if math.isinf(df) else special.stdtr(df, -abs(value) / se))
    reach = se * float(special.ndtri(1 - LEVEL / 2) if math.isinf(df) else special.stdtrit(df, 1 - LEVEL / 2))
    return Difference(value, value - reach, value + reach, p, se)


def holm(ps: Sequence[float]) -> list[float]:
    """The p values adjusted for there being several of them."""
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, at in enumerate(sorted(range(len(ps)), key=lambda at: ps[at])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[at]))
        adjusted[at] = largest
    return adjusted


def needed(sd: float, effect: float) -> int | None:
    """The fewest runs per group that settle a difference of `effect` four times in five; None: beyond reason."""
    from scipy import special

    if effect <= 0:
        return None

    def power(n: int) -> float:
        df, shift = 2 * n - 2, effect / sd * math.sqrt(n / 2)
        if shift > 30:  # sure, and beyond what the noncentral distribution is computed for
            return 1.0
        edge = special.stdtrit(df, 1 - LEVEL / 2)
        return float(1 - special.nctdtr(df, shift, edge) + special.nctdtr(df, shift, -edge))

    if sd == 0:
        return 2
    low, high = 2, 2
    while power(high) < POWER:
        low, high = high, high * 2
        if high > MOST:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle + 1, high)
    return low


def pooled(groups: Iterable[Spread]) -> tuple[float, int] | None:
    """The common standard deviation of groups of repeats and its degrees of freedom."""
    told = [(group.n - 1, group.sd**2) for group in groups if group.sd is not None]
    df = sum(weight for weight, _ in told)
    return (math.sqrt(sum(weight * variance for weight, variance in told) / df), df) if df else None


def noise_floor(runs: Iterable[Summary], dataset: str, figure: Field) -> Noise | None:
    """How far single runs on a data set lie apart by chance: from the repeats there are, else as published, else None.

    Only runs that were trained to their end count.
    """
    done = [run for run in runs if run.status == "done" and run.config.value("data.dataset") == dataset]
    spreads = [group.spread for group in repeats(done, figure)]
    if found := pooled(each for each in spreads if each is not None):
        sd, df = found
        several = sum(each is not None and each.n > 1 for each in spreads)
        return Noise(sd, df, f"{several} {'group' if several == 1 else 'groups'} of repeats on {dataset} in these runs")
    is_best_accuracy = figure.key == "best" or (figure.best and figure.metric == "test_top1")
    if dataset in PUBLISHED and is_best_accuracy:
        return Noise(PUBLISHED[dataset], math.inf, f"the median spread on {dataset} of {SOURCE}")
    return None
