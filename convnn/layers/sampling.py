"""Which positions a query may choose its neighbours from (`sampling_type`).

A pool holds numbers of positions in the padded map, ascending. None stands for all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from convnn.layers.ops.coordinates import padded, positions

SAMPLING_TYPES = ("all", "random", "spatial")


@dataclass(frozen=True)
class Sampling:
    """How candidates are sampled; `num_samples` counts positions (random) or is the side of the grid (spatial)."""

    sampling_type: str = "all"
    num_samples: int = -1
    sample_padding: int = 0

    def takes_all(self, sides: Sequence[int], padding: int) -> bool:
        """Whether every position of the padded map is a candidate."""
        if self.sampling_type == "random":
            return self.num_samples >= prod(padded(sides, padding))
        return self.sampling_type == "all" or all(self.num_samples >= side for side in sides)

    def size(self, sides: Sequence[int], padding: int) -> int:
        """Number of positions in the pool of a map."""
        if self.takes_all(sides, padding):
            return prod(padded(sides, padding))
        if self.sampling_type == "random":
            return self.num_samples
        return prod([min(self.num_samples, max(0, side - 2 * self.sample_padding)) for side in sides])

    def pool(self, sides: Sequence[int], padding: int, fixed: bool, device: torch.device) -> Tensor | None:
        """The pool of a map: None for all, else ascending numbers (M,); random: a new draw unless `fixed`."""
        if self.takes_all(sides, padding):
            return None
        if self.sampling_type == "spatial":
            lines = [self._line(side, device) + padding for side in sides]
            return positions(lines, padded(sides, padding))
        total = prod(padded(sides, padding))
        order = fixed_order(sides, padding, self.num_samples, device) if fixed else torch.randperm(total, device=device)
        return order[: self.num_samples].sort().values

    def _line(self, side: int, device: torch.device) -> Tensor:
        """Rows of the grid along one side of the map, in pixels."""
        margin, n = self.sample_padding, self.num_samples
        if side - 2 * margin < n:
            return torch.arange(margin, max(margin, side - margin), device=device)
        return margin + torch.arange(n, device=device) * (side - 1 - 2 * margin) // max(1, n - 1)


def fixed_order(sides: Sequence[int], padding: int, num_samples: int, device: torch.device) -> Tensor:
    """An order of the padded map's positions that depends on the arguments alone: a hash of each, sorted. -> (N',)

    No generator: one made inside `forward` would break a full graph, and the global one must not move.
    """
    low = 0xFFFFFFFF
    seed = num_samples
    for side in padded(sides, padding):
        seed = (seed * 0x01000193 + side) % 0x7FFFFFFF
    number = torch.arange(prod(padded(sides, padding)), device=device) + seed
    for factor, shift in ((0x2C1B3C6D, 16), (0x297A2D39, 15)):  # the mixing of a 32-bit integer hash
        number = (number ^ (number >> shift)) * factor & low
    return (number ^ (number >> 16)).argsort(stable=True)
