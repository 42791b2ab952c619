"""The statistics agree with scipy's, and intervals and powers are what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convnn.analysis.statistics import (
    ALPHA,
    MeanEstimate,
    difference_with_sd,
    estimate_mean,
    holm,
    pooled_sd,
    runs_needed,
    welch,
    welch_power,
)


def test_a_single_value_has_no_deviation_and_no_interval():
    estimate = estimate_mean([81.0])
    assert estimate == MeanEstimate(1, 81.0, None) and estimate.low is None and estimate.high is None
    assert welch(estimate_mean([81.0]), estimate_mean([80.0, 81.0])) is None


def test_intervals_and_p_values_are_those_of_scipy():
    from scipy import stats

    a, b = [81.2, 80.9, 81.9, 81.1], [79.5, 80.9, 80.1]
    difference, expected = welch(estimate_mean(a), estimate_mean(b)), stats.ttest_ind(a, b, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert (difference.p_value, difference.low, difference.high) == pytest.approx(
        (expected.pvalue, interval.low, interval.high)
    )
    low, high = stats.t.interval(0.95, 3, np.mean(a), stats.sem(a))
    assert (estimate_mean(a).low, estimate_mean(a).high) == pytest.approx((low, high))


@pytest.mark.parametrize(("n", "m", "ratio"), [(3, 3, 1.0), (5, 5, 3.0), (4, 10, 0.5), (8, 8, 1.0)])
def test_intervals_cover_the_true_difference_in_95_percent(n, m, ratio):
    generator = np.random.default_rng(7)
    a, b = generator.normal(80.0, 1.0, (4000, n)), generator.normal(79.0, ratio, (4000, m))
    differences = [welch(estimate_mean(x), estimate_mean(y)) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    covered = sum(difference.low <= 1.0 <= difference.high for difference in differences)
    assert 0.93 <= covered / 4000 <= 0.97  # Welch's method is approximate, 4000 samples vary by 0.7 % at two sd


def test_groups_without_variance_are_compared_by_their_means_alone():
    low, high = estimate_mean([80.0, 80.0]), estimate_mean([81.0, 81.0])
    assert welch(low, low).p_value == 1.0 and welch(high, low).p_value == 0.0
    assert welch(high, low).low == welch(high, low).high == 1.0


def test_a_known_deviation_gives_the_interval_of_the_normal_distribution():
    single = estimate_mean([82.0])
    near, far = (difference_with_sd(estimate_mean([82.0 + more]), single, 0.44, math.inf) for more in (1.0, 1.5))
    assert near.p_value > 0.05 > far.p_value
    assert near.high - near.value == pytest.approx(1.96 * 0.44 * math.sqrt(2), rel=1e-3)  # 1.96 has three digits


def test_holm_multiplies_step_by_step_and_never_exceeds_one():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([0.02]) == [0.02] and holm([]) == []


def detected(n, sd, alpha, effect_size=1.0, samples=20_000):
    """The share of simulated pairs of groups that scipy's Welch test finds different."""
    from scipy import stats

    generator = np.random.default_rng(n)
    a, b = generator.normal(0.0, sd, (samples, n)), generator.normal(effect_size, sd, (samples, n))
    return (stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue < alpha).mean()


@pytest.mark.parametrize(("sd", "alpha"), [(0.3, 0.05), (0.44, 0.05), (0.44, 0.025), (0.8, 0.05 / 7), (1.5, 0.05)])
def test_the_runs_needed_are_the_fewest_that_detect_80_percent_of_simulated_differences(sd, alpha):
    n = runs_needed(sd, 1.0, alpha)
    assert detected(n, sd, alpha) > 0.79 and detected(n - 1, sd, alpha) < 0.81  # 0.003 is the sd of such a share


@pytest.mark.parametrize(("n", "effect", "alpha"), [(2, 0.0, 0.05), (2, 9.0, 0.05), (3, 2.5, 0.001), (20, 0.5, 0.01)])
def test_the_power_is_that_of_simulated_tests(n, effect, alpha):
    assert welch_power(n, effect, alpha) == pytest.approx(detected(n, 1.0, alpha, effect), abs=0.012)  # 3 sd and ours


@pytest.mark.parametrize(("n", "effect"), [(64, 0.5), (500, 0.2), (6281, 0.05)])
def test_the_power_with_many_runs_is_that_of_the_pooled_test(n, effect):
    from scipy import stats

    df, noncentrality = 2 * n - 2, effect * math.sqrt(n / 2)
    expected = stats.nct.sf(stats.t.ppf(0.975, df), df, noncentrality)
    assert welch_power(n, effect) == pytest.approx(expected, abs=2e-3)


def test_more_comparisons_need_more_runs():
    needed = [runs_needed(1.0, 1.0, 0.05 / comparisons) for comparisons in (1, 2, 5, 50)]
    assert needed == sorted(set(needed))


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_without_a_difference_adjusted_tests_find_one_in_at_most_5_percent(groups):
    """Groups of three runs of one distribution, all compared with the first."""
    samples = np.random.default_rng(groups).normal(80.0, 0.5, (2000, groups, 3))
    false_claims = 0
    for first, *others in samples.tolist():
        reference = estimate_mean(first)
        p_values = [welch(estimate_mean(values), reference).p_value for values in others]
        false_claims += min(holm(p_values)) < ALPHA
    assert false_claims / 2000 < 0.06  # 0.005 is the sd of such a share at 5 %


def test_two_runs_are_needed_without_variance_and_no_number_is_given_beyond_reason():
    assert runs_needed(0.0, 1.0) == 2 and runs_needed(50.0, 0.01) is None and runs_needed(1.0, 0.0) is None


def test_deviations_are_pooled_by_their_degrees_of_freedom():
    assert pooled_sd([estimate_mean([1.0])]) is None
    estimates = [estimate_mean([0.0, 2.0]), estimate_mean([0.0, 0.0, 0.0])]
    assert pooled_sd(estimates) == pytest.approx((math.sqrt(2 / 3), 3))
