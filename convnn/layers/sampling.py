"""Candidate sampling: the positions that a query may choose its neighbors from (`sampling_type`).

    N'  positions of the padded map     M  positions of the pool

A pool holds positions of the padded map in ascending order; None stands for all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from convnn.layer_table import pool_size, samples_all
from convnn.layers.ops.coordinates import grid_positions, padded_sides

SAMPLING_TYPES = ("all", "random", "spatial")


@dataclass(frozen=True)
class Sampling:
    """How candidates are sampled: `num_samples` positions (random), or a grid of that side (spatial).

    `sample_padding` is the margin around the grid in pixels.
    """

    sampling_type: str = "all"
    num_samples: int = -1
    sample_padding: int = 0

    def includes_all(self, sides: Sequence[int], padding: int) -> bool:
        """Return whether every position of the padded map is a candidate."""
        return samples_all(sides, padding, self.sampling_type, self.num_samples)

    def pool_size(self, sides: Sequence[int], padding: int) -> int:
        """Return the number of candidates of a map."""
        return pool_size(sides, padding, self.sampling_type, self.num_samples, self.sample_padding)

    def pool(self, sides: Sequence[int], padding: int, fixed: bool, device: torch.device) -> Tensor | None:
        """Return the candidates of a map: None for all, else ascending positions (M,).

        Random candidates are drawn from torch's global generator, or are always the same ones if `fixed`.
        """
        if self.includes_all(sides, padding):
            return None
        if self.sampling_type == "spatial":
            lines = [self._grid_line(side, device) + padding for side in sides]
            return grid_positions(lines, padded_sides(sides, padding))
        if fixed:
            order = fixed_order(sides, padding, self.num_samples, device)
        else:
            order = torch.randperm(prod(padded_sides(sides, padding)), device=device)
        return order[: self.num_samples].sort().values

    def _grid_line(self, side: int, device: torch.device) -> Tensor:
        """Return the indices of the grid along one side of the map, in pixels."""
        margin, n = self.sample_padding, self.num_samples
        if side - 2 * margin < n:
            return torch.arange(margin, max(margin, side - margin), device=device)
        return margin + torch.arange(n, device=device) * (side - 1 - 2 * margin) // max(1, n - 1)


def fixed_order(sides: Sequence[int], padding: int, num_samples: int, device: torch.device) -> Tensor:
    """Return a pseudo-random order of the padded map's positions that depends on the arguments alone. -> (N',)

    Positions are sorted by a hash, without a generator: creating one in `forward` would break a full graph, and the
    global one must not advance in evaluation.
    """
    mask = 0xFFFFFFFF
    seed = num_samples
    for side in padded_sides(sides, padding):
        seed = (seed * 0x01000193 + side) % 0x7FFFFFFF
    hashed = torch.arange(prod(padded_sides(sides, padding)), device=device) + seed
    for factor, shift in ((0x2C1B3C6D, 16), (0x297A2D39, 15)):  # the mixing steps of a 32-bit integer hash
        hashed = (hashed ^ (hashed >> shift)) * factor & mask
    return (hashed ^ (hashed >> 16)).argsort(stable=True)
