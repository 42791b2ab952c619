"""Position-major rows of maps, and the tiles that operators work on.

    t  images of a tile     C  channels     N  positions     N'  positions of the padded map

A row is the vector of one position. Intermediate results of an operator would take B * N * K * C values; computed a
tile at a time they take one buffer of `tile_bytes`, which stays in the cache and is reused.
"""

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from convnn.layers.ops.coordinates import coordinates, padded_sides

TILE_BYTES = 8 << 20
"""Bytes of one working buffer on a CPU.

An operator holds one or two buffers, its scores, and its own copies of the weights. glibc returns buffers of 32 MiB
and more to the system on every free, and each new one then pays for its page faults again.
"""
GPU_SHARE, META_MEMORY = 64, 80 << 30
"""A buffer on a GPU takes one part in 64 of its memory; tensors without data are computed as on a GPU of 80 GiB."""


def as_rows(x: Tensor) -> Tensor:
    """Position-major view of a map. (B, C, *sides) -> (B, N, C)"""
    return x.flatten(2).mT


def as_map(rows: Tensor, sides: Sequence[int]) -> Tensor:
    """Return the map of position-major rows, channels last in memory. (B, N, C) -> (B, C, *sides)"""
    return rows.mT.unflatten(2, tuple(sides))


def tile_bytes(device: torch.device) -> int:
    """Bytes that one working buffer may take.

    On a GPU it is a fixed share of its memory, not of what is free: results must not depend on other processes.
    Tensors without data ("meta") take the path of a GPU.
    """
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    elif device.type == "mps":
        memory = torch.mps.recommended_max_memory()
    elif device.type == "meta":
        memory = META_MEMORY
    else:
        return TILE_BYTES
    return max(TILE_BYTES, memory // GPU_SHARE)


def tiles(batch: int, length: int, row_bytes: int, limit: int) -> Iterator[tuple[slice, slice]]:
    """Slices of images and of their rows, each tile at most `limit` bytes (or one row).

    A tile holds whole images while they fit. The rows of a larger image are split evenly: a small remainder would cost
    as many calls as a full tile.
    """
    images = max(1, min(batch, limit // max(1, length * row_bytes)))
    step = length if images * length * row_bytes <= limit else max(1, limit // row_bytes)
    step = -(-length // -(-length // step)) if length else 1
    for image in range(0, batch, images):
        for row in range(0, length, step):
            yield slice(image, min(batch, image + images)), slice(row, min(length, row + step))


def pad_rows(rows: Tensor, sides: Sequence[int], padding: int, dtype: torch.dtype, *, coords: bool = False) -> Tensor:
    """Rows of the zero-padded map, with coordinates if `coords`. (t, N, C) -> (t, N', C) or (t, N', C + n)

    Rows that already cover the padded map are only converted.
    """
    outer = padded_sides(sides, padding)
    count, length, channels = rows.shape
    if length == prod(outer) and not coords:
        return rows.to(dtype).contiguous()
    if not coords and rows.dtype == dtype:
        margins = (padding, padding) * len(sides)
        return F.pad(rows.unflatten(1, tuple(sides)), (0, 0, *margins)).flatten(1, -2).contiguous()
    padded = rows.new_zeros(count, *outer, channels + len(sides) * coords, dtype=dtype)
    interior_view(padded, sides, padding)[..., :channels] = rows.unflatten(1, tuple(sides))
    padded = padded.flatten(1, -2)
    if coords:
        padded[..., channels:] = coordinates(outer, dtype, rows.device)
    return padded


def interior_view(padded: Tensor, sides: Sequence[int], padding: int) -> Tensor:
    """View of a channels-last padded map without the padding. (t, H + 2p, W + 2p, C) -> (t, H, W, C)"""
    for dim, side in enumerate(sides, start=1):
        padded = padded.narrow(dim, padding, side)
    return padded


def interior_rows(rows: Tensor, sides: Sequence[int], padding: int, length: int) -> Tensor:
    """Undo `pad_rows` for rows of this length: all of them, or the interior. (t, N', C) -> (t, length, C)"""
    if rows.shape[1] == length:
        return rows
    return interior_view(rows.unflatten(1, padded_sides(sides, padding)), sides, padding).flatten(1, -2)


def add_product(total: Tensor | None, left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Add `left.mT @ right`, summed in `dtype`, to the total of earlier tiles, if any. (T, a), (T, b) -> (a, b)"""
    is_cuda = left.device.type in ("cuda", "meta") and torch.version.hip is None  # ROCm refuses an `out_dtype`
    if is_cuda and left.dtype != dtype == torch.float32:
        product = torch.mm(left.mT, right, out_dtype=dtype)  # cuBLAS rounds the sums of half types to them otherwise
        return product if total is None else total.add_(product)
    left, right = left.to(dtype), right.to(dtype)  # products of half types are several times slower on a CPU
    return left.mT @ right if total is None else total.addmm_(left.mT, right)
