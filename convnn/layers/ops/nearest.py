"""Search for neighbors: for every query its own position and the K - 1 candidates most similar to it.

    B  batch     N   queries: the map's positions     M  candidates     t  images of a tile
    C  channels  N'  positions of the padded map      K  neighbors      n  queries of a tile

The definition, with all scores in memory at once:

    unit = F.normalize(rows, dim=2)                                     # (B, N', C)
    scores = unit[:, queries] @ unit[:, candidates].mT                  # (B, N, M)
    scores[is_own_position] = torch.inf                                 # itself first, whatever rounding says
    index = candidates[scores.topk(K, dim=2).indices]                   # (B, N, K)

It takes B * N * M * C multiply-adds and a top-k over B * N * M scores. The scores are not kept: they are computed a
tile at a time into one buffer, small enough for a CPU's cache. The operators are opaque to autograd and the compiler.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from convnn.layers.ops.coordinates import coordinates, interior_positions, padded_sides
from convnn.layers.ops.custom_op import DeviceCache, operator
from convnn.layers.ops.similarity import (
    append_penalty,
    append_weighted_coordinates,
    center_of,
    exact_products,
    normalize,
    score_dtype,
    score_products,
)
from convnn.layers.ops.tiles import pad_rows, tile_bytes, tiles
from convnn.layers.ops.top_k import group_size, sorts_columns, top_columns
from convnn.layers.ops.triton import launch
from convnn.layers.ops.triton import search as fused

SCORE_BYTES = 5 << 20
"""Bytes of the score buffer on a CPU: it should still be in the cache when it is read."""
MIN_SCORE_ROWS, MAX_SCORE_BYTES = 128, 24 << 20
"""Rows that a tile of a large map has in any case, up to so many bytes: products of fewer run at half the speed."""

PAIRWISE_LIMIT = 256
"""Distances of a map up to which they are computed pair by pair, in one call where products take ten."""

Vectors = Callable[[slice], tuple[Tensor, Tensor]]
"""Images of the batch -> queries (t, N, c) and source rows (t, N or N', c); unit vectors for cosines."""


class SearchLayout(NamedTuple):
    """What is known of a search before the map: its candidates, and the columns of their scores in the buffer.

    A row of the buffer holds sentinel columns, then the candidates' scores, then unused columns.
    """

    query_positions: Tensor  # (N,) in the padded map
    query_index: Tensor  # (1, N, 1) the same, in the type of an index
    candidate_positions: Tensor  # (M,) in the padded map
    query_columns: Tensor  # (1, N, 1) column of each query's own score
    column_positions: Tensor  # (columns,) the position whose score a column holds
    sentinel_columns: int  # before the candidates', see `_buffer_columns`
    columns: int
    pads_candidates: bool  # multiplying zeros for the other columns is cheaper than copying the scores
    pairwise: bool  # distances are computed pair by pair
    padding_candidates: int | None  # if the candidates are the map's own positions and this many of the padding

    def source_rows(self, x: Tensor, sides: Sequence[int], padding: int, dtype: torch.dtype) -> Tensor:
        """Return the map's own rows, or those of the padded map. (t, N, C) -> (t, N or N', C)"""
        if self.padding_candidates is None:
            return pad_rows(x, sides, padding, dtype)
        return x.to(dtype).contiguous()

    def select_interior(self, rows: Tensor) -> Tensor:
        """Select the map's own positions of source rows. (t, N or N', c) -> (t, N, c)"""
        return rows.index_select(1, self.query_positions) if self.padding_candidates is None else rows

    def select_candidates(self, rows: Tensor) -> Tensor:
        """Select the candidates of source rows. (t, N or N', c) -> (t, M, c)"""
        if self.padding_candidates is None:
            return rows.index_select(1, self.candidate_positions)
        return F.pad(rows, (0, 0, 0, self.padding_candidates)) if self.padding_candidates else rows


def index_dtype(total: int) -> torch.dtype:
    """Return the smallest type that numbers this many positions: indices are kept for the backward pass."""
    return torch.int16 if total <= torch.iinfo(torch.int16).max else torch.int32


def compared_rows(rows: Tensor, sides: Sequence[int], padding: int, lambda_param: float) -> Tensor:
    """Features and coordinates of the padded map as Loc_Col compares them. (t, N', C) -> (t, N', C + n)"""
    position_coordinates = coordinates(padded_sides(sides, padding), rows.dtype, rows.device)
    return append_weighted_coordinates(rows, position_coordinates, lambda_param)


@operator("convnn::nearest_positions")
def nearest_positions(
    x: Tensor, pool: Tensor | None, sides: Sequence[int], padding: int, k: int, metric: str, lambda_param: float | None
) -> Tensor:
    """Padded positions of the k nearest, own first, by the features themselves. (B, N, C), (M,) -> (B, N, k)

    With `lambda_param`, features and coordinates are compared (Loc_Col).
    """
    dtype = score_dtype(x.dtype)
    layout = _layout(pool, sides, padding, k, x.device, lambda_param is None, metric)

    def vectors(images: slice) -> tuple[Tensor, Tensor]:
        rows = layout.source_rows(x[images], sides, padding, dtype)
        if lambda_param is not None:
            rows = compared_rows(rows, sides, padding, lambda_param)
        if metric == "cosine":
            rows = normalize(rows)
        return layout.select_interior(rows), rows

    return _search(vectors, x, layout, k, metric)


@operator("convnn::nearest_keys")
def nearest_keys(
    queries: Tensor, keys: Tensor, pool: Tensor | None, sides: Sequence[int], padding: int, k: int, metric: str
) -> Tensor:
    """Padded positions of the k keys nearest each query, own first. (B, N, d), (B, N or N', d), (M,) -> (B, N, k)

    N keys are those of the map itself, where the keys of the padding are zero.
    """
    dtype = score_dtype(keys.dtype)
    transform = normalize if metric == "cosine" else torch.Tensor.detach
    padding_is_uniform = keys.shape[1] < prod(padded_sides(sides, padding))
    layout = _layout(pool, sides, padding, k, keys.device, padding_is_uniform, metric)

    def vectors(images: slice) -> tuple[Tensor, Tensor]:
        rows = layout.source_rows(keys[images], sides, padding, dtype)
        return transform(queries[images].to(dtype)), transform(rows)

    return _search(vectors, keys, layout, k, metric)


@nearest_positions.register_fake
def _(x, pool, sides, padding, k, metric, lambda_param):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape[0], prod(sides), k, dtype=index_dtype(prod(padded_sides(sides, padding))))


