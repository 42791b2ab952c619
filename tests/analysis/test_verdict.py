"""Groups of repeats are compared with the first one, and the outcome is put in a sentence."""

from __future__ import annotations

import numpy as np
import pytest
from support.event_streams import run

from convnn.analysis.fields import get_field
from convnn.analysis.repeats import NoiseFloor, RunGroup, group_repeats
from convnn.analysis.statistics import runs_needed
from convnn.analysis.verdict import compare_groups, signed
from convnn.metrics import Best
from convnn.runs.summary import RecordedData

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
    floor = NoiseFloor(0.44, 60, "the paper", 100)
    elsewhere, same = compared(group(80.0), group(90.0, dataset="cifar100"), group(90.0, K=4), noise_floor=floor)
    assert elsewhere.difference is None and "different data: cifar10 and cifar100" in elsewhere.text
    assert same.distinguishable and "(p < 0.001)" in same.text  # one comparison: nothing to adjust


def on(repeats: RunGroup, **data) -> RunGroup:
    """The repeats as having recorded these data."""
    for repeat in repeats.runs:
        repeat.data = RecordedData(**data)
    return repeats


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"num_classes": 10}, {"num_classes": 4}, "10 and 4 classes"),
        ({"num_classes": 2, "class_digest": "cats"}, {"num_classes": 2, "class_digest": "dogs"}, "classes of other"),
        ({"digests": {"train": "a"}}, {"digests": {"train": "b"}}, "train images or labels"),
        ({"images": {"train": 40, "val": 10}}, {"images": {"train": 400}}, "50 and 400 training images"),
        (
            {"images": {"train": 40, "test": 10}},
            {"images": {"test": 20}, "digests": {"train": "b"}},
            "10 and 20 test images",
        ),
    ],
)
def test_nothing_is_claimed_across_data_that_differ(first, second, words):
    """However many repeats there are, and with a noise floor for single runs."""
    floor = NoiseFloor(0.44, 6, "the paper", 100)
    for values in ((80.0,), (80.0, 80.1, 80.2)):
        groups = [on(group(*values, K=K), **data) for K, data in ((4, first), (9, second))]
        (comparison,) = compared(*groups, noise_floor=floor)
        assert comparison.difference is None and words in comparison.text and "different data" in comparison.text
        assert comparison.json()["distinguishable"] is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            {"digests": {"train": "a"}, "images": {"test": 1}},
            {"digests": {"train": "a"}, "images": {"test": 2}},
        ),  # the digest decides
        ({"digests": {"train": "a"}, "num_classes": 10, "images": {"train": 50}}, {}),  # an old run recorded nothing
        ({"digests": {"train": "a"}}, {"num_classes": 10}),
        ({"images": {"train": 40, "val": 10}}, {"images": {"train": 50}}),  # the same images, divided
    ],
)
def test_a_record_that_is_missing_is_no_difference(first, second):
    groups = [on(group(80.0, 80.1, K=K), **data) for K, data in ((4, first), (9, second))]
    assert compared(*groups)[0].difference is not None


def test_fewer_images_by_an_option_are_no_other_data():
    few = on(group(80.0, 80.1, limit=40), images={"train": 40, "test": 40})
    (comparison,) = compared(on(group(81.0, 81.1), images={"train": 50_000, "test": 10_000}), few)
    assert comparison.difference is not None


@pytest.mark.parametrize("options", [{"limit": 40, "seed": 7}, {"limit": 40}, {"resize": 64}])
def test_digests_of_images_that_options_make_differ_are_no_other_data(options):
    """data.limit draws images by the seed: each repeat has a digest of its own."""
    drawn = on(group(80.0, 80.1, K=4), digests={"train": "a"})
    others = [run("other", test_top1=(80.0, 80.0), **options), run("another", test_top1=(80.2, 80.2), **options)]
    (repeats,) = group_repeats(others, BEST)
    assert compared(drawn, on(repeats, digests={"train": "b"}))[0].difference is not None
    (repeats,) = group_repeats(
        [run("s1", test_top1=(1, 1), limit=40), run("s2", test_top1=(2, 2), limit=40, seed=2)], BEST
    )
    assert len(repeats.runs) == 2


