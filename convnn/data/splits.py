"""Random subsets and held-out splits that depend on the labels and the seed alone, on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import chain, islice, zip_longest
from random import Random

from convnn.errors import Problem, UserError
from convnn.text import plural

SMALL_BATCH = 0.1  # share of the batch size under which a last batch is a warning


def derive_seed(*parts: object) -> int:
    """Return a 63-bit seed from parts whose `repr` is the same everywhere."""
    return int.from_bytes(sha256(repr(parts).encode()).digest()[:8]) >> 1


def balanced_subset(labels: Sequence[int], count: int | None, seed: int) -> list[int]:
    """Return ascending positions of `count` labels, drawn from the classes in turn; all of them if `count` is None.

    When a class is used up, the other classes continue.
    """
    if count is None or count >= len(labels):
        return list(range(len(labels)))
    rounds = chain.from_iterable(zip_longest(*_shuffled_by_class(labels, seed, "limit")))
    return sorted(islice((position for position in rounds if position is not None), count))


def holdout_count(count: int, share: float) -> int:
    """Return the number of images held out of a class of `count`: the nearest to `share`, but never all of them."""
    return min(int(count * share + 0.5), max(count - 1, 0))


def holdout_split(labels: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return ascending positions of the labels that remain, and of the `share` of each class that is held out."""
    remaining: list[int] = []
    held_out: list[int] = []
    for positions in _shuffled_by_class(labels, seed, "aside"):  # another word would change the splits of every seed
        count = holdout_count(len(positions), share)
        held_out += positions[:count]
        remaining += positions[count:]
    return sorted(remaining), sorted(held_out)


def validation_split(labels: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return positions for training and for validation. Raises UserError if `share` is above 0 but holds out none."""
    train, val = holdout_split(labels, share, seed)
    if share > 0 and not val:
        message = f"data.val_share {share:g} of {len(labels)} training images leaves no image for validation"
        raise UserError(message, key="data.val_share", value=share, fix="use a larger --val_share, or --val_share 0")
    return train, val


def val_share_problem(share: float) -> Problem | None:
    """Return the problem that validation images are to be held out although the data set has a validation folder."""
    if share == 0:
        return None
    message = f"data.val_share is {share:g}, but the data set has a validation folder"
    fix = "use --val_share 0, or --data_path with folders without one"
    return Problem(message, key="data.val_share", value=share, fix=fix, change={"data.val_share": 0.0})


def num_batches(num_images: int, batch_size: int, *, drop_last: bool = False) -> int:
    """Return the batches of an epoch; without the smaller last one if `drop_last`."""
    return num_images // batch_size if drop_last else -(-num_images // batch_size)


def drop_last_problem(num_images: int, batch_size: int, *, drop_last: bool) -> Problem | None:
    if not drop_last or num_images >= batch_size:
        return None
    message = f"training.drop_last leaves no batch: {plural(num_images, 'training image')}, and batches of {batch_size}"
    fix = f"use --no_drop_last, or --batch_size {max(num_images, 1)} or less"
    return Problem(message, key="training.drop_last", value=True, fix=fix, change={"training.drop_last": False})


def small_last_batch(num_images: int, batch_size: int, *, drop_last: bool) -> str | None:
    """Return the warning that the last training batch is under a tenth of the others; None where it is not."""
    last = num_images % batch_size
    if drop_last or num_images < batch_size or last == 0 or last >= SMALL_BATCH * batch_size:
        return None
    size = "1 image" if last == 1 else f"{last} images"
    return (
        f"the last batch of an epoch has {size}, the others {batch_size}: its step weighs as much as theirs, which can "
        "move the metrics of the epoch by points; --drop_last leaves it out"
    )


def _shuffled_by_class(labels: Sequence[int], seed: int, purpose: str) -> list[list[int]]:
    classes: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        classes.setdefault(label, []).append(position)
    for label, positions in classes.items():
        Random(derive_seed(purpose, seed, label)).shuffle(positions)
    return [classes[label] for label in sorted(classes)]
