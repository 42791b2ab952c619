"""The data that runs were trained and measured on: whether two runs have the same, and how much of it they used."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

from convnn.config.recorded import UNKNOWN
from convnn.data.catalog import published_info
from convnn.metrics import split_of
from convnn.runs.summary import Summary

LIMIT, RESIZE, VAL_SHARE, SEED = "data.limit", "data.resize", "data.val_share", "training.seed"


def data_conflict(a: Summary, b: Summary) -> str | None:
    """Return how the data of two runs differ, such as "cifar10 and cifar100"; None where no record tells them apart.

    Digests decide where both runs recorded them. Without, the runs have the same data if the name of the data set,
    the classes and, unless data.limit differs, the numbers of images agree as far as both recorded them.
    """
    if a.config.value("data.dataset") != b.config.value("data.dataset"):
        return f"{_dataset_name(a)} and {_dataset_name(b)}"
    if a.data.num_classes and b.data.num_classes and a.data.num_classes != b.data.num_classes:
        return f"{a.data.num_classes} and {b.data.num_classes} classes"
    if a.data.class_digest and b.data.class_digest and a.data.class_digest != b.data.class_digest:
        return "classes of other names"
    if is_verified(a, b):
        return None
    if _digest_options(a) == _digest_options(b) and (splits := _changed_splits(a, b)):
        return f"{' and '.join(splits)} images or labels that differ"
    if a.config.value(LIMIT) != b.config.value(LIMIT):
        return None
    return _count_conflict(a, b)


def _dataset_name(run: Summary) -> str:
    name = run.config.value("data.dataset")
    if name is UNKNOWN:
        return "a data set not recorded"
    return str(name)


def is_verified(a: Summary, b: Summary) -> bool:
    """Return whether digests show that two runs have the same images; without, they may differ unnoticed."""
    return bool(a.data.digests.keys() & b.data.digests.keys()) and not _changed_splits(a, b)


def may_differ(a: Summary, b: Summary) -> bool:
    """Return whether the digests of two runs say nothing, since options make their images differ."""
    return bool(_changed_splits(a, b)) and _digest_options(a) != _digest_options(b)


def _changed_splits(a: Summary, b: Summary) -> list[str]:
    return [split for split, digest in a.data.digests.items() if b.data.digests.get(split, digest) != digest]


def _digest_options(run: Summary) -> tuple[Any, ...]:
    """Return the options that decide which pixels a digest is of: data.limit draws the images by the seed."""
    resize, limit = run.config.value(RESIZE), run.config.value(LIMIT)
    if limit is None:
        return resize, None
    return resize, limit, run.config.value(SEED)


def first_conflict(first: Iterable[Summary], second: Iterable[Summary]) -> str | None:
    """Return how the data of some run of the first differ from those of one of the second; None if they do not."""
    representatives = product(*({_data_key(run): run for run in runs}.values() for runs in (first, second)))
    return next(filter(None, (data_conflict(a, b) for a, b in representatives)), None)


def _data_key(run: Summary) -> tuple[Any, ...]:
    """Return all that `data_conflict` compares: equal for most of many runs."""
    num_classes, class_digest, images, digests = run.data
    options = (run.config.value("data.dataset"), *_digest_options(run))
    return *options, num_classes, class_digest, tuple(images.items()), tuple(digests.items())


def _count_conflict(a: Summary, b: Summary) -> str | None:
    for name, splits in (("training", ("train", "val")), ("test", ("test",))):
        first, second = (sum(run.data.images.get(split, 0) for split in splits) for run in (a, b))
        if first and second and first != second:
            return f"{first:,} and {second:,} {name} images"
    return None


def train_images(run: Summary) -> int | None:
    """Return the training images of an epoch; None where the number is unknown."""
    if count := run.data.images.get("train"):
        return count
    if run.config.value(LIMIT) is not None or run.config.value(VAL_SHARE) != 0:
        return None
    return published_info(run.config.value("data.dataset")).train_images


def images_trained(run: Summary) -> int | None:
    """Return how many images a run was trained on, each as often as it was used; None where that is unknown."""
    count = train_images(run)
    if count is None:
        return None
    return count * run.epoch


def drawn_splits(runs: Iterable[Summary], metrics: Iterable[str]) -> list[str]:
    """Return those of the splits val and test that metrics are measured on and whose images differ between the runs.

    data.limit draws the images of every split by the seed, and data.val_share divides the training images by it.
    """
    runs = list(runs)
    splits = {split for metric in metrics if (split := split_of(metric)) in ("val", "test")}
    return sorted(split for split in splits if _is_drawn_apart(runs, split))


def _is_drawn_apart(runs: Iterable[Summary], split: str) -> bool:
    """Return whether the images of a split differ; a fork has those of its run, which digests show, with any seed."""
    draws = {_draw(run, split) for run in runs}
    digests = {run.data.digests.get(split) for run in runs}
    return len(draws) > 1 and (len(digests) > 1 or None in digests)


def _draw(run: Summary, split: str) -> tuple[Any, ...]:
    """Return the options that decide which images a split has; () where it has all of them."""
    limit, share, seed = (run.config.value(key) for key in (LIMIT, VAL_SHARE, SEED))
    if split == "val" and isinstance(share, int | float) and share > 0:
        return share, limit, seed  # held out of the training images
    if isinstance(limit, int) and _is_limited(run, split, limit):
        return limit, seed
    return ()


def _is_limited(run: Summary, split: str, limit: int) -> bool:
    published = published_info(run.config.value("data.dataset")).test_images
    if split == "test" and published is not None:
        return limit < published
    used = run.data.images.get(split)
    return used is None or used >= limit  # fewer than the limit are all there are
