"""Groups of repeats are compared with the first one, and the outcome is put in a sentence."""

from __future__ import annotations

import math

import pytest
from support.event_streams import run

from convnn.analysis.fields import get_field
from convnn.analysis.repeats import NoiseFloor, RunGroup, group_repeats
from convnn.analysis.verdict import compare_groups, signed

BEST = get_field("best")


def group(*values, field=BEST, **options) -> RunGroup:
    """The repeats of one configuration with these best accuracies."""
    runs = [run(f"r{options}{seed}", seed=seed, test_top1=(v, v), **options) for seed, v in enumerate(values)]
    (repeats,) = group_repeats(runs, field)
    return repeats


def compared(*groups, noise_floor=None, effect_size=1.0, field=BEST):
    return compare_groups(groups, field, effect_size, noise_floor)


def test_groups_that_overlap_are_not_distinguishable_and_the_runs_needed_are_named():
    (comparison,) = compared(group(80.0, 81.0, 82.0), group(80.2, 81.4, 82.1, K=4))
    assert not comparison.distinguishable and comparison.runs_needed == 17 and comparison.noise_floor is None
    assert comparison.text.startswith("+0.23 points (best epoch), 95 % interval -1.99 to +2.46: not distinguishable")
    assert comparison.text.endswith("; about 17 runs per group are needed to detect 1 point")
    assert "Holm" not in comparison.text


def test_groups_that_lie_apart_are_distinguishable():
    (comparison,) = compared(group(80.0, 80.1, 80.2), group(84.0, 84.1, 84.3, K=4))
    assert comparison.distinguishable and ": distinguishable" in comparison.text and "needed" not in comparison.text


@pytest.mark.parametrize(
    ("effect_size", "words"), [(1.0, "detect 1 point"), (2.0, "detect 2 points"), (0.001, "no feasible number of runs")]
)
def test_the_effect_size_is_named_in_the_unit_of_the_metric(effect_size, words):
    (comparison,) = compared(group(80.0, 81.0), group(80.2, 81.4, K=4), effect_size=effect_size)
    assert words in comparison.text


def test_the_sentence_names_the_metric_and_the_epoch():
    last = get_field("test_top1")
    (comparison,) = compared(group(80.0, 81.0, field=last), group(80.2, 81.4, K=4, field=last), field=last)
    assert "(test_top1, last epoch)" in comparison.text


def test_the_p_values_of_several_comparisons_are_adjusted():
    a, b, c = group(80.0, 80.5, 81.0, K=1), group(80.9, 81.4, 82.0, K=2), group(81.0, 81.3, 81.6, K=3)
    (alone,) = compared(a, b)
    both = compared(a, b, c)
    assert both[0].adjusted_p == pytest.approx(min(1.0, 2 * alone.adjusted_p), rel=0.5)
    assert both[0].adjusted_p > alone.adjusted_p
    assert all("Holm-adjusted" in comparison.text for comparison in both)


def test_single_runs_without_a_noise_floor_claim_nothing():
    (comparison,) = compared(group(80.0), group(90.0, K=4))
    assert comparison.text.startswith("not tested: ")
    assert comparison.json() == {"distinguishable": None, "words": comparison.text}


def test_single_runs_on_different_data_sets_claim_nothing():
    floor = NoiseFloor(0.44, math.inf, "the paper")
    elsewhere, same = compared(group(80.0), group(90.0, dataset="cifar100"), group(90.0, K=4), noise_floor=floor)
    assert elsewhere.difference is None and "one data set" in elsewhere.text
    assert same.distinguishable and "(p < 0.001)" in same.text  # one comparison: nothing to adjust


def test_a_tiny_p_is_written_as_a_bound():
    (comparison,) = compared(group(80.0, 80.1, 80.05), group(90.0, 90.1, 90.05, K=4))
    assert "(p < 0.001)" in comparison.text


def test_single_runs_are_compared_with_the_noise_floor():
    floor = NoiseFloor(0.44, math.inf, "the paper")
    (comparison,) = compared(group(80.0), group(80.9, K=4), noise_floor=floor)
    assert comparison.noise_floor is floor and not comparison.distinguishable
    assert "; a single run, compared with a run-to-run standard deviation of 0.44 points; " in comparison.text


def test_the_json_has_the_keys_of_the_contract():
    (comparison,) = compared(group(80.0, 81.0, 82.0), group(80.2, 81.4, 82.1, K=4))
    keys = {"difference", "low", "high", "p", "distinguishable", "needed", "noise", "words"}
    assert comparison.json().keys() == keys and comparison.json()["noise"] is None


def test_zero_has_no_sign():
    assert [signed(value, "test_top1") for value in (0.5, -0.5, 0.001, -0.001)] == ["+0.50", "-0.50", "0.00", "0.00"]
