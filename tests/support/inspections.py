"""Neighbors that were made up, the same every time: a gradient for an image, two layers, padding among the chosen."""

from __future__ import annotations

import numpy as np

from convnn.neighbors.inspection import Inspection, LayerNeighbors

SIDE = 32  # of the image in pixels


def layer(slot: str, side: int, patch: int, shift: int = 0, *, K: int = 5) -> LayerNeighbors:
    """A layer whose slot j holds the position 3j further to the right and j down, the first one the query itself."""
    rows, columns = np.divmod(np.arange(side * side), side)
    steps = np.arange(K)
    y = np.minimum(rows[:, None] + steps, side) + 1
    x = np.minimum(columns[:, None] + 3 * steps + shift * (steps > 2), side) + 1
    scores = np.broadcast_to(1 - steps / 16, (side * side, K)).astype(np.float32)
    index = (y * (side + 2) + x).astype(np.int32)
    return LayerNeighbors(slot, "ConvNN", (side, side), 1, patch, 3, "cosine", (side + 2) ** 2, "all", index, scores)


def inspection(checkpoint: str = "best", epoch: int = 12, shift: int = 0, side: int = SIDE) -> Inspection:
    line = np.arange(side) * 255 // (side - 1)
    red, green = np.broadcast_to(line, (side, side)), np.broadcast_to(line[:, None], (side, side))
    layers = [layer("stage1.conv1", side, 1, shift), layer("stage3.conv1", side // 4, 4, shift)]
    return Inspection(
        run="20260101-120000-vgg11-Branching-3f2a",
        checkpoint=checkpoint,
        epoch=epoch,
        step=20 * epoch,
        split="test",
        image="7",
        label="\x1b[7m7",  # a class may be named anything
        prediction="1",
        probability=0.625,
        pixels=np.stack((red, green, np.full((side, side), 64)), 2).astype(np.uint8),
        slots=("stage1.conv1", "stage2.conv1", "stage3.conv1"),
        layers={layer.slot: layer for layer in layers},
    )