@nearest_keys.register_fake
def _(queries, keys, pool, sides, padding, k, metric):  # type: ignore[no-untyped-def]
    return keys.new_empty(keys.shape[0], prod(sides), k, dtype=index_dtype(prod(padded_sides(sides, padding))))


def _layout(
    pool: Tensor | None,
    sides: Sequence[int],
    padding: int,
    k: int,
    device: torch.device,
    padding_is_uniform: bool,
    metric: str,
) -> SearchLayout:
    """Return the layout of a search among a pool or, without one, among all positions.

    If all padding is one vector (`padding_is_uniform`), at most k - 1 positions of it are candidates.
    """
    arguments = (tuple(sides), padding, k, padding_is_uniform, metric)
    return _cached_layout(device, *arguments) if pool is None else _make_layout(device, *arguments, pool)


@torch.inference_mode(False)
def _make_layout(
    device: torch.device,
    sides: tuple[int, ...],
    padding: int,
    k: int,
    padding_is_uniform: bool,
    metric: str,
    pool: Tensor | None = None,
) -> SearchLayout:
    queries, total = interior_positions(sides, padding, device), prod(padded_sides(sides, padding))
    padding_candidates = None
    if pool is not None:
        candidates = pool
    elif padding_is_uniform:
        padding_candidates = min(total - len(queries), k - 1)
        is_padding = torch.ones(total, dtype=torch.bool, device=device)
        is_padding.index_fill_(0, queries, False)
        candidates = torch.cat((queries, (~is_padding).to(torch.int8).argsort(stable=True)[:padding_candidates]))
    else:
        candidates = torch.arange(total, device=device)
    count = len(candidates)
    sentinels, columns = _buffer_columns(count, k - 1, device, needs_spare=pool is not None)
    # a query that is no candidate masks the last column, which is unused
    column_of = candidates.new_full((total,), columns - 1)
    column_of[candidates] = torch.arange(sentinels, sentinels + count, device=device)
    column_positions = torch.zeros(columns, dtype=index_dtype(total), device=device)
    column_positions[sentinels : sentinels + count] = candidates
    return SearchLayout(
        query_positions=queries,
        query_index=queries.to(column_positions.dtype).view(1, -1, 1),
        candidate_positions=candidates,
        query_columns=column_of[queries].view(1, -1, 1),
        column_positions=column_positions,
        sentinel_columns=sentinels,
        columns=columns,
        pads_candidates=columns - count <= count // 8,
        pairwise=metric == "euclidean" and columns == count and len(queries) * count <= PAIRWISE_LIMIT,
        padding_candidates=padding_candidates,
    )


