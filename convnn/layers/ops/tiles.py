"""Position-major rows of images, and how much of them is worked on at a time.

t images, C channels, N positions, N' padded positions. A row is one position's vector.
"""

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from convnn.layers.ops.coordinates import coordinates, padded

TILE_BYTES = 8 << 20
"""Bytes of one working buffer on a CPU.

An operator holds one or two of them, its scores, and its own copies of the weight. glibc gives buffers of 32 MiB and
more back on every free, and each new one then pays for its pages again.
"""


def as_rows(x: Tensor) -> Tensor:
    """Position-major view of a map. (B, C, *sides) -> (B, N, C)"""
    return x.flatten(2).mT


def as_map(rows: Tensor, sides: Sequence[int]) -> Tensor:
    """The map of position-major rows, channels last in memory. (B, N, C) -> (B, C, *sides)"""
    return rows.mT.unflatten(2, tuple(sides))


def tile_bytes(device: torch.device) -> int:
    """Bytes one working buffer may take.

    On a GPU it is a fixed share of the card, whatever is free, so that results do not depend on who else is on it.
    """
    if device.type == "cuda":
        return max(TILE_BYTES, torch.cuda.get_device_properties(device).total_memory // 64)
    return TILE_BYTES


def tiles(batch: int, length: int, row_bytes: int, limit: int) -> Iterator[tuple[slice, slice]]:
    """Slices of images and of their rows, whole images while they fit, each at most `limit` bytes (or one row).

    The rows of an image too large are split evenly: a small rest would cost as many calls as a whole tile.
    """
    images = max(1, min(batch, limit // max(1, length * row_bytes)))
    step = length if images * length * row_bytes <= limit else max(1, limit // row_bytes)
    step = -(-length // -(-length // step)) if length else 1
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


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add `left.mT @ right`, summed over the rows, to a total of float32 or better. (a, b), (T, a), (T, b)"""
    if left.device.type == "cpu":  # half types are several times slower than float32 there
        left, right = left.to(total.dtype), right.to(total.dtype)
    if left.dtype == total.dtype:
        total.addmm_(left.mT, right)
    else:
        total += left.mT @ right
