"""Runs are grouped into repeats, and repeats give the noise floor."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from support.event_streams import run

from convnn.analysis.fields import get_field
from convnn.analysis.repeats import PUBLISHED_SD, copies_note, group_repeats, noise_floor
from convnn.metrics import Best

BEST = get_field("best")


def repeated(values, **options):
    """A run for each value, with seeds 0, 1, ..."""
    return [run(f"r{options}{seed}", seed=seed, test_top1=(v, v), **options) for seed, v in enumerate(values)]


def test_runs_are_repeats_when_only_the_seed_or_an_option_without_effect_differs():
    a = run("a", seed=1, test_top1=(1, 80.0))
    b = run("b", seed=2, test_top1=(1, 81.0), attention_dropout=0.7, tags=["x"])
    c = run("c", seed=1, test_top1=(1, 82.0), K=4)
    groups = group_repeats([a, b, c], BEST)
    assert [[run.name for run in group.runs] for group in groups] == [["a", "b"], ["c"]]
    assert groups[0].values == [80.0, 81.0]


def test_a_copy_counts_once_and_a_run_without_a_value_not_at_all():
    a, copy = run("a", test_top1=(1, 80.0), digest="x"), run("b", test_top1=(1, 80.0), digest="x")
    (group,) = group_repeats([a, copy, run("c")], BEST)
    assert (group.values, group.copies, group.missing) == ([80.0], 1, 1)


@pytest.mark.parametrize(("count", "words"), [(2, "1 copy"), (3, "2 copies")])
def test_copies_are_counted_in_the_singular_and_in_the_plural(count, words):
    runs = [run(f"r{index}", test_top1=(1, 80.0), digest="x") for index in range(count)]
    (note,) = copies_note(group_repeats(runs, BEST))
    assert words in note
    assert copies_note(group_repeats(runs[:1], BEST)) == []


def test_the_noise_floor_is_pooled_from_the_repeats_that_are_done():
    runs = repeated([80.0, 81.0, 82.0]) + repeated([70.0, 70.5], K=4) + repeated([60.0], K=5)
    runs += repeated([10.0, 90.0], dataset="cifar100")
    runs.append(run("cut", K=4, seed=9, status="died", test_top1=(1.0, 1.0)))
    floor = noise_floor(runs, "cifar10", BEST)
    assert floor.sd == pytest.approx(math.sqrt((2 * 1.0 + 1 * 0.125) / 3)) and floor.df == 3
    assert "2 groups of repeats on cifar10" in floor.source


@pytest.mark.parametrize("key", ["best", "best:test_top1"])
def test_without_repeats_the_published_noise_floor_is_used_for_what_was_published_alone(key):
    for dataset, sd in PUBLISHED_SD.items():
        floor = noise_floor(repeated([80.0], dataset=dataset), dataset, get_field(key))
        assert floor.sd == sd and "2511.14137" in floor.source
    assert noise_floor(repeated([80.0]), "digits", get_field(key)) is None
    assert noise_floor(repeated([80.0]), "cifar10", get_field("test_top1")) is None
    assert noise_floor(repeated([80.0]), "cifar10", get_field("best:test_loss")) is None


def test_the_published_noise_floor_is_not_that_of_runs_whose_best_epoch_a_validation_split_chose():
    chosen = [replace(run, best=Best("val_top1", 80.0, 1)) for run in repeated([80.0])]
    assert noise_floor(chosen, "cifar10", BEST) is None
