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

from convnn.layers.ops.coordinates import coordinates, interior, padded
from convnn.layers.ops.custom_op import operator
from convnn.layers.ops.similarity import centre_of, placed, products, score_dtype, unit
from convnn.layers.ops.tiles import pad_rows, tile_bytes, tiles

SCORE_BYTES = 5 << 20
"""Bytes of the score buffer on a CPU: what is written should still be in its cache when it is read."""
SCORE_ROWS, SCORE_MOST = 128, 24 << 20
"""Rows that a tile of a large map has all the same, up to so many bytes: a product of fewer runs at half the speed."""

FEW_PAIRS = 256
"""Distances of a map up to which they are computed pair by pair: one call, where products take ten."""

Vectors = Callable[[slice], tuple[Tensor, Tensor]]
"""Images of the batch -> queries (t, N, c) and source rows (t, N or N', c); unit vectors for cosines."""


class Layout(NamedTuple):
    """What a search knows before it sees a map: its candidates, and where their scores lie in a row of the buffer."""

    own: Tensor  # (N,) padded positions of the queries
    first: Tensor  # (1, N, 1) the same, in the type of what is found
    columns: Tensor  # (M,) those of the candidates
    own_column: Tensor  # (1, N, 1) column of each query's own score
    label: Tensor  # (width,) the position that each column stands for
    lead: int  # columns before the candidates'
    width: int  # columns of a row: at least one to spare after a pool's
    spread: bool  # whether it is cheaper to multiply the other columns' zeros than to copy the scores
    pairwise: bool  # whether distances are computed pair by pair
    pads: int | None  # where the candidates are the map's own positions and pad: how many of that

    def rows(self, x: Tensor, sides: Sequence[int], padding: int, dtype: torch.dtype) -> Tensor:
        """Source rows of a map: its own, or those of the padded map. (t, N, C) -> (t, N or N', C)"""
        return pad_rows(x, sides, padding, dtype) if self.pads is None else x.to(dtype).contiguous()

    def inner(self, rows: Tensor) -> Tensor:
        """The map's own positions of source rows. -> (t, N, c)"""
        return rows.index_select(1, self.own) if self.pads is None else rows

    def candidates(self, rows: Tensor) -> Tensor:
        """The candidates of source rows. -> (t, M, c)"""
        if self.pads is None:
            return rows.index_select(1, self.columns)
        return F.pad(rows, (0, 0, 0, self.pads)) if self.pads else rows


def index_dtype(total: int) -> torch.dtype:
    """Smallest type that numbers this many positions; indices are kept for the backward pass."""
    return torch.int16 if total <= torch.iinfo(torch.int16).max else torch.int32


@operator("convnn::nearest_positions")
def nearest_positions(
    x: Tensor, pool: Tensor | None, sides: Sequence[int], padding: int, k: int, metric: str, lambda_param: float | None
) -> Tensor:
    """Padded positions of the k nearest, own first, by features or (`lambda_param`) Loc_Col. (B, N, C) -> (B, N, k)"""
    dtype = score_dtype(x.dtype)
    layout = _layout(pool, sides, padding, k, x.device, lambda_param is None, metric)

    def vectors(images: slice) -> tuple[Tensor, Tensor]:
        rows = layout.rows(x[images], sides, padding, dtype)
        if lambda_param is not None:
            rows = placed(rows, coordinates(padded(sides, padding), dtype, x.device), lambda_param)
        rows = unit(rows) if metric == "cosine" else rows
        return layout.inner(rows), rows

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
    layout = _layout(pool, sides, padding, k, keys.device, one_pad, metric)

    def vectors(images: slice) -> tuple[Tensor, Tensor]:
        return ready(queries[images].to(dtype)), ready(layout.rows(keys[images], sides, padding, dtype))

    return _search(vectors, keys, layout, k, metric)


@nearest_positions.register_fake
def _(x, pool, sides, padding, k, metric, lambda_param):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape[0], prod(sides), k, dtype=index_dtype(prod(padded(sides, padding))))


@nearest_keys.register_fake
def _(queries, keys, pool, sides, padding, k, metric):  # type: ignore[no-untyped-def]
    return keys.new_empty(keys.shape[0], prod(sides), k, dtype=index_dtype(prod(padded(sides, padding))))


def _layout(
    pool: Tensor | None, sides: Sequence[int], padding: int, k: int, device: torch.device, one_pad: bool, metric: str
) -> Layout:
    """The layout of a search among a pool or, without one, among all.

    Of those no more than k - 1 are pad where all pad is one vector (`one_pad`).
    """
    # elsewhere what is kept might lie in the memory of a captured graph
    lay_out = _kept_layout if pool is None and device.type == "cpu" else _laid_out
    return lay_out(pool, tuple(sides), padding, k, device, one_pad, metric)


