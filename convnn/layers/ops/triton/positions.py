"""What the kernels know of positions: the padding of their source, and the queries that chose each position."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from convnn.layers.ops.coordinates import padded_sides


class SourceMap(NamedTuple):
    """A map of which the rows of a source are all positions, or those of the interior.

    Heights and widths of padding are 0 where there is none: the one is of positions of an index around the source, the
    other of the source around the queries.
    """

    height: int
    width: int
    outer_height: int
    outer_width: int
    inner_height: int
    inner_width: int


def source_map(rows: int, sides: Sequence[int], padding: int) -> SourceMap:
    """Return the map of a source with so many rows per image."""
    height, width = (1, *sides)[-2:]
    margins = (padding * (len(sides) - 1), padding)
    is_padded = rows == prod(padded_sides(sides, padding))
    return SourceMap(height, width, *((0, 0, *margins) if is_padded else (*margins, 0, 0)))


def entries_by_position(index: Tensor, batch: int, positions: int) -> tuple[Tensor, Tensor]:
    """Return the entries of an index sorted by image, position and slot, and where those of each begin.

    (B or 1, N, K) -> (B * N * K,), (B * positions * K + 1,), both int64. The order is that of a stable sort, so that
    sums over the queries which chose a position have one order.
    """
    slots = index.shape[2]
    images = torch.arange(0, batch * positions, positions, device=index.device).view(-1, 1, 1)
    keys = ((index + images) * slots + torch.arange(slots, device=index.device)).flatten()
    ascending, order = keys.sort(stable=True)
    bounds = torch.arange(batch * positions * slots + 1, device=index.device)
    return order, torch.searchsorted(ascending, bounds)
