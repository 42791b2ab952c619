"""Runs are grouped into repeats, and repeats give the noise floor."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from support.event_streams import run

from convnn.analysis.fields import get_field
from convnn.analysis.repeats import PUBLISHED_SD, copies_note, drawn_note, group_repeats, noise_floor
from convnn.metrics import Best
from convnn.runs.summary import RecordedData

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


def test_a_fork_is_no_independent_repeat_of_its_run_or_of_another_fork_of_it():
    a, b = repeated([80.0, 81.0])
    forks = [replace(fork, name=fork.name + "f", forked_from="r") for fork in repeated([90.0, 91.0, 92.0])]
    (group,) = group_repeats([forks[0], a, b, forks[1]], BEST)
    assert (group.values, group.forks) == ([80.0, 81.0], 2)
    assert copies_note([group]) == ["left out: 2 forks of another run: no independent repeats"]
    (group,) = group_repeats(forks, BEST)
    assert (group.values, group.forks) == ([90.0], 2)
    (group,) = group_repeats([forks[0], replace(forks[1], forked_from="s")], BEST)
    assert (group.values, group.forks) == ([90.0, 91.0], 0)
    assert group_repeats([forks[0]], BEST)[0].values == [90.0]


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
    floor = noise_floor(runs, runs[:1], BEST)
    assert floor.sd == pytest.approx(math.sqrt((2 * 1.0 + 1 * 0.125) / 3)) and floor.df == 3
    assert "2 groups of repeats on cifar10" in floor.source


def test_short_trials_do_not_enter_a_noise_floor():
    compared = repeated([80.0], epoch=100)
    trials = repeated([30.0, 50.0], epoch=49, K=4) + repeated([40.0, 60.0], epoch=100, K=5, limit=400)
    for trial in trials[2:]:
        trial.data = RecordedData(images={"train": 400, "test": 400})
    repeats = repeated([80.0, 81.0], epoch=50, K=6)
    floor = noise_floor(compared + trials + repeats, compared, BEST)
    assert floor.df == 1 and floor.sd == pytest.approx(math.sqrt(0.5)) and floor.epochs == 50
    assert noise_floor(compared + trials, compared, BEST).sd == PUBLISHED_SD["cifar10"]


def test_repeats_on_other_data_and_of_another_metric_do_not_enter_a_noise_floor():
    compared = repeated([80.0], dataset="digits")
    changed, chosen = (repeated([30.0, 50.0], dataset="digits", K=K) for K in (4, 5))
    compared[0].data = RecordedData(digests={"train": "a"})
    for repeat in changed:
        repeat.data = RecordedData(digests={"train": "b"})
    for repeat in chosen:
        repeat.best = Best("val_top1", repeat.best.value, 1)
    assert noise_floor(compared + changed + chosen, compared, BEST) is None
    chosen[0].best = chosen[1].best = Best("test_top1", 80.0, 1)
    assert noise_floor(compared + changed + chosen, compared, BEST).df == 1


@pytest.mark.parametrize("key", ["best", "best:test_top1"])
def test_without_repeats_the_published_noise_floor_is_used_for_what_was_published_alone(key):
    for dataset, sd in PUBLISHED_SD.items():
        runs = repeated([80.0], dataset=dataset)
        floor = noise_floor(runs, runs, get_field(key))
        assert floor.sd == sd and "2511.14137" in floor.source
        assert floor.df == 6  # it is an estimate from few repeats
    runs = repeated([80.0], dataset="digits")
    assert noise_floor(runs, runs, get_field(key)) is None
    runs = repeated([80.0])
    assert noise_floor(runs, [], get_field(key)) is None
    assert noise_floor(runs, runs, get_field("test_top1")) is None
    assert noise_floor(runs, runs, get_field("best:test_loss")) is None


def test_the_published_noise_floor_is_not_that_of_runs_whose_best_epoch_a_validation_split_chose():
    chosen = [replace(run, best=Best("val_top1", 80.0, 1)) for run in repeated([80.0])]
    assert noise_floor(chosen, chosen, BEST) is None


def test_runs_on_data_that_differ_are_no_repeats():
    runs = repeated([80.0, 81.0, 82.0], dataset="folder")
    for repeat, digests in zip(runs, ({"train": "a"}, {"train": "b"}, {}), strict=True):
        repeat.data = RecordedData(digests=digests)
    assert [[run.name for run in group.runs] for group in group_repeats(runs, BEST)] == [
        [runs[0].name, runs[2].name],
        [runs[1].name],
    ]


@pytest.mark.parametrize(
    ("first", "second", "are_repeats"),
    [
        ({"train": "a", "test": "b"}, {"train": "a", "test": "b"}, True),  # one path typed in two ways
        ({"train": "a"}, {"train": "c"}, False),
        ({"train": "a"}, {}, False),
        ({}, {}, False),
    ],
)
def test_runs_that_read_the_same_data_at_two_paths_are_repeats(first, second, are_repeats):
    runs = [
        run(path, seed=seed, test_top1=(80.0, 80.0), dataset="folder", data_path=path)
        for seed, path in enumerate(("flowers", "/data/flowers"))
    ]
    for repeat, digests in zip(runs, (first, second), strict=True):
        repeat.data = RecordedData(digests=digests)
    assert len(group_repeats(runs, BEST)) == (1 if are_repeats else 2)


def test_unfinished_repeats_are_counted_apart():
    runs = repeated([80.0, 81.0])
    runs[1].status = "stopped"
    (group,) = group_repeats(runs, BEST, only_finished=True)
    assert group.values == [80.0] and group.unfinished == [runs[1]] and group.finished == [runs[0]]
    (group,) = group_repeats(runs, BEST)
    assert group.values == [80.0, 81.0] and group.unfinished == []


def test_repeats_whose_seed_also_draws_the_test_images_are_noted():
    assert drawn_note(group_repeats(repeated([80.0, 81.0], limit=400), BEST), BEST)
    assert "test images" in drawn_note(group_repeats(repeated([80.0, 81.0], limit=400), BEST), BEST)[0]
    for options in ({}, {"limit": 10_000}, {"val_share": 0.1}):  # all test images; held out of the training images
        assert drawn_note(group_repeats(repeated([80.0, 81.0], **options), BEST), BEST) == []
    train_loss = get_field("train_loss")
    assert drawn_note(group_repeats(repeated([80.0, 81.0], limit=400), train_loss), train_loss) == []


def test_runs_measured_on_images_that_the_seed_draws_are_noted_without_repeats():
    for seed, words in ((5, "measured on test images that differ"), (0, "")):
        runs = [*repeated([80.0], limit=400), run("k4", test_top1=(1.0, 81.0), limit=400, K=4, seed=seed)]
        note = "".join(drawn_note(group_repeats(runs, BEST), BEST))
        assert words in note and bool(words) == bool(note)


def test_a_validation_split_that_the_seed_draws_is_noted():
    runs = [replace(run, best=Best("val_top1", 80.0, 1)) for run in repeated([80.0, 81.0], val_share=0.1)]
    assert "validation images" in drawn_note(group_repeats(runs, BEST), BEST)[0]


def test_runs_of_other_seeds_with_the_same_digest_are_measured_on_the_same_images():
    runs = [run(f"r{seed}", seed=seed, limit=100, test_top1=(1, 80.0 + seed)) for seed in (0, 1)]
    for digests, count in ((("x", "x"), 0), (("x", "y"), 1)):
        for summary, digest in zip(runs, digests, strict=True):
            summary.data = RecordedData(images={"test": 100}, digests={"test": digest})
        assert len(drawn_note(group_repeats(runs, BEST), BEST)) == count
