"""Repeats and what a difference between them is worth: the statistics keep their promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from support.event_streams import run

from convnn.analysis.fields import get_field
from convnn.analysis.repeats import PUBLISHED, NoiseFloor, group_repeats, noise_floor, noise_floor_difference
from convnn.analysis.significance import compare_groups
from convnn.analysis.statistics import MeanEstimate, estimate_mean, holm, pooled, runs_needed, welch

BEST = get_field("best")


def seeds(values, *, first=0, **told):
    return [run(f"r{told}{at}", seed=at, test_top1=(v, v), **told) for at, v in enumerate(values, first)]


def test_runs_are_repeats_when_only_the_seed_or_what_has_no_effect_differs():
    a, b = (
        run("a", seed=1, test_top1=(1, 80.0)),
        run("b", seed=2, test_top1=(1, 81.0), attention_dropout=0.7, tags=["x"]),
    )
    c = run("c", seed=1, test_top1=(1, 82.0), K=4)
    groups = group_repeats([a, b, c], BEST)
    assert [[each.name for each in group.runs] for group in groups] == [["a", "b"], ["c"]]
    assert groups[0].values == [80.0, 81.0]


def test_a_copy_counts_once_and_a_run_without_the_figure_not_at_all():
    a, copy = run("a", test_top1=(1, 80.0), digest="x"), run("b", test_top1=(1, 80.0), digest="x")
    (group,) = group_repeats([a, copy, run("c")], BEST)
    assert (group.values, group.copies, group.without) == ([80.0], 1, 1)


def test_a_single_run_has_no_deviation_and_no_interval():
    assert estimate_mean([81.0]) == MeanEstimate(1, 81.0, None, None, None)


def test_intervals_and_p_are_those_of_another_implementation():
    a, b = [81.2, 80.9, 81.9, 81.1], [79.5, 80.9, 80.1]
    found, theirs = welch(estimate_mean(a), estimate_mean(b)), stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert (found.p, found.low, found.high) == pytest.approx((theirs.pvalue, interval.low, interval.high))
    low, high = stats.t.interval(0.95, 3, np.mean(a), stats.sem(a))
    assert (estimate_mean(a).low, estimate_mean(a).high) == pytest.approx((low, high))


@pytest.mark.parametrize(("n", "m", "ratio"), [(3, 3, 1.0), (5, 5, 3.0), (4, 10, 0.5), (8, 8, 1.0)])
def test_intervals_cover_the_truth_19_times_in_20(n, m, ratio):
    draws = np.random.default_rng(7)
    a, b = draws.normal(80.0, 1.0, (4000, n)), draws.normal(79.0, ratio, (4000, m))
    covered = sum(
        found.low <= 1.0 <= found.high
        for found in (welch(estimate_mean(x), estimate_mean(y)) for x, y in zip(a.tolist(), b.tolist(), strict=True))
    )
    assert 0.93 <= covered / 4000 <= 0.97


def test_groups_without_any_spread_are_told_apart_by_their_means_alone():
    same, other = estimate_mean([80.0, 80.0]), estimate_mean([81.0, 81.0])
    assert welch(same, same).p == 1.0 and welch(other, same).p == 0.0
    assert welch(other, same).low == welch(other, same).high == 1.0


def test_holm_adjusts_step_by_step_and_never_beyond_one():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([0.02]) == [0.02] and holm([]) == []


@pytest.mark.parametrize(("sd", "effect"), [(0.44, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, 0.25), (0.3, 1.0)])
def test_the_sample_that_settles_an_effect_is_the_smallest_with_power_80(sd, effect):
    def power(n):
        df, shift, edge = 2 * n - 2, effect / sd * math.sqrt(n / 2), stats.t.ppf(0.975, 2 * n - 2)
        return stats.nct.sf(edge, df, shift) + stats.nct.cdf(-edge, df, shift)

    n = runs_needed(sd, effect)
    assert power(n) >= 0.8 and (n == 2 or power(n - 1) < 0.8)


def test_the_sample_is_two_without_spread_and_unknown_beyond_reason():
    assert runs_needed(0.0, 1.0) == 2 and runs_needed(50.0, 0.01) is None and runs_needed(1.0, 0.0) is None


def test_the_noise_floor_comes_from_the_repeats_there_are():
    runs = seeds([80.0, 81.0, 82.0]) + seeds([70.0, 70.5], K=4) + seeds([60.0], K=5)
    runs += [*seeds([10.0, 90.0], dataset="cifar100"), run("cut", K=4, seed=9, status="died", test_top1=(1.0, 1.0))]
    noise = noise_floor(runs, "cifar10", BEST)
    assert noise.sd == pytest.approx(math.sqrt((2 * 1.0 + 1 * 0.125) / 3)) and noise.df == 3
    assert "2 groups of repeats on cifar10" in noise.source


@pytest.mark.parametrize("key", ["best", "best:test_top1"])
def test_without_repeats_the_noise_floor_is_the_published_one_and_only_for_what_was_published(key):
    for dataset, sd in PUBLISHED.items():
        noise = noise_floor(seeds([80.0], dataset=dataset), dataset, get_field(key))
        assert noise.sd == sd and "2511.14137" in noise.source
    assert noise_floor(seeds([80.0]), "digits", get_field(key)) is None
    assert noise_floor(seeds([80.0]), "cifar10", get_field("test_top1")) is None
    assert noise_floor(seeds([80.0]), "cifar10", get_field("best:test_loss")) is None


def test_single_runs_are_held_against_the_noise_floor():
    noise = NoiseFloor(0.44, math.inf, "somewhere")
    near, far = (
        noise_floor_difference(estimate_mean([82.0 + more]), estimate_mean([82.0]), noise) for more in (1.0, 1.5)
    )
    assert near.p > 0.05 > far.p and near.high - near.value == pytest.approx(1.96 * 0.44 * math.sqrt(2), rel=1e-3)


def words(*groups, noise=None, effect=1.0):
    return [
        each.words for each in compare_groups([group_repeats(runs, BEST)[0] for runs in groups], BEST, effect, noise)
    ]


def test_what_cannot_be_told_apart_is_said_in_words_with_what_would_settle_it():
    (said,) = words(seeds([80.0, 81.0, 82.0]), seeds([80.2, 81.4, 82.1], K=4))
    assert "not distinguishable" in said and "17 runs per group would settle a difference of 1 point" in said
    assert "Holm" not in said and said.startswith("+0.23 points, 95 % interval -1.99 to +2.46: ")


def test_what_can_be_told_apart_is_said_to_be():
    (said,) = words(seeds([80.0, 80.1, 80.2]), seeds([84.0, 84.1, 84.3], K=4))
    assert ": distinguishable" in said and "would settle" not in said


def test_more_than_two_groups_are_adjusted_and_it_is_said():
    a, b, c = [80.0, 80.5, 81.0], [80.9, 81.4, 82.0], [81.0, 81.3, 81.6]
    alone = compare_groups([group_repeats(seeds(v, K=k), BEST)[0] for k, v in ((1, a), (2, b))], BEST, 1.0, None)
    both = compare_groups([group_repeats(seeds(v, K=k), BEST)[0] for k, v in ((1, a), (2, b), (3, c))], BEST, 1.0, None)
    assert both[0].p == pytest.approx(min(1.0, 2 * alone[0].p), rel=0.5) and both[0].p > alone[0].p
    assert all("Holm-adjusted" in each.words for each in both)


def test_single_runs_without_a_noise_floor_claim_nothing():
    (said,) = words(seeds([80.0]), seeds([90.0], K=4))
    assert said.startswith("nothing is claimed")
    (verdict,) = compare_groups([group_repeats(seeds([80.0], K=k), BEST)[0] for k in (1, 2)], BEST, 1.0, None)
    assert verdict.json() == {"distinguishable": None, "words": said}


def test_single_runs_on_different_data_sets_claim_nothing_and_say_why():
    noise = NoiseFloor(0.44, math.inf, "the paper")
    other, same = words(seeds([80.0]), seeds([90.0], dataset="cifar100"), seeds([90.0], K=4), noise=noise)
    assert "one data set" in other and ": distinguishable (p < 0.001)" in same  # one comparison: nothing to adjust


def test_a_tiny_p_is_not_shown_with_digits_it_has_not():
    assert "(p < 0.001)" in words(seeds([80.0, 80.1, 80.05]), seeds([90.0, 90.1, 90.05], K=4))[0]


def test_what_single_runs_are_held_against_is_said():
    (said,) = words(seeds([80.0]), seeds([80.9], K=4), noise=NoiseFloor(0.44, math.inf, "the paper"))
    assert "not distinguishable" in said and "; single runs, held against a noise floor of 0.44 points; " in said


def test_deviations_are_pooled_by_their_degrees_of_freedom():
    assert pooled([estimate_mean([1.0])]) is None
    assert pooled([estimate_mean([0.0, 2.0]), estimate_mean([0.0, 0.0, 0.0])]) == pytest.approx((math.sqrt(2 / 3), 3))
