"""Random subsets and held-out splits that depend on the labels and the seed alone, on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import chain, islice, zip_longest
from random import Random

from convnn.errors import Problem, UserError


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
        raise UserError(Problem(message, key="data.val_share", value=share, fix="raise it, or set it to 0"))
    return train, val


def _shuffled_by_class(labels: Sequence[int], seed: int, purpose: str) -> list[list[int]]:
    """Return the positions of each class in random order."""
    classes: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        classes.setdefault(label, []).append(position)
    for label, positions in classes.items():
        Random(derive_seed(purpose, seed, label)).shuffle(positions)
    return [classes[label] for label in sorted(classes)]
