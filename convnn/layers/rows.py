"""Position-major rows of images, and how much of them is worked on at a time.

t images, C channels, N positions, N' padded positions. A row is one position's vector.
"""

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from .coords import coordinates, padded

TILE_BYTES = 8 << 20
"""Bytes of one working buffer on a CPU, up to three times that under a large weight.

An operator holds two or three of them, its scores, and its own copies of the weight: below 64 MiB beside those. glibc
gives buffers of 32 MiB and more back on every free, and each new one then pays for its pages again.
"""


def as_rows(x: Tensor) -> Tensor:
    """Position-major view of a map. (B, C, *sides) -> (B, N, C)"""
    return x.flatten(2).mT


def as_map(rows: Tensor, sides: Sequence[int]) -> Tensor:
    """The map of position-major rows, channels last in memory. (B, N, C) -> (B, C, *sides)"""
    return rows.mT.unflatten(2, tuple(sides))


def tile_bytes(device: torch.device, weight_bytes: int = 0) -> int:
    """Bytes one working buffer may take. Every tile reads and adds to the weight: a large one gets larger tiles.

    On a GPU it is a fixed share of the card, whatever is free, so that results do not depend on who else is on it.
    """
    if device.type == "cuda":
        return max(TILE_BYTES, torch.cuda.get_device_properties(device).total_memory // 64)
    return min(3 * TILE_BYTES, max(TILE_BYTES, 3 * weight_bytes))


def tiles(batch: int, length: int, row_bytes: int, limit: int) -> Iterator[tuple[slice, slice]]:
    """Slices of images and of their rows, whole images while they fit, each at most `limit` bytes (or one row)."""
    images = max(1, min(batch, limit // max(1, length * row_bytes)))
    step = length if images * length * row_bytes <= limit else max(1, limit // row_bytes)
    for image in range(0, batch, images):
        for row in range(0, length, step):
            yield slice(image, min(batch, image + images)), slice(row, min(length, row + step))


def pad_rows(rows: Tensor, sides: Sequence[int], padding: int, dtype: torch.dtype, *, coords: bool = False) -> Tensor:
    """Rows of the padded map, coordinates appended on request. (t, N, C) -> (t, N', C) or (t, N', C + n)

    Rows that already cover the padded map are left as they are.
    """
    outer = padded(sides, padding)
    count, length, channels = rows.shape
    if length == prod(outer) and not coords:
        return rows.to(dtype).contiguous()
    room = rows.new_zeros(count, *outer, channels + len(sides) * coords, dtype=dtype)
    inside_map(room, sides, padding)[..., :channels] = rows.unflatten(1, tuple(sides))
    room = room.flatten(1, -2)
    if coords:
        room[..., channels:] = coordinates(outer, dtype, rows.device)
    return room


def inside_map(room: Tensor, sides: Sequence[int], padding: int) -> Tensor:
    """View of what is not pad. (t, H+2p, W+2p, C) -> (t, H, W, C)"""
    for dim, side in enumerate(sides, start=1):
        room = room.narrow(dim, padding, side)
    return room


def interior_rows(rows: Tensor, sides: Sequence[int], padding: int, length: int) -> Tensor:
    """What `pad_rows` would have padded to these rows: all of them, or the interior. (t, N', C) -> (t, length, C)"""
    if rows.shape[1] == length:
        return rows
    return inside_map(rows.unflatten(1, padded(sides, padding)), sides, padding).flatten(1, -2)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`; on a CPU as a 1x1 convolution: oneDNN's float32 kernels run twice as fast as MKL's on AMD cores."""
    if rows.device.type != "cpu" or rows.dtype == torch.float64 or rows.numel() == 0:
        return F.linear(rows, weight, bias)
    image = rows.reshape(1, -1, 1, rows.shape[-1]).permute(0, 3, 1, 2)  # channels last, without a copy
    out = F.conv2d(image, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).contiguous().view(*rows.shape[:-1], weight.shape[0])


def outer_product(left: Tensor, right: Tensor) -> Tensor:
    """`left.mT @ right`, summed over the rows, by the same kernels as `linear`. (T, a), (T, b) -> (a, b)"""
    if left.device.type != "cpu" or left.dtype == torch.float64:
        return left.mT @ right
    image, grad = (rows[None, :, None].permute(0, 3, 1, 2) for rows in (right, left))
    return conv2d_weight(image, (left.shape[1], right.shape[1], 1, 1), grad)[:, :, 0, 0]
