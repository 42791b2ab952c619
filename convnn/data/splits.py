"""Draws that depend on the seed and nothing else: the same on every device, machine and Python."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import chain, islice, zip_longest
from random import Random

from convnn.data.class_folders import aside
from convnn.errors import Problem, UserError


def seed_of(*parts: object) -> int:
    """A 63-bit seed from any parts that print the same everywhere."""
    return int.from_bytes(sha256(repr(parts).encode()).digest()[:8]) >> 1


def evenly(labels: Sequence[int], count: int | None, seed: int) -> list[int]:
    """Positions of `count` labels, drawn in turn from one class after the other; all of them if `count` is None.

    A class that runs out leaves its turns to the others. The positions come back in their old order.
    """
    if count is None or count >= len(labels):
        return list(range(len(labels)))
    turns = chain.from_iterable(zip_longest(*_shuffled(labels, seed, "limit")))
    return sorted(islice((position for position in turns if position is not None), count))


def set_aside(labels: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Positions kept and positions set aside, `share` of each class, both in their old order."""
    kept: list[int] = []
    out: list[int] = []
    for members in _shuffled(labels, seed, "aside"):
        count = aside(len(members), share)
        out += members[:count]
        kept += members[count:]
    return sorted(kept), sorted(out)


def validation(labels: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Positions for training and for validation. Raises UserError when `share` is above 0 and comes to no image."""
    kept, out = set_aside(labels, share, seed)
    if share > 0 and not out:
        message = f"data.val_share {share:g} of {len(labels)} training images leaves no image for validation"
        raise UserError(Problem(message, key="data.val_share", value=share, fix="raise it, or set it to 0"))
    return kept, out


def _shuffled(labels: Sequence[int], seed: int, purpose: str) -> list[list[int]]:
    members: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        members.setdefault(label, []).append(position)
    for label, positions in members.items():
        Random(seed_of(purpose, seed, label)).shuffle(positions)
    return [members[label] for label in sorted(members)]
