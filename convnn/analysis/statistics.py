"""Statistics of repeated runs: spread, differences and the runs needed to detect one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from convnn.metrics import format_value

LEVEL = 0.05
POWER = 0.8
MOST = 10_000  # runs per group: more than anybody makes


@dataclass(frozen=True)
class MeanEstimate:
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
        return f"{format_value(self.low, metric)} to {format_value(self.high, metric)}"


@dataclass(frozen=True)
class MeanDifference:
    """The mean of one group less that of another, its 95 % interval, and p of its being noise."""

    value: float
    low: float
    high: float
    p: float
    se: float


def estimate_mean(values: Sequence[float]) -> MeanEstimate:
    """n, mean, deviation and the 95 % interval of the mean of at least one value."""
    n, mean = len(values), fmean(values)
    if n < 2:
        return MeanEstimate(n, mean, None, None, None)
    sd = stdev(values)
    reach = _quantile(n - 1) * sd / math.sqrt(n)
    return MeanEstimate(n, mean, sd, mean - reach, mean + reach)


def _quantile(df: float) -> float:
    """Of Student's t: how many standard errors the 95 % interval reaches."""
    from scipy import special

    return float(special.stdtrit(df, 1 - LEVEL / 2))


def welch(a: MeanEstimate, b: MeanEstimate) -> MeanDifference | None:
    """a less b by Welch's method; None where one of them is a single run."""
    if a.sd is None or b.sd is None:
        return None
    va, vb = a.sd**2 / a.n, b.sd**2 / b.n
    if va + vb == 0:
        return _difference(a.mean - b.mean, 0.0, math.inf)
    df = (va + vb) ** 2 / (va**2 / (a.n - 1) + vb**2 / (b.n - 1))
    return _difference(a.mean - b.mean, math.sqrt(va + vb), df)


def _difference(value: float, se: float, df: float) -> MeanDifference:
    from scipy import special

    if se == 0:
        return MeanDifference(value, value, value, float(value == 0), se)
    p = 2 * float(special.ndtr(-abs(value) / se) if math.isinf(df) else special.stdtr(df, -abs(value) / se))
    reach = se * float(special.ndtri(1 - LEVEL / 2) if math.isinf(df) else special.stdtrit(df, 1 - LEVEL / 2))
    return MeanDifference(value, value - reach, value + reach, p, se)


def holm(ps: Sequence[float]) -> list[float]:
    """The p values adjusted for there being several of them."""
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, at in enumerate(sorted(range(len(ps)), key=lambda at: ps[at])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[at]))
        adjusted[at] = largest
    return adjusted


def runs_needed(sd: float, effect: float) -> int | None:
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


def pooled(groups: Iterable[MeanEstimate]) -> tuple[float, int] | None:
    """The common standard deviation of groups of repeats and its degrees of freedom."""
    told = [(group.n - 1, group.sd**2) for group in groups if group.sd is not None]
    df = sum(weight for weight, _ in told)
    return (math.sqrt(sum(weight * variance for weight, variance in told) / df), df) if df else None
