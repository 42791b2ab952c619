"""Statistics of repeated runs: means with confidence intervals, differences of means, and the runs needed for one.

Everything here is numbers in the unit of the metric; nothing knows of runs.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ALPHA = 0.05  # a difference is significant where its p is below
CONFIDENCE_LEVEL = 1 - ALPHA
POWER = 0.8  # the probability of detecting a difference that is there
MAX_RUNS = 8192  # per group: more than anybody trains
VARIANCE_RATIOS, VARIANCES = 32, 512  # quantiles that a power is averaged over: its error is below 0.002
CACHED_THRESHOLDS = 64  # arrays of 128 KiB: a search for the runs needed visits the same few counts each time


@dataclass(frozen=True)
class MeanEstimate:
    """The mean of n values, their standard deviation and the confidence interval of the mean; one value has neither.

    The interval is mean ± t * sd / sqrt(n); it is computed when it is asked for, since that loads scipy.
    """

    n: int
    mean: float
    sd: float | None

    @property
    def low(self) -> float | None:
        if self._margin is None:
            return None
        return self.mean - self._margin

    @property
    def high(self) -> float | None:
        if self._margin is None:
            return None
        return self.mean + self._margin

    @cached_property
    def _margin(self) -> float | None:
        if self.sd is None:
            return None
        return _critical_value(self.n - 1) * self.sd / math.sqrt(self.n)


@dataclass(frozen=True)
class MeanDifference:
    """The difference of two means, its confidence interval, and the two-sided p of there being none."""

    value: float
    low: float
    high: float
    p_value: float


def proportion_interval(share: float, count: int) -> tuple[float, float]:
    """Return the confidence interval of a proportion that was measured on `count` independent images.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    z = NormalDist().inv_cdf(1 - ALPHA / 2)
    center = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    margin = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, center - margin), min(1.0, center + margin)


def estimate_mean(values: Sequence[float]) -> MeanEstimate:
    """Return the mean of at least one value, with its standard deviation and confidence interval."""
    sd = stdev(values) if len(values) > 1 else None
    return MeanEstimate(len(values), fmean(values), sd)


def welch(a: MeanEstimate, b: MeanEstimate) -> MeanDifference | None:
    """Return a - b by Welch's t-test for unequal variances; None where one of them is a single run.

    t = (mean_a - mean_b) / sqrt(v_a + v_b) with v = sd² / n, and
    df = (v_a + v_b)² / (v_a² / (n_a - 1) + v_b² / (n_b - 1)).

    Source: B. L. Welch, The generalization of "Student's" problem, Biometrika 34 (1947).
    """
    if a.sd is None or b.sd is None:
        return None
    va, vb = a.sd**2 / a.n, b.sd**2 / b.n
    if va + vb == 0:
        return _difference(a.mean - b.mean, 0.0, math.inf)
    df = (va + vb) ** 2 / (va**2 / (a.n - 1) + vb**2 / (b.n - 1))
    return _difference(a.mean - b.mean, math.sqrt(va + vb), df)


def difference_with_sd(a: MeanEstimate, b: MeanEstimate, sd: float, df: float) -> MeanDifference:
    """Return a - b where every run of both has the standard deviation sd, estimated with df degrees of freedom."""
    return _difference(a.mean - b.mean, sd * math.sqrt(1 / a.n + 1 / b.n), df)


def _difference(value: float, standard_error: float, df: float) -> MeanDifference:
    if standard_error == 0:
        return MeanDifference(value, value, value, float(value == 0))
    margin = standard_error * _critical_value(df)
    p_value = 2 * _cumulative(-abs(value) / standard_error, df)
    return MeanDifference(value, value - margin, value + margin, p_value)


def _critical_value(df: float) -> float:
    """Return how many standard errors the confidence interval reaches: the 97.5 % quantile of Student's t."""
    from scipy import special

    if math.isinf(df):
        return float(special.ndtri(1 - ALPHA / 2))
    return float(special.stdtrit(df, 1 - ALPHA / 2))