def test_nothing_is_claimed_of_runs_that_did_not_train_to_their_end():
    finished, cut = group(80.0, 80.1), group(10.0, 10.1, K=4)
    cut.runs[0].status = "interrupted"
    (comparison,) = compared(finished, cut)
    assert comparison.difference is None and "trained to its end" in comparison.text
    cut.runs[1].status = "stopped"
    only_finished = group_repeats([*finished.runs, *cut.runs], BEST, only_finished=True)
    for groups in (only_finished, only_finished[::-1]):
        (comparison,) = compared(*groups)
        assert comparison.difference is None and "no run was trained to its end" in comparison.text


def test_repeats_of_equal_values_claim_nothing():
    """A few hundred test images make equal accuracies likely: their deviation of zero is no certainty."""
    (comparison,) = compared(group(80.0, 80.0), group(80.3, 80.3, K=4))
    assert comparison.difference is None and "equal values" in comparison.text
    floor = NoiseFloor(0.0, 1, "repeats", 100)
    assert compared(group(80.0), group(80.3, K=4), noise_floor=floor)[0].difference is None
    assert compared(group(80.0, 80.0), group(80.3, 80.4, K=4))[0].difference is not None


def test_runs_whose_best_epoch_is_by_another_metric_are_not_compared():
    chosen = group(80.0, 80.1, K=4)
    for repeat in chosen.runs:
        repeat.best = Best("val_top1", *repeat.best[1:])
    (comparison,) = compared(group(80.0, 80.1), chosen)
    assert comparison.difference is None and "test_top1 in some runs and by val_top1" in comparison.text


def test_the_runs_needed_are_those_of_the_adjusted_test():
    a, *others = (group(80.0, 80.5, 81.0, K=K) for K in range(1, 6))
    alone, adjusted = compared(a, others[0])[0], compared(a, *others)[0]
    assert alone.runs_needed == runs_needed(0.5, 1.0) and "Holm" not in alone.text
    assert adjusted.runs_needed == runs_needed(0.5, 1.0, 0.05 / 4) > alone.runs_needed
    assert adjusted.text.endswith("to detect 1 point, Holm-adjusted")


def test_a_tiny_p_is_written_as_a_bound():
    (comparison,) = compared(group(80.0, 80.1, 80.05), group(90.0, 90.1, 90.05, K=4))
    assert "(p < 0.001)" in comparison.text


def test_single_runs_are_compared_with_the_noise_floor():
    floor = NoiseFloor(0.44, 6, "the paper", 100)
    (comparison,) = compared(group(80.0), group(80.9, K=4), noise_floor=floor)
    assert comparison.noise_floor is floor and not comparison.distinguishable
    assert "; a single run, compared with a run-to-run standard deviation of 0.44 points; " in comparison.text
    assert comparison.json()["noise"] == {"sd": 0.44, "df": 6, "source": "the paper"}


def test_the_uncertainty_of_a_noise_floor_widens_the_interval():
    """The interval of two single runs covers the truth as often as it says, the floor itself being an estimate."""
    generator, df = np.random.default_rng(3), 6
    covered = 0
    singles = group(80.0), group(80.0, K=4)
    for sample in generator.normal(0.0, 0.4, (2000, 2 + df + 1)):
        (singles[0].values[0], singles[1].values[0]), repeats = sample[:2].tolist(), sample[2:]
        floor = NoiseFloor(float(repeats.std(ddof=1)), df, "repeats", 100)
        difference = compared(*singles, noise_floor=floor, effect_size=0.0)[0].difference  # no search for runs needed
        covered += difference.low <= 0 <= difference.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)  # 3 sd of such a share; the normal one covers 0.90


def test_the_json_has_the_keys_of_the_contract():
    (comparison,) = compared(group(80.0, 81.0, 82.0), group(80.2, 81.4, 82.1, K=4))
    keys = {"difference", "low", "high", "p", "distinguishable", "needed", "noise", "words"}
    assert comparison.json().keys() == keys and comparison.json()["noise"] is None


def test_zero_has_no_sign():
    assert [signed(value, "test_top1") for value in (0.5, -0.5, 0.001, -0.001)] == ["+0.50", "-0.50", "0.00", "0.00"]
