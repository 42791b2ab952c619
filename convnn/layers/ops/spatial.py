"""Neighbours by place alone (Loc similarity): with all or spatial candidates they are found once per process.

n dimensions, N queries, N' positions of the padded map, M candidates, K neighbours. Nearer is the smaller Chebyshev
distance in pixels, then the smaller Euclidean one, then the lower number; the K chosen are put in ascending order.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import product
from math import prod

import torch
from torch import Tensor

from convnn.layers.ops.coordinates import interior, padded
from convnn.layers.ops.custom_op import Operator
from convnn.layers.ops.nearest import index_dtype
from convnn.layers.ops.tiles import tile_bytes
from convnn.layers.sampling import Sampling


@partial(Operator, "convnn::places")
def places(
    sides: Sequence[int],
    padding: int,
    k: int,
    sampling_type: str,
    num_samples: int,
    sample_padding: int,
    device: torch.device,
) -> Tensor:
    """Padded positions of the k places nearest each query, by shape and options alone. -> (1, N, k)"""
    sampling = Sampling(sampling_type, num_samples, sample_padding)
    return _kept(tuple(sides), padding, k, sampling, device).clone()  # what an operator returns may be overwritten


@partial(Operator, "convnn::places_in")
def places_in(pool: Tensor, sides: Sequence[int], padding: int, k: int) -> Tensor:
    """Padded positions of the query and of the k - 1 places of the pool nearest to it. (M,) -> (1, N, k)"""
    outer = padded(sides, padding)
    total = prod(outer)
    span = (len(outer) - 1) * max(outer) ** 2 + 1  # what is left of the Euclidean distance stays below it
    own = interior(sides, padding, pool.device)
    found = []
    for query in own.split(max(1, tile_bytes(pool.device) // (32 * len(pool)))):
        apart = [(a[:, None] - b).abs() for a, b in zip(_spread(query, outer), _spread(pool, outer), strict=True)]
        far = torch.stack(apart).amax(0)
        key = (far * span + sum(a * a for a in apart) - far * far) * total + pool
        key.masked_fill_(query[:, None] == pool, torch.iinfo(key.dtype).max)
        others = pool[key.topk(k - 1, dim=1, largest=False).indices]
        found.append(torch.cat((query[:, None], others), dim=1).sort(dim=1).values.to(index_dtype(total)))
    return torch.cat(found)[None]


@places.register_fake
def _(sides, padding, k, sampling_type, num_samples, sample_padding, device):  # type: ignore[no-untyped-def]
    return torch.empty(1, prod(sides), k, dtype=index_dtype(prod(padded(sides, padding))), device=device)


@places_in.register_fake
def _(pool, sides, padding, k):  # type: ignore[no-untyped-def]
    return pool.new_empty(1, prod(sides), k, dtype=index_dtype(prod(padded(sides, padding))))


@lru_cache(maxsize=64)
def _kept(sides: tuple[int, ...], padding: int, k: int, sampling: Sampling, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        pool = sampling.pool(sides, padding, True, device)
        return _around(sides, padding, k, device) if pool is None else places_in(pool, sides, padding, k)


def _around(sides: Sequence[int], padding: int, k: int, device: torch.device) -> Tensor:
    """As `places_in` with every position in the pool, from the few offsets that can be among the nearest."""
    outer = padded(sides, padding)
    reach = next(r for r in range(k) if prod(min(r + 1, side) for side in outer) >= k)  # enough even in a corner
    spans = [range(-min(reach, side - 1), min(reach, side - 1) + 1) for side in outer]
    ordered = sorted(product(*spans), key=lambda at: (max(map(abs, at)), sum(a * a for a in at)))
    offsets = torch.tensor(ordered, device=device)
    found = []
    for query in interior(sides, padding, device).split(max(1, tile_bytes(device) // (32 * len(ordered)))):
        number = torch.zeros((), dtype=torch.int64, device=device)
        outside = torch.zeros(len(query), len(ordered), dtype=torch.bool, device=device)
        for dim, at in enumerate(_spread(query, outer)):
            line = at[:, None] + offsets[:, dim]
            outside |= (line < 0) | (line >= outer[dim])
            number = number * outer[dim] + line
        first = outside.to(torch.uint8).argsort(dim=1, stable=True)[:, :k]
        found.append(number.gather(1, first).sort(dim=1).values.to(index_dtype(prod(outer))))
    return torch.cat(found)[None]


def _spread(numbers: Tensor, sides: Sequence[int]) -> list[Tensor]:
    """Row-major numbers as one index a side."""
    lines: list[Tensor] = []
    for side in reversed(sides):
        lines.insert(0, numbers % side)
        numbers = numbers // side
    return lines
