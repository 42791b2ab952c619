"""An estimate of the memory that training takes, beyond torch itself and the data.

Weights and optimizer state stay; what the forward pass keeps for the backward pass grows with the batch, and gradients
come as it shrinks.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from convnn import costs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convnn.config import RunConfig
    from convnn.plans import Slot

FLOAT = 4  # bytes
INDEX = 8


def training(config: RunConfig, places: Sequence[Slot], parameters: int) -> int:
    """Bytes at the peak of training a model of these slots and this many parameters."""
    states = 1 + optimizer_states(config)
    images = ceil(config.training.batch_size / config.training.accumulate)
    kept = sum(kept_by_slot(config, slot) for slot in places)
    return FLOAT * parameters * (states + 1) + images * kept


def optimizer_states(config: RunConfig) -> int:
    """Numbers that the optimizer remembers of each parameter."""
    if config.optimizer.name == "sgd":
        return 1 if config.optimizer.momentum else 0
    return 2


def kept_by_slot(config: RunConfig, slot: Slot) -> int:
    """Bytes that a slot's layer, its normalisation and its ReLU keep of one image for the backward pass."""
    positions = slot.side[0] * slot.side[1]
    activation = 2 if config.runtime.amp else FLOAT
    maps = activation * positions * (slot.in_channels + slot.out_channels)
    share = costs.neighbour_channels(config, slot.out_channels)
    if not share:
        return maps
    inner = costs.shuffled(config, slot.in_channels, share, slot.side)
    return maps + INDEX * inner.positions * config.layer.K
