"""The search: for every query its own position and the K - 1 candidates most like it.

B batch, C channels, N queries, N' positions of the padded map, M candidates, K neighbours. Scores are never kept:
they are made a tile at a time in one buffer. The operators are opaque to autograd and to the compiler.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from .coords import coordinates, interior, padded
from .operators import operator
from .rows import pad_rows, tile_bytes, tiles
from .similarity import centre_of, placed, ranked, score_dtype

Vectors = Callable[[slice], tuple[Tensor, Tensor, Tensor]]
"""Images of the batch -> queries (t, N, c), all padded positions (t, N', c), their centre (t, 1, c)."""


def index_dtype(total: int) -> torch.dtype:
    """Smallest type that numbers this many positions; indices are kept for the backward pass."""
    return torch.int16 if total <= torch.iinfo(torch.int16).max else torch.int32


@operator("convnn::nearest_positions")
def nearest_positions(
    x: Tensor, pool: Tensor | None, sides: Sequence[int], padding: int, k: int, metric: str, lambda_param: float | None
) -> Tensor:
    """Padded positions of the k nearest, own first, by features or (`lambda_param`) Loc_Col. (B, N, C) -> (B, N, k)"""
    outer, dtype = padded(sides, padding), score_dtype(x.dtype)
    own = interior(sides, padding, x.device)
    where = coordinates(outer, dtype, x.device)

    def vectors(images: slice) -> tuple[Tensor, Tensor, Tensor]:
        rows = pad_rows(x[images], sides, padding, dtype)
        rows = rows if lambda_param is None else placed(rows, where, lambda_param)
        queries = rows.index_select(1, own)
        return queries, rows, centre_of(queries)

    columns = _columns(pool, sides, padding, k, x.device, one_pad=lambda_param is None)
    return _search(vectors, x, columns, own, prod(outer), k, metric, int(pool is not None))


@operator("convnn::nearest_keys")
def nearest_keys(
    queries: Tensor, keys: Tensor, pool: Tensor | None, sides: Sequence[int], padding: int, k: int, metric: str
) -> Tensor:
    """Padded positions of the k keys nearest each query, own first. (B, N, d), (B, N or N', d) -> (B, N, k)

    Keys of the N interior positions alone stand for a pad whose keys are zero.
    """
    dtype = score_dtype(keys.dtype)
    own = interior(sides, padding, keys.device)
    total = prod(padded(sides, padding))

    def vectors(images: slice) -> tuple[Tensor, Tensor, Tensor]:
        rows = pad_rows(keys[images], sides, padding, dtype)
        return queries[images].to(dtype), rows, centre_of(rows.index_select(1, own))

    columns = _columns(pool, sides, padding, k, keys.device, one_pad=keys.shape[1] < total)
    return _search(vectors, keys, columns, own, total, k, metric, int(pool is not None))


@nearest_positions.register_fake
def _(x, pool, sides, padding, k, metric, lambda_param):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape[0], prod(sides), k, dtype=index_dtype(prod(padded(sides, padding))))


@nearest_keys.register_fake
def _(queries, keys, pool, sides, padding, k, metric):  # type: ignore[no-untyped-def]
    return keys.new_empty(keys.shape[0], prod(sides), k, dtype=index_dtype(prod(padded(sides, padding))))


def _columns(
    pool: Tensor | None, sides: Sequence[int], padding: int, k: int, device: torch.device, *, one_pad: bool
) -> Tensor:
    """Candidates to score: the pool; of all, no more than k - 1 of the pad where all pad is one vector. -> (M,)"""
    if pool is not None:
        return pool
    total = prod(padded(sides, padding))
    if not one_pad:
        return torch.arange(total, device=device)
    own = interior(sides, padding, device)
    is_pad = torch.ones(total, dtype=torch.bool, device=device)
    is_pad[own] = False
    pads = (~is_pad).to(torch.int8).argsort(stable=True)[: min(total - len(own), k - 1)]
    return torch.cat((own, pads))


def _search(
    vectors: Vectors, like: Tensor, columns: Tensor, own: Tensor, total: int, k: int, metric: str, spare: int
) -> Tensor:
    device, (batch, length, others) = like.device, (like.shape[0], len(own), k - 1)
    found = torch.empty(batch, length, k, dtype=index_dtype(total), device=device)
    found[..., 0] = own
    if others == 0:
        return found
    count = len(columns)
    width = max(_width(count, others, device), count + spare)
    column_of = columns.new_full((total,), count)  # a query outside the pool strikes out a column past the last
    column_of[columns] = torch.arange(count, device=device)
    own_column = column_of[own].view(1, length, 1)
    label = torch.cat((columns, columns.new_zeros(width - count))).to(found.dtype)
    dtype = score_dtype(like.dtype)
    images = slice(0, 0)
    limit = min(tile_bytes(device), 4 << 20) if device.type == "cpu" else tile_bytes(device)
    room = None
    for wanted, rows in tiles(batch, length, width * dtype.itemsize, limit):
        if wanted != images:
            images = wanted
            queries, places, centre = vectors(images)
            left, right = ranked(queries, places.index_select(1, columns), metric, centre)
            right = right.mT
        part = left[:, rows]
        size = part.shape[0] * part.shape[1] * width
        room = part.new_empty(size) if room is None else room
        scores = room[:size].view(*part.shape[:2], width)
        if count == width:
            torch.bmm(part, right, out=scores)
        else:
            scores[..., :count] = part @ right
            scores[..., count:] = -torch.inf
        scores.scatter_(2, own_column[:, rows].expand(len(part), -1, -1), -torch.inf)
        chosen = scores.topk(others, dim=2).indices
        found[images, rows, 1:] = label[chosen]
    return found


def _width(count: int, k: int, device: torch.device) -> int:
    """Columns of the score buffer: more than there are candidates where torch's CPU topk is faster on a wider row.

    It sorts partially from 64 k columns on and selects below, at some three times the price of a column.
    """
    return 64 * k if device.type == "cpu" and 20 * k < count < 64 * k else count