@torch.inference_mode(False)
def _laid_out(
    pool: Tensor | None, sides: tuple[int, ...], padding: int, k: int, device: torch.device, one_pad: bool, metric: str
) -> Layout:
    own, total = interior(sides, padding, device), prod(padded(sides, padding))
    pads = min(total - len(own), k - 1) if pool is None and one_pad else None
    if pool is not None:
        columns = pool
    elif pads is None:
        columns = torch.arange(total, device=device)
    else:
        is_pad = torch.ones(total, dtype=torch.bool, device=device)
        is_pad[own] = False
        columns = torch.cat((own, (~is_pad).to(torch.int8).argsort(stable=True)[:pads]))
    count = len(columns)
    lead, width = _room(count, k - 1, device, spare=pool is not None)
    column_of = columns.new_full((total,), width - 1)  # a query outside the pool strikes out the spare last column
    column_of[columns] = torch.arange(lead, lead + count, device=device)
    label = torch.zeros(width, dtype=index_dtype(total), device=device)
    label[lead : lead + count] = columns
    return Layout(
        own=own,
        first=own.to(label.dtype).view(1, -1, 1),
        columns=columns,
        own_column=column_of[own].view(1, -1, 1),
        label=label,
        lead=lead,
        width=width,
        spread=width - count <= count // 8,
        pairwise=metric == "euclidean" and width == count and len(own) * count <= FEW_PAIRS,
        pads=pads,
    )


_kept_layout = lru_cache(maxsize=64)(_laid_out)


def _search(vectors: Vectors, like: Tensor, layout: Layout, k: int, metric: str) -> Tensor:
    """Own position and the k - 1 best of the candidates, as positions of the padded map. -> (B, N, k)"""
    width, batch, length = layout.width, like.shape[0], layout.first.shape[1]
    first = layout.first.expand(batch, -1, -1)
    if k == 1 or batch == 0:
        return first.expand(-1, -1, k).clone(memory_format=torch.contiguous_format)
    parts = [*tiles(batch, length, width * score_dtype(like.dtype).itemsize, _score_bytes(width, like))]
    if len(parts) == 1:
        left, right, handicap = _operands(vectors, parts[0][0], layout, metric)
        return torch.cat((first, _nearest(left, right, handicap, layout, layout.own_column, k - 1)), dim=2)
    found = first.new_empty(batch, length, k)
    found[..., :1] = first
    images = slice(0, 0)
    room: Tensor | None = None
    for wanted, rows in parts:
        if wanted != images:
            images = wanted
            left, right, handicap = _operands(vectors, images, layout, metric)
        part = left[:, rows]
        room = part.new_empty(*part.shape[:2], width) if room is None else room
        scores = room[: part.shape[0], : part.shape[1]]  # one block: a tile is of whole images or of one
        found[images, rows, 1:] = _nearest(part, right, handicap, layout, layout.own_column[:, rows], k - 1, scores)
    return found


def _operands(vectors: Vectors, images: slice, layout: Layout, metric: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """Queries (t, N, c), candidates (t, c, M or width), and the handicap of these (t, 1, M or width) in `products`."""
    left, places = vectors(images)
    right, handicap = layout.candidates(places), None
    if layout.pairwise:
        return left, right.mT, None
    if metric == "euclidean":
        centre = centre_of(layout.inner(places))
        left, right = left - centre, right - centre
    if layout.spread and layout.width > right.shape[1]:
        right = F.pad(right, (0, 0, layout.lead, layout.width - right.shape[1] - layout.lead))
    if metric == "euclidean":
        handicap = right.square().sum(2)[:, None]
    return left, right.mT, handicap


def _nearest(
    left: Tensor,
    right: Tensor,
    handicap: Tensor | None,
    layout: Layout,
    own_column: Tensor,
    count: int,
    scores: Tensor | None = None,
) -> Tensor:
    """The best of the candidates but for each query itself, in a buffer of scores if given. -> (t, n, count)"""
    lead, width, end = layout.lead, layout.width, layout.lead + len(layout.columns)
    if layout.pairwise:
        scores = torch.cdist(left, right.mT, compute_mode="donot_use_mm_for_euclid_dist").neg_()
    elif layout.spread:
        scores = products(left, right, handicap, out=scores)
    else:
        scores = left.new_empty(*left.shape[:2], width) if scores is None else scores
        scores[..., lead:end] = products(left, right, handicap)
    if end < width:
        scores[..., end:] = -torch.inf
    scores.scatter_(2, own_column.expand(len(left), -1, -1), -torch.inf)
    if lead:
        scores[..., :lead] = _below_the_best(scores[..., lead:end], count)
    return layout.label[scores.topk(count, dim=2).indices]


def _score_bytes(width: int, like: Tensor) -> int:
    """Bytes that the buffer of scores may take, in rows of this width."""
    if like.device.type != "cpu":
        return tile_bytes(like.device)
    return max(SCORE_BYTES, min(SCORE_MOST, SCORE_ROWS * width * score_dtype(like.dtype).itemsize))


def _room(count: int, k: int, device: torch.device, *, spare: bool) -> tuple[int, int]:
    """Columns to lead with, and columns of the score buffer for so many candidates.

    torch's CPU topk sorts rows of 64 k columns or more partially, with a heap that starts as the first k columns, and
    selects from narrower ones at some three times the price of a column. So a row is widened when it is not much too
    narrow, and led by k values just below the best: hardly a candidate then passes the heap by chance. (On 1024 columns
    and k = 8 that takes 30 % off.)
    """
    if device.type != "cpu" or count < 20 * k:
        return 0, count + spare
    return k, max(64 * k, count + k + spare)


def _below_the_best(scores: Tensor, k: int) -> Tensor:
    """A value just below at least k scores of each row: the least of the maxima of k groups. (.., M) -> (.., 1)"""
    groups = scores[..., : scores.shape[-1] // k * k].unflatten(-1, (k, -1))
    bound = groups.amax(-1).amin(-1, keepdim=True)
    return bound.nextafter(torch.full_like(bound, -torch.inf))
