"""Whether training fits the memory that is free, and the least accumulation with which it would."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convnn.costs.plan import plan
from convnn.text import memory

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig

ROOM = 0.9  # share of the memory that a step is let to take


def forecast(config: RunConfig, image_size: tuple[int, int], classes: int, accumulate: int | None = None) -> int:
    """Bytes that training is expected to take on images of (H, W) pixels, with another accumulation if given."""
    if accumulate is not None:
        section = config.training.model_copy(update={"accumulate": accumulate})
        config = config.model_copy(update={"training": section})
    return plan(config, image_size, classes).memory_bytes


def accumulation(config: RunConfig, image_size: tuple[int, int], classes: int, room: int) -> int | None:
    """Twice, four times, ... the parts of a batch until one fits a room of bytes; None where none does."""
    batch = config.training.batch_size
    parts = 2 * config.training.accumulate
    while parts <= batch and forecast(config, image_size, classes, parts) > ROOM * room:
        parts *= 2
    return parts if parts <= batch else None


def shortage(config: RunConfig, image_size: tuple[int, int], classes: int, free: int | None) -> str | None:
    """A sentence where training is expected to take more than is free, with what would fit; else None."""
    need = forecast(config, image_size, classes)
    if free is None or need <= free:
        return None
    told = f"training is expected to take {memory(need)} of memory and {memory(free)} are free"
    parts = accumulation(config, image_size, classes, free)
    if parts is None:
        return f"{told}; no accumulation fits: a smaller --width or another device would"
    fits = memory(forecast(config, image_size, classes, parts))
    return f"{told}; --accumulate {parts} ({-(-config.training.batch_size // parts)} images at a time) takes {fits}"