_cached_layout = DeviceCache(_make_layout)


@exact_products()
def _search(vectors: Vectors, x: Tensor, layout: SearchLayout, k: int, metric: str) -> Tensor:
    """Own position and the k - 1 best candidates as padded positions; x gives batch size and type. -> (B, N, k)"""
    if k == 1 or x.numel() == 0:
        own = layout.query_index.expand(len(x), -1, k)
        return own.clone(memory_format=torch.contiguous_format)
    if _uses_kernel(vectors, x, layout, k, metric):
        return _search_without_scores(vectors, slice(None), layout, k, metric)
    return _search_in_tiles(vectors, x, layout, k, metric)


def _uses_kernel(vectors: Vectors, x: Tensor, layout: SearchLayout, k: int, metric: str) -> bool:
    """Return whether the search has a kernel that agrees with the one in tiles."""
    is_suitable = not layout.pairwise and k - 1 <= fused.MAX_COUNT and score_dtype(x.dtype) == torch.float32
    if not is_suitable or not launch.is_usable("search", x):
        return False

    def agrees() -> bool:
        images = slice(0, launch.CHECKED_IMAGES)
        index = _search_without_scores(vectors, images, layout, k, metric)
        expected = _search_in_tiles(vectors, x[images], layout, k, metric)
        queries, candidates, _ = _whole_operands(vectors, images, layout, metric)
        return fused.agree(index, expected, queries, candidates, metric, layout.candidate_positions)

    specialization = (x.dtype, x.shape[1:], len(layout.query_positions), len(layout.candidate_positions), k, metric)
    return launch.is_correct("search", x, specialization, agrees)


def _search_without_scores(vectors: Vectors, images: slice, layout: SearchLayout, k: int, metric: str) -> Tensor:
    queries, candidates, penalty = _whole_operands(vectors, images, layout, metric)
    first, count = layout.sentinel_columns, len(layout.candidate_positions)
    own_columns = layout.query_columns.flatten()
    if first:
        own_columns = own_columns - first
    positions = layout.column_positions[first : first + count]
    return fused.search(queries, candidates, penalty, own_columns, layout.query_index.flatten(), positions, k)


