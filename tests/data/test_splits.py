import subprocess
import sys
from collections import Counter

import pytest

from convnn.data.splits import (
    balanced_subset,
    derive_seed,
    drop_last_problem,
    holdout_split,
    small_last_batch,
    validation_split,
)
from convnn.errors import UserError

LABELS = [0] * 50 + [1] * 5 + [2] * 45


def counts(positions: list[int]) -> dict[int, int]:
    return dict(Counter(LABELS[i] for i in positions))


def test_a_limit_takes_from_the_classes_in_turn():
    assert counts(balanced_subset(LABELS, 9, 0)) == {0: 3, 1: 3, 2: 3}
    assert counts(balanced_subset(LABELS, 10, 0)) == {0: 4, 1: 3, 2: 3}
    assert counts(balanced_subset(LABELS, 45, 0)) == {0: 20, 1: 5, 2: 20}, "the others go on when a class is used up"
    assert balanced_subset(LABELS, None, 0) == balanced_subset(LABELS, 1000, 0) == list(range(100))


def test_draws_repeat_with_the_seed_and_differ_without():
    assert balanced_subset(LABELS, 30, 1) == balanced_subset(LABELS, 30, 1) != balanced_subset(LABELS, 30, 2)
    assert holdout_split(LABELS, 0.3, 1) == holdout_split(LABELS, 0.3, 1) != holdout_split(LABELS, 0.3, 2)


def test_the_same_share_of_each_class_is_set_aside():
    remaining, held_out = holdout_split(LABELS, 0.2, 0)
    assert counts(held_out) == {0: 10, 1: 1, 2: 9}
    assert sorted(remaining + held_out) == list(range(100))


def test_no_class_is_set_aside_whole():
    assert counts(holdout_split(LABELS, 0.99, 0)[0]) == {0: 1, 1: 1, 2: 1}


def test_a_share_that_comes_to_no_image_is_an_error():
    with pytest.raises(UserError, match=r"data.val_share 0.01 of 100 training images leaves no image for validation"):
        validation_split([i // 5 for i in range(100)], 0.01, 0)


def test_a_seed_is_the_same_in_every_process():
    program = "from convnn.data.splits import derive_seed; print(derive_seed('order', 0, 1))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(printed) == derive_seed("order", 0, 1)


def test_seeds_differ_and_fit_a_generator():
    seeds = {derive_seed("order", seed, epoch) for seed in range(10) for epoch in range(10)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("num_images", "drop_last", "size"),
    [
        (257, False, "1 image"),
        (281, False, "25 images"),
        (282, False, ""),
        (256, False, ""),
        (10, False, ""),
        (257, True, ""),
    ],
)
def test_a_last_batch_under_a_tenth_of_the_others_is_warned_of(num_images, drop_last, size):
    warning = small_last_batch(num_images, 256, drop_last=drop_last)
    assert (size in warning and "--drop_last" in warning) if size else warning is None


def test_dropping_the_only_batch_is_a_problem():
    problem = drop_last_problem(10, 16, drop_last=True)
    assert problem.change == {"training.drop_last": False}
    assert drop_last_problem(10, 16, drop_last=False) is drop_last_problem(16, 16, drop_last=True) is None
