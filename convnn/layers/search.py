"""The search: for every query its own position and the K - 1 candidates most like it.

B batch, C channels, N queries, N' positions of the padded map, M candidates, K neighbours. Scores are never kept:
they are made a tile at a time in one buffer. The operators are opaque to autograd and to the compiler.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .coords import coordinates, interior, padded
from .operators import operator
from .rows import pad_rows, tile_bytes, tiles
from .similarity import by_distance, centre_of, placed, score_dtype, unit

SCORE_BYTES = 5 << 20
"""Bytes of the score buffer on a CPU: what is written should still be in its cache when it is read."""
SCORE_ROWS, SCORE_MOST = 128, 24 << 20
"""Rows that a tile of a large map has all the same, up to so many bytes: a product of fewer runs at half the speed."""

Vectors = Callable[[slice], tuple[Tensor, Tensor]]
"""Images of the batch -> queries (t, N, c) and all padded positions (t, N', c); unit vectors for cosines."""


class Layout(NamedTuple):
    """What a search knows before it sees a map: its candidates, and where their scores lie in a row of the buffer."""

    own: Tensor  # (N,) padded positions of the queries
    columns: Tensor  # (M,) those of the candidates
    own_column: Tensor  # (1, N, 1) column of each query's own score
    label: Tensor  # (width,) the position that each column stands for
    lead: int  # columns before the candidates'
    width: int  # columns of a row: at least one to spare after the candidates'


def index_dtype(total: int) -> torch.dtype:
    """Smallest type that numbers this many positions; indices are kept for the backward pass."""
    return torch.int16 if total <= torch.iinfo(torch.int16).max else torch.int32


@operator("convnn::nearest_positions")
def nearest_positions(
    x: Tensor, pool: Tensor | None, sides: Sequence[int], padding: int, k: int, metric: str, lambda_param: float | None
) -> Tensor:
    """Padded positions of the k nearest, own first, by features or (`lambda_param`) Loc_Col. (B, N, C) -> (B, N, k)"""
    dtype = score_dtype(x.dtype)
    layout = _layout(pool, sides, padding, k, x.device, lambda_param is None)

    def vectors(images: slice) -> tuple[Tensor, Tensor]:
        rows = pad_rows(x[images], sides, padding, dtype)
        if lambda_param is not None:
            rows = placed(rows, coordinates(padded(sides, padding), dtype, x.device), lambda_param)
        rows = unit(rows) if metric == "cosine" else rows
        return rows.index_select(1, layout.own), rows

    return _search(vectors, x, layout, k, metric)


@operator("convnn::nearest_keys")
def nearest_keys(
    queries: Tensor, keys: Tensor, pool: Tensor | None, sides: Sequence[int], padding: int, k: int, metric: str
) -> Tensor:
    """Padded positions of the k keys nearest each query, own first. (B, N, d), (B, N or N', d) -> (B, N, k)

    Keys of the N interior positions alone stand for a pad whose keys are zero.
    """
    dtype = score_dtype(keys.dtype)
    ready = unit if metric == "cosine" else torch.Tensor.detach
    one_pad = keys.shape[1] < prod(padded(sides, padding))
    layout = _layout(pool, sides, padding, k, keys.device, one_pad)

    def vectors(images: slice) -> tuple[Tensor, Tensor]:
        return ready(queries[images].to(dtype)), ready(pad_rows(keys[images], sides, padding, dtype))

    return _search(vectors, keys, layout, k, metric)


@nearest_positions.register_fake
def _(x, pool, sides, padding, k, metric, lambda_param):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape[0], prod(sides), k, dtype=index_dtype(prod(padded(sides, padding))))


@nearest_keys.register_fake
def _(queries, keys, pool, sides, padding, k, metric):  # type: ignore[no-untyped-def]
    return keys.new_empty(keys.shape[0], prod(sides), k, dtype=index_dtype(prod(padded(sides, padding))))


def _layout(
    pool: Tensor | None, sides: Sequence[int], padding: int, k: int, device: torch.device, one_pad: bool
) -> Layout:
    """The layout of a search among a pool or, without one, among all.

    Of those no more than k - 1 are pad where all pad is one vector (`one_pad`).
    """
    if pool is None and device.type == "cpu":  # elsewhere what is kept might lie in the memory of a captured graph
        return _layout_of_all(tuple(sides), padding, k, one_pad)
    own = interior(sides, padding, device)
    return _laid_out(own, _all(sides, padding, k, own, one_pad) if pool is None else pool, sides, padding, k)


