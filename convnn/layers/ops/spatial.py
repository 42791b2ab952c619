"""Neighbors by location alone (Loc similarity). With all or spatial candidates they are computed once per process.

    n  spatial dimensions     N  queries     N'  positions of the padded map     M  candidates     K  neighbors

The nearer candidate is the one with the smaller Chebyshev distance in pixels, then the smaller Euclidean distance, then
the lower position; the K chosen are returned in ascending order. Among a pool this takes N * M keys, a tile at a time;
with all positions as candidates only the offsets that can be among the nearest are compared.
"""

from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor

from convnn.layers.ops.coordinates import interior_positions, padded_sides, position_lines
from convnn.layers.ops.custom_op import DeviceCache, Operator
from convnn.layers.ops.nearest import index_dtype
from convnn.layers.ops.tiles import tile_bytes
from convnn.layers.sampling import Sampling


@partial(Operator, "convnn::spatial_neighbors")
def spatial_neighbors(
    sides: Sequence[int],
    padding: int,
    k: int,
    sampling_type: str,
    num_samples: int,
    sample_padding: int,
    device: torch.device,
) -> Tensor:
    """Padded positions of the k candidates nearest each query, which depend on the options alone. -> (1, N, k)"""
    sampling = Sampling(sampling_type, num_samples, sample_padding)
    # a copy: the output of an operator may be overwritten
    return _cached_neighbors(device, tuple(sides), padding, k, sampling).clone()


@partial(Operator, "convnn::spatial_neighbors_in_pool")
def spatial_neighbors_in_pool(pool: Tensor, sides: Sequence[int], padding: int, k: int) -> Tensor:
    """Padded positions of each query and of the k - 1 positions of the pool nearest to it. (M,) -> (1, N, k)"""
    outer = padded_sides(sides, padding)
    total = prod(outer)
    max_remainder = (len(outer) - 1) * max(outer) ** 2 + 1  # above any squared distance minus the Chebyshev one's
    indices = []
    for queries in interior_positions(sides, padding, pool.device).split(_queries_per_tile(len(pool), pool.device)):
        distances = [
            (query[:, None] - candidate).abs()
            for query, candidate in zip(position_lines(queries, outer), position_lines(pool, outer), strict=True)
        ]
        chebyshev = torch.stack(distances).amax(0)  # (queries, M)
        remainder = sum(distance * distance for distance in distances) - chebyshev * chebyshev
        key = (chebyshev * max_remainder + remainder) * total + pool
        key.masked_fill_(queries[:, None] == pool, torch.iinfo(key.dtype).max)
        nearest = pool[key.topk(k - 1, dim=1, largest=False).indices]
        indices.append(torch.cat((queries[:, None], nearest), dim=1).sort(dim=1).values.to(index_dtype(total)))
    return torch.cat(indices)[None]


@spatial_neighbors.register_fake
def _(sides, padding, k, sampling_type, num_samples, sample_padding, device):  # type: ignore[no-untyped-def]
    return torch.empty(1, prod(sides), k, dtype=index_dtype(prod(padded_sides(sides, padding))), device=device)


@spatial_neighbors_in_pool.register_fake
def _(pool, sides, padding, k):  # type: ignore[no-untyped-def]
    return pool.new_empty(1, prod(sides), k, dtype=index_dtype(prod(padded_sides(sides, padding))))


@DeviceCache
def _cached_neighbors(device: torch.device, sides: tuple[int, ...], padding: int, k: int, sampling: Sampling) -> Tensor:
    with torch.inference_mode(False):
        pool = sampling.pool(sides, padding, True, device)
        if pool is None:
            return _neighbors_among_all(sides, padding, k, device)
        return spatial_neighbors_in_pool(pool, sides, padding, k)


def _neighbors_among_all(sides: Sequence[int], padding: int, k: int, device: torch.device) -> Tensor:
    """`spatial_neighbors_in_pool` with every position in the pool. -> (1, N, k)"""
    outer = padded_sides(sides, padding)
    radius = next(r for r in range(k) if prod(min(r + 1, side) for side in outer) >= k)  # enough even in a corner
    reaches = [min(radius, side - 1) for side in outer]
    lines = [torch.arange(-reach, reach + 1, device=device) for reach in reaches]
    offsets = torch.stack(torch.meshgrid(lines, indexing="ij"), dim=-1).flatten(0, -2)  # (offsets, n)
    distance_key = offsets.abs().amax(1) * (len(outer) * radius**2 + 1) + offsets.square().sum(1)
    offsets = offsets[distance_key.argsort(stable=True)]  # by Chebyshev distance, then by the Euclidean one
    indices = []
    for queries in interior_positions(sides, padding, device).split(_queries_per_tile(len(offsets), device)):
        positions = torch.zeros((), dtype=torch.int64, device=device)
        is_outside = torch.zeros(len(queries), len(offsets), dtype=torch.bool, device=device)
        for dim, line in enumerate(position_lines(queries, outer)):
            neighbor = line[:, None] + offsets[:, dim]
            is_outside |= (neighbor < 0) | (neighbor >= outer[dim])
            positions = positions * outer[dim] + neighbor
        nearest = is_outside.to(torch.uint8).argsort(dim=1, stable=True)[:, :k]  # the first k inside, by distance
        indices.append(positions.gather(1, nearest).sort(dim=1).values.to(index_dtype(prod(outer))))
    return torch.cat(indices)[None]


def _queries_per_tile(candidates: int, device: torch.device) -> int:
    return max(1, tile_bytes(device) // (32 * candidates))