def _whole_operands(
    vectors: Vectors, images: slice, layout: SearchLayout, metric: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Queries, candidates, and for distances the candidates' squared norms. (t, N, c), (t, M, c), (t, M)"""
    queries, rows = vectors(images)
    candidates = layout.select_candidates(rows)
    penalty = None
    if metric == "euclidean":
        center = center_of(layout.select_interior(rows))
        queries, candidates = queries - center, candidates - center  # in the strides that they had
        penalty = candidates.square().sum(2)
    return queries.contiguous(), candidates.contiguous(), penalty


def _search_in_tiles(vectors: Vectors, x: Tensor, layout: SearchLayout, k: int, metric: str) -> Tensor:
    """The search with the scores of a tile in one buffer; x gives batch size and type. -> (B, N, k)"""
    columns, batch, length = layout.columns, x.shape[0], layout.query_index.shape[1]
    own = layout.query_index.expand(batch, -1, -1)  # (B, N, 1)
    search_tiles = [*tiles(batch, length, columns * score_dtype(x.dtype).itemsize, _score_bytes(columns, x))]
    if len(search_tiles) == 1:
        queries, candidates, norm_penalty = _operands(vectors, search_tiles[0][0], layout, metric)
        best = _best_candidates(queries, candidates, norm_penalty, layout, layout.query_columns, k - 1)
        return torch.cat((own, best), dim=2)
    index = own.new_empty(batch, length, k)
    index[..., :1] = own
    current_images = slice(0, 0)
    buffer: Tensor | None = None
    for images, rows in search_tiles:
        if images != current_images:
            current_images = images
            queries, candidates, norm_penalty = _operands(vectors, images, layout, metric)
        tile_queries = queries[:, rows]  # (t, n, c)
        if buffer is None:
            buffer = tile_queries.new_empty(*tile_queries.shape[:2], columns)
        scores = buffer[: tile_queries.shape[0], : tile_queries.shape[1]]  # contiguous: whole images, or rows of one
        query_columns = layout.query_columns[:, rows]
        index[images, rows, 1:] = _best_candidates(
            tile_queries, candidates, norm_penalty, layout, query_columns, k - 1, scores
        )
    return index


def _operands(
    vectors: Vectors, images: slice, layout: SearchLayout, metric: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Operands of `score_products`: (t, N, c), (t, c, M or columns), for distances on a CPU (t, 1, M or columns)."""
    queries, rows = vectors(images)
    candidates = layout.select_candidates(rows)
    if layout.pairwise:
        return queries, candidates.mT, None
    if metric == "euclidean":
        center = center_of(layout.select_interior(rows))
        queries, candidates = queries - center, candidates - center
    unused = layout.columns - candidates.shape[1] - layout.sentinel_columns
    if layout.pads_candidates and layout.sentinel_columns + unused > 0:
        candidates = F.pad(candidates, (0, 0, layout.sentinel_columns, unused))
    if metric == "cosine":
        return queries, candidates.mT, None
    norm_penalty = candidates.square().sum(2)
    if candidates.device.type == "cpu":
        return queries, candidates.mT, norm_penalty[:, None]
    queries, candidates = append_penalty(queries, candidates, norm_penalty)
    return queries, candidates.mT, None


def _best_candidates(
    queries: Tensor,
    candidates: Tensor,
    norm_penalty: Tensor | None,
    layout: SearchLayout,
    query_columns: Tensor,
    count: int,
    scores: Tensor | None = None,
) -> Tensor:
    """The best candidates other than each query itself, computed in the buffer `scores`, if any. -> (t, n, count)"""
    first, columns = layout.sentinel_columns, layout.columns
    end = first + len(layout.candidate_positions)
    if layout.pairwise:
        scores = torch.cdist(queries, candidates.mT, compute_mode="donot_use_mm_for_euclid_dist").neg_()
    elif layout.pads_candidates:
        scores = score_products(queries, candidates, norm_penalty, out=scores)
    else:
        if scores is None:
            scores = queries.new_empty(*queries.shape[:2], columns)
        scores[..., first:end] = score_products(queries, candidates, norm_penalty)
    if end < columns:
        scores[..., end:] = -torch.inf
    scores.scatter_(2, query_columns.expand(len(queries), -1, -1), -torch.inf)
    if first:
        scores[..., :first] = _sentinel(scores[..., first:end], count)
    return layout.column_positions[top_columns(scores, count)]


def _score_bytes(columns: int, x: Tensor) -> int:
    """Bytes that the score buffer may take, for rows of so many columns."""
    if x.device.type != "cpu":
        return tile_bytes(x.device)
    return max(SCORE_BYTES, min(MAX_SCORE_BYTES, MIN_SCORE_ROWS * columns * score_dtype(x.dtype).itemsize))


def _buffer_columns(count: int, k: int, device: torch.device, *, needs_spare: bool) -> tuple[int, int]:
    """Sentinel columns, and all columns, of the score buffer for so many candidates.

    torch's CPU topk sorts rows of 64 k columns or more partially, with a heap that starts as the first k columns, and
    selects from narrower rows at about three times the cost per column. So a row that is not much too narrow is
    widened, and begins with k sentinels just below the best scores: few candidates then enter the heap by chance. (For
    1,024 columns and k = 8 this saves 30 %.)
    """
    if device.type != "cpu":
        columns = count + needs_spare
        size = group_size(columns, k) if k and sorts_columns(columns, k, device) else 1
        return 0, -(-columns // size) * size  # whole groups of `best_columns`
    if count < 20 * k:
        return 0, count + needs_spare
    return k, max(64 * k, count + k + needs_spare)


def _sentinel(scores: Tensor, k: int) -> Tensor:
    """A value just below at least k scores of each row: the minimum of the maxima of k groups. (.., M) -> (.., 1)"""
    groups = scores[..., : scores.shape[-1] // k * k].unflatten(-1, (k, -1))
    bound = groups.amax(-1).amin(-1, keepdim=True)
    return bound.nextafter(torch.full_like(bound, -torch.inf))
