"""Whether training fits the free memory, and the least gradient accumulation with which it does."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from convnn.costs.plan import plan
from convnn.text import memory, plural

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig

USABLE = 0.9  # share of the free memory that a step may take
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


class ModelMemoryError(MemoryError):
    """There is too little memory for the model, on images of (H, W) pixels."""

    def __init__(self, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__("too little memory for the model")
        self.image_size, self.num_classes = image_size, num_classes


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY)


def forecast(config: RunConfig, image_size: tuple[int, int], classes: int, accumulate: int | None = None) -> int:
    """Return the expected bytes of training on images of (H, W) pixels, with another accumulation if given."""
    if accumulate is not None:
        config = config.with_values({"training.accumulate": accumulate})
    return plan(config, image_size, classes).memory_bytes


def accumulation(config: RunConfig, image_size: tuple[int, int], classes: int, free: int) -> int | None:
    """Return the accumulation, doubled until training fits the free bytes; None where no accumulation fits."""
    batch = config.training.batch_size
    micro_batches = 2 * config.training.accumulate
    while micro_batches <= batch and forecast(config, image_size, classes, micro_batches) > USABLE * free:
        micro_batches *= 2
    return micro_batches if micro_batches <= batch else None


def shortage(config: RunConfig, image_size: tuple[int, int], classes: int, free: int | None) -> str | None:
    """Return a sentence where training is expected to take more than is free, with what would fit; else None."""
    need = forecast(config, image_size, classes)
    if free is None or need <= free:
        return None
    sentence = f"training is expected to take {memory(need)} of memory and {memory(free)} are free"
    micro_batches = accumulation(config, image_size, classes, free)
    if micro_batches is None:
        return f"{sentence}; no accumulation fits: use a smaller --width or another device"
    taken = memory(forecast(config, image_size, classes, micro_batches))
    images = ceil(config.training.batch_size / micro_batches)
    return f"{sentence}; --accumulate {micro_batches} ({plural(images, 'image')} at a time) takes {taken}"
