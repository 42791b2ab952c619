"""An estimate of the memory that training on a CPU takes, beyond torch itself and the data.

Weights, gradients and optimizer state are there whatever the batch is. What the forward pass keeps for the backward
pass grows with it, and is counted from what the layers keep. The rest is measured: `benchmarks/memory.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

from convnn.costs import flops

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig
    from convnn.models.architectures import Slot

MIB = 2**20
LOADED, COMPILER = 22 * MIB, 285 * MIB  # code that the first step loads, and what torch.compile adds to it
BUFFERS = {"Conv2d": 50 * MIB, "Conv2d_New": 50 * MIB}  # of the kernels, whatever the batch is
TILED_BUFFERS = 150 * MIB  # the same of layers that look for neighbours, a tile at a time
HOLES = 0.5  # share of the largest gradient for which the heap often has no place where the last one was
SLACK = 1.4  # memory taken for each byte kept: gradients of maps, and holes between blocks of many sizes


def training(config: RunConfig, places: Sequence[Slot], parameters: int, largest: int) -> int:
    """Bytes at the peak of training a model of these slots; `largest` is the size of its largest parameter."""
    images = ceil(config.training.batch_size / config.training.accumulate)
    weights = 4 * (parameters * (2 + optimizer_states(config)) + HOLES * largest)
    buffers = BUFFERS.get(config.layer.type, TILED_BUFFERS)
    activations = sum(kept(config, slot) for slot in places) + sum(pooled(config, *pair) for pair in pairwise(places))
    loaded = LOADED + COMPILER * config.runtime.compile
    return round(loaded + weights + buffers + SLACK * images * activations)


def optimizer_states(config: RunConfig) -> int:
    """Numbers that the optimizer remembers of each parameter."""
    if config.optimizer.name == "sgd":
        return 1 if config.optimizer.momentum else 0
    return 2


def pooled(config: RunConfig, slot: Slot, after: Slot) -> int:
    """Bytes of one image kept by a pool between two slots: its output, and where it came from."""
    if slot.side == after.side:
        return 0
    return (bytes_of_number(config) + 8) * slot.out_channels * after.side[0] * after.side[1]


def bytes_of_number(config: RunConfig) -> int:
    """Bytes of one number of an activation."""
    return 2 if config.runtime.amp else 4


def kept(config: RunConfig, slot: Slot) -> int:
    """Bytes that a slot keeps of one image for the backward pass.

    Its layer's output, for the normalisation, and the ReLU's, which the next layer reads; then what the layer keeps
    besides its input.
    """
    number = bytes_of_number(config)
    positions = slot.side[0] * slot.side[1]
    maps = 2 * slot.out_channels * positions
    kind, share = config.layer.type, flops.neighbour_channels(config, slot.out_channels)
    if kind.startswith("Branching"):
        maps += slot.out_channels * positions  # both branches side by side
    if kind == "Conv2d" or (kind.startswith("Branching") and not share):
        return number * maps
    inner = flops.shuffled(config, slot.in_channels, share or slot.out_channels, slot.side)
    if flops.scale(config) > 1:
        maps += inner.features * inner.positions  # the unshuffled input
    if kind == "Conv2d_New":
        return number * (maps + (inner.convolved * inner.positions if inner.convolved > inner.features else 0))
    pairs = inner.positions * config.layer.K
    index = (2 if inner.padded(config.layer.padding) < 2**15 else 4) * pairs
    if not kind.endswith("_Attn"):
        return number * maps + index
    # query, key, value and their sum; the projected output; and the weights before and after dropout, with its mask
    maps += (2 * inner.convolved + inner.out) * inner.positions
    if inner.convolved > inner.features:  # coordinates tell positions of the pad apart: it is projected too, and kept
        maps += 3 * inner.convolved * inner.padded(config.layer.padding)
    else:
        maps += 2 * inner.convolved * inner.positions
    return number * maps + index + (2 * 4 + 1) * pairs
