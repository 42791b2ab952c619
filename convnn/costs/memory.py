"""An estimate of the memory that training takes, beyond torch itself and the data.

Weights, gradients and optimizer state do not depend on the batch. What the forward pass keeps for the backward pass
grows with it, and is counted from what the layers keep. The rest is measured by `benchmarks/memory.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

from convnn.hardware import has_cuda
from convnn.layer_table import layer_kind

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig
    from convnn.models.architectures import Slot

MIB = 2**20
LOADED = 22 * MIB  # code that the first step loads
COMPILER = 285 * MIB  # what torch.compile adds to it
BUFFERS = 50 * MIB  # of convolution kernels, whatever the batch is
SEARCH_BUFFERS = 150 * MIB  # of layers that search neighbors, a tile at a time
CUDA_NUMBERS = 80 * 2**30 // 64 // 4  # that a buffer on a card of 80 GiB holds, see `layers.ops.tiles`
FRAGMENTATION = 0.5  # share of the largest gradient for which the heap often has no free block
OVERHEAD = 1.4  # memory taken per byte kept: gradients of activations, and gaps between blocks of many sizes


def training_bytes(config: RunConfig, slots: Sequence[Slot], parameters: int, gradients: Sequence[int]) -> int:
    """Return the bytes at the peak of training a model of these slots.

    `gradients` are the numbers of the gradients of each part of it.

    Of several processes these are all that the CPU has to hold, but those of one on a GPU, where each has its own.
    """
    processes = config.runtime.processes
    images = ceil(config.training.batch_size / (config.training.accumulate * processes))
    weights = parameters * (1 + (config.training.ema_decay is not None))
    weights += sum(gradients) * (1 + optimizer_states(config))
    weights += sum(gradients) * (processes > 1)  # the buckets in which they are summed
    weight_bytes = 4 * (weights + FRAGMENTATION * max(gradients))
    loaded = LOADED + (COMPILER if config.runtime.compile else 0)
    buffers = search_buffers(config, slots, images) if layer_kind(config.layer.type).searches_neighbors else BUFFERS
    activations = sum(slot_bytes(config, slot) for slot in slots)
    activations += sum(pool_bytes(config, *pair) for pair in pairwise(slots))
    process_bytes = loaded + weight_bytes + buffers + OVERHEAD * images * activations
    return round(process_bytes if uses_cuda(config) else processes * process_bytes)


def memory_place(config: RunConfig) -> str:
    """Return where the bytes at the peak are taken, as words after them; "" for a run that is in one place."""
    return " on each GPU" if config.runtime.processes > 1 and uses_cuda(config) else ""


def search_buffers(config: RunConfig, slots: Sequence[Slot], images: int) -> int:
    """Return the bytes of what is gathered at once: of all images on CUDA, of a small tile elsewhere."""
    if not uses_cuda(config):
        return SEARCH_BUFFERS
    gathered = [
        kind.gathered_bytes
        * min(CUDA_NUMBERS, images * slot.side[0] * slot.side[1] * config.layer.K * slot.in_channels)
        for slot in slots
        for kind, _ in layer_kind(config.layer.type).parts(config, slot.out_channels)
    ]
    return max(SEARCH_BUFFERS, *gathered)


def uses_cuda(config: RunConfig) -> bool:
    device = config.runtime.device
    return device.startswith("cuda") or (device == "auto" and has_cuda())


def shares_updates(config: RunConfig) -> bool:
    """Return whether weights with the same gradient share it and the optimizer's state: see `training.shared_update`.

    The L2 penalty of adam and sgd differs between them, and several processes sum the gradients of parameters.
    """
    return config.optimizer.name == "adamw" and config.runtime.processes == 1


def optimizer_states(config: RunConfig) -> int:
    """Return how many numbers the optimizer keeps for each number that it trains."""
    if config.optimizer.name == "sgd":
        return 1 if config.optimizer.momentum else 0
    return 2


def bytes_per_number(config: RunConfig) -> int:
    """Return the bytes of one number of an activation."""
    return 2 if config.runtime.amp else 4


def pool_bytes(config: RunConfig, slot: Slot, following: Slot) -> int:
    """Return the bytes that a pool between two slots keeps of one image: its output, and the indices of the maxima."""
    if slot.side == following.side:
        return 0
    return (bytes_per_number(config) + 8) * slot.out_channels * following.side[0] * following.side[1]


def slot_bytes(config: RunConfig, slot: Slot) -> int:
    """Return the bytes that a slot keeps of one image for the backward pass.

    These are its layer's output, for the normalization, and the ReLU's, which the next layer reads; then what the
    layer keeps besides its input and output.
    """
    numbers, extra_bytes = 2 * slot.out_channels * slot.side[0] * slot.side[1], 0
    for kind, channels in layer_kind(config.layer.type).parts(config, slot.out_channels):
        saved = kind.saved(slot.in_channels, channels, slot.side, **kind.option_values(config))
        numbers, extra_bytes = numbers + saved.numbers, extra_bytes + saved.extra_bytes
    return bytes_per_number(config) * numbers + extra_bytes