@lru_cache(maxsize=64)
def _layout_of_all(sides: tuple[int, ...], padding: int, k: int, one_pad: bool) -> Layout:
    with torch.inference_mode(False):
        own = interior(sides, padding, torch.device("cpu"))
        return _laid_out(own, _all(sides, padding, k, own, one_pad), sides, padding, k)


def _all(sides: Sequence[int], padding: int, k: int, own: Tensor, one_pad: bool) -> Tensor:
    """Every position that may be chosen. -> (M,)"""
    total = prod(padded(sides, padding))
    if not one_pad:
        return torch.arange(total, device=own.device)
    is_pad = torch.ones(total, dtype=torch.bool, device=own.device)
    is_pad[own] = False
    pads = (~is_pad).to(torch.int8).argsort(stable=True)[: min(total - len(own), k - 1)]
    return torch.cat((own, pads))


def _laid_out(own: Tensor, columns: Tensor, sides: Sequence[int], padding: int, k: int) -> Layout:
    device, count, total = own.device, len(columns), prod(padded(sides, padding))
    lead, width = _room(count, k - 1, device)
    column_of = columns.new_full((total,), width - 1)  # a query outside the pool strikes out the spare last column
    column_of[columns] = torch.arange(lead, lead + count, device=device)
    label = torch.zeros(width, dtype=index_dtype(total), device=device)
    label[lead : lead + count] = columns
    return Layout(own, columns, column_of[own].view(1, -1, 1), label, lead, width)


def _search(vectors: Vectors, like: Tensor, layout: Layout, k: int, metric: str) -> Tensor:
    """Own position and the k - 1 best of the candidates, as positions of the padded map. -> (B, N, k)"""
    own, columns, own_column, label, lead, width = layout
    device, (batch, length, others) = like.device, (like.shape[0], len(own), k - 1)
    found = torch.empty(batch, length, k, dtype=label.dtype, device=device)
    found[..., 0] = own
    if others == 0:
        return found
    count = len(columns)
    dtype = score_dtype(like.dtype)
    images = slice(0, 0)
    room: Tensor | None = None
    limit = tile_bytes(device)
    if device.type == "cpu":
        limit = max(SCORE_BYTES, min(SCORE_MOST, SCORE_ROWS * width * dtype.itemsize))
    for wanted, rows in tiles(batch, length, width * dtype.itemsize, limit):
        if wanted != images:
            images = wanted
            left, places = vectors(images)
            right = places.index_select(1, columns)
            if metric == "euclidean":
                left, right = by_distance(left, right, centre_of(places.index_select(1, own)))
            spread = width - count <= count // 8  # cheaper to multiply a few zeros than to copy the scores
            right = F.pad(right, (0, 0, lead, width - count - lead)).mT if spread else right.mT
        part = left[:, rows]
        size = part.shape[0] * part.shape[1] * width
        room = part.new_empty(size) if room is None else room
        scores = room[:size].view(*part.shape[:2], width)
        real = scores[..., lead : lead + count]
        if spread:
            torch.bmm(part, right, out=scores)
        else:
            real.copy_(part @ right)
        scores[..., lead + count :] = -torch.inf
        scores.scatter_(2, own_column[:, rows].expand(len(part), -1, -1), -torch.inf)
        if lead:
            scores[..., :lead] = _below_the_best(real, others)
        found[images, rows, 1:] = label[scores.topk(others, dim=2).indices]
    return found


def _room(count: int, k: int, device: torch.device) -> tuple[int, int]:
    """Columns to lead with, and columns of the score buffer for so many candidates.

    torch's CPU topk sorts rows of 64 k columns or more partially, with a heap that starts as the first k columns, and
    selects from narrower ones at some three times the price of a column. So a row is widened when it is not much too
    narrow, and led by k values just below the best: hardly a candidate then passes the heap by chance. (On 1024 columns
    and k = 8 that takes 30 % off.)
    """
    if device.type != "cpu" or count < 20 * k:
        return 0, count + 1
    return k, max(64 * k, count + k + 1)


def _below_the_best(scores: Tensor, k: int) -> Tensor:
    """A value just below at least k scores of each row: the least of the maxima of k groups. (.., M) -> (.., 1)"""
    groups = scores[..., : scores.shape[-1] // k * k].unflatten(-1, (k, -1))
    bound = groups.amax(-1).amin(-1, keepdim=True)
    return bound.nextafter(torch.full_like(bound, -torch.inf))