def _cumulative(t: float, df: float) -> float:
    """Return P(T <= t) of Student's t, or of the normal distribution for infinite df."""
    from scipy import special

    return float(special.ndtr(t) if math.isinf(df) else special.stdtr(df, t))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number, in their order.

    The i-th smallest of m is multiplied by m - i + 1, and none is below a smaller one.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979).
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    ascending = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(ascending):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def runs_needed(sd: float, effect_size: float, alpha: float = ALPHA) -> int | None:
    """Return the fewest runs per group with which Welch's t-test detects a difference of `effect_size` in 80 %.

    `sd`, of the runs of both groups, and `effect_size` have the unit of the metric. `alpha` is the level of the test:
    of m comparisons that are adjusted together, ALPHA / m, at which Holm's method rejects whatever the others show.
    None: more runs than MAX_RUNS, or an effect of nothing.
    """
    if effect_size <= 0:
        return None
    if sd == 0:
        return 2
    counts = range(2, MAX_RUNS + 1)
    index = bisect_left(counts, POWER, key=lambda n: welch_power(n, effect_size / sd, alpha))  # it grows with n
    if index < len(counts):
        return counts[index]
    return None


def detectable_effect(sd: float, n: int) -> float | None:
    """Return the least difference that Welch's t-test of two groups of n runs detects in 80 %, in the unit of `sd`.

    None of single runs, which have no variance to be tested by.
    """
    if n < 2:
        return None
    low, high = 0.0, 1.0
    while welch_power(n, high) < POWER:
        low, high = high, 2 * high
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        if welch_power(n, middle) < POWER:
            low = middle
        else:
            high = middle
    return sd * high


def welch_power(n: int, effect: float, alpha: float = ALPHA) -> float:
    """Return the probability that Welch's t-test of two groups of n runs detects a difference of `effect` deviations.

    Of two groups with one variance, S = (n - 1) * (s_a² + s_b²) is chi-squared with 2 n - 2 degrees of freedom and
    b = s_a² / (s_a² + s_b²) is Beta((n - 1) / 2, (n - 1) / 2), independent of S. The test rejects where
    |Z + effect * sqrt(n / 2)| > c * sqrt(S / (2 n - 2)), Z standard normal and c the critical value of Student's t
    with (n - 1) / (b² + (1 - b)²) degrees of freedom. Its probability is averaged over quantiles of b and S.
    """
    from scipy import special

    thresholds = _welch_thresholds(n, alpha)
    noncentrality = effect * math.sqrt(n / 2)
    rejected = special.ndtr(noncentrality - thresholds) + special.ndtr(-noncentrality - thresholds)
    return float(rejected.mean())


@lru_cache(maxsize=CACHED_THRESHOLDS)
def _welch_thresholds(n: int, alpha: float) -> np.ndarray:
    """Return what |Z + effect * sqrt(n / 2)| of `welch_power` is compared with, by quantiles of b and S."""
    import numpy as np
    from scipy import special

    ratio = special.betaincinv((n - 1) / 2, (n - 1) / 2, (np.arange(VARIANCE_RATIOS) + 0.5) / VARIANCE_RATIOS)
    chi2 = 2 * special.gammaincinv(n - 1, (np.arange(VARIANCES) + 0.5) / VARIANCES)
    critical = special.stdtrit((n - 1) / (ratio**2 + (1 - ratio) ** 2), 1 - alpha / 2)
    thresholds: np.ndarray = critical[:, None] * np.sqrt(chi2 / (2 * n - 2))
    return thresholds


def pooled_sd(estimates: Iterable[MeanEstimate]) -> tuple[float, int] | None:
    """Return the common standard deviation of groups and its degrees of freedom; None where no group has two values.

    sd² = sum of (n - 1) * sd² over the groups / sum of (n - 1).
    """
    variances = [(estimate.n - 1, estimate.sd**2) for estimate in estimates if estimate.sd is not None]
    df = sum(weight for weight, _ in variances)
    if not df:
        return None
    return math.sqrt(sum(weight * variance for weight, variance in variances) / df), df
