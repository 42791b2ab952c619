"""Where a position is: coordinates, and the numbering of a padded map.

n dimensions, H W sides of a map, p padding, N = H*W positions, N' = (H+2p)*(W+2p) padded positions, row-major.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor


def padded(sides: Sequence[int], padding: int) -> list[int]:
    """Sides of the map with `padding` pixels on every side of it."""
    return [side + 2 * padding for side in sides]


def coordinates(sides: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Coordinates of every position from -1 to 1, x (along the width) first. -> (N, n)"""
    lines = [torch.linspace(-1, 1, side, dtype=dtype, device=device) for side in sides]
    return torch.stack(torch.meshgrid(lines, indexing="ij")[::-1], dim=-1).reshape(prod(sides), len(sides))


def positions(lines: Sequence[Tensor], sides: Sequence[int]) -> Tensor:
    """Row-major numbers, in a map of these sides, of the grid that the lines (one a side) span. -> flat"""
    number = lines[0]
    for line, side in zip(lines[1:], sides[1:], strict=True):
        number = number[..., None] * side + line
    return number.flatten()


def interior(sides: Sequence[int], padding: int, device: torch.device) -> Tensor:
    """Numbers, in the padded map, of the positions that are not pad. -> (N,)"""
    lines = [torch.arange(padding, padding + side, device=device) for side in sides]
    return positions(lines, padded(sides, padding))


def with_coordinates(x: Tensor) -> Tensor:
    """The map with its coordinates appended. (B, C, *sides) -> (B, C + n, *sides)"""
    sides = x.shape[2:]
    where = coordinates(sides, torch.promote_types(x.dtype, torch.float32), x.device).to(x.dtype)
    return torch.cat((x, where.mT.unflatten(1, sides).expand(x.shape[0], *[-1] * (1 + len(sides)))), dim=1)
