"""Coordinates of positions, and the row-major numbering of positions in a padded map.

    n   spatial dimensions (1 or 2)      N   positions of the map, H * W
    p   padding in pixels                N'  positions of the padded map, (H + 2p) * (W + 2p)

`sides` are the lengths of a map's spatial dimensions: (H, W), or (L,) for a sequence.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor


def padded_sides(sides: Sequence[int], padding: int) -> list[int]:
    """Return the sides of the map with `padding` pixels added at both ends of each."""
    return [side + 2 * padding for side in sides]


def coordinates(sides: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return coordinates of every position from -1 to 1, x (along the width) first. -> (N, n)"""
    lines = [torch.linspace(-1, 1, side, dtype=dtype, device=device) for side in sides]
    return torch.stack(torch.meshgrid(lines, indexing="ij")[::-1], dim=-1).reshape(prod(sides), len(sides))


def grid_positions(lines: Sequence[Tensor], sides: Sequence[int]) -> Tensor:
    """Return positions, in a map of these sides, of the grid spanned by one line of indices per side. -> (M,)"""
    positions = lines[0]
    for line, side in zip(lines[1:], sides[1:], strict=True):
        positions = positions[..., None] * side + line
    return positions.flatten()


def position_lines(positions: Tensor, sides: Sequence[int]) -> list[Tensor]:
    """Return the index along each side of positions in a map of these sides: the inverse of `grid_positions`.

    `torch.unravel_index` copies the sides to the device, which waits for it, at every call.
    """
    lines = []
    for side in reversed(sides):
        lines.append(positions % side)
        positions = positions // side
    return lines[::-1]


def interior_positions(sides: Sequence[int], padding: int, device: torch.device) -> Tensor:
    """Return positions of the map within the padded map. -> (N,)"""
    lines = [torch.arange(padding, padding + side, device=device) for side in sides]
    return grid_positions(lines, padded_sides(sides, padding))


def neighbor_offsets(index: Tensor, sides: Sequence[int], padding: int) -> Tensor:
    """Return neighbors' positions minus their queries', along each side of the map. (B, N, K) -> (n, B, N, K)"""
    outer = padded_sides(sides, padding)
    queries = interior_positions(sides, padding, index.device)[:, None]  # (N, 1)
    lines = zip(position_lines(index, outer), position_lines(queries, outer), strict=True)
    return torch.stack([neighbor - query for neighbor, query in lines])


def append_coordinates(x: Tensor) -> Tensor:
    """Append a map's coordinates to its channels. (B, C, *sides) -> (B, C + n, *sides)"""
    sides = x.shape[2:]
    values = coordinates(sides, torch.promote_types(x.dtype, torch.float32), x.device).to(x.dtype)
    return torch.cat((x, values.mT.unflatten(1, sides).expand(x.shape[0], *[-1] * (1 + len(sides)))), dim=1)
