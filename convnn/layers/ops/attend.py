"""Attention over chosen positions: scores of the K chosen keys, and the weighted depthwise sum of their values.

    B  batch     N  positions (queries)               K  neighbors
    d  channels  M  rows of keys and values: N, where the padding is zero, or the N' of the padded map

The definition, with all that is gathered in memory at once:

    scores = cosine(queries[:, :, None], keys[image, index])            # (B, N, K)
    attention = dropout(scores.softmax(2))                              # (B, N, K)
    values = values[image, index]                                       # (B, N, K, d)
    out = torch.einsum("bnk,bnkd,dk->bnd", attention, values, weight) + bias

As in `aggregate`, a tile of what is gathered exists at a time, and the backward pass gathers again: the B * N * K * d
gathered keys and as many values are never kept. All sums are in float32, or in float64 for float64 vectors.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from convnn.layers.ops.aggregate import gather_tiles
from convnn.layers.ops.custom_op import operator
from convnn.layers.ops.similarity import normalize, normalize_backward, score_dtype, unit_vectors
from convnn.layers.ops.tiles import interior_rows


@operator("convnn::pair_scores")
def pair_scores(
    queries: Tensor, keys: Tensor, index: Tensor, sides: Sequence[int], padding: int, metric: str
) -> Tensor:
    """Cosine, or negative squared distance, of queries and their neighbors' keys. (B, N, d), (B, M, d) -> (B, N, K)"""
    dtype, is_cosine = score_dtype(queries.dtype), metric == "cosine"
    scores = torch.empty(index.shape, dtype=dtype, device=index.device)
    transform = normalize if is_cosine else torch.Tensor.detach
    for images, rows, _, _, neighbors in gather_tiles(keys, index, sides, padding, dtype, transform=transform):
        query = transform(queries[images, rows].to(dtype)).flatten(0, 1)[:, None]  # (T, 1, d)
        tile_scores = scores[images, rows].flatten(0, 1)  # (T, K), a view
        if is_cosine:
            torch.sum(neighbors.mul_(query), 2, out=tile_scores)
        else:
            torch.sum(neighbors.sub_(query).square_(), 2, out=tile_scores).neg_()
    return scores


@operator("convnn::pair_scores_backward")
def pair_scores_backward(
    grad: Tensor, queries: Tensor, keys: Tensor, index: Tensor, sides: Sequence[int], padding: int, metric: str
) -> tuple[Tensor, Tensor]:
    """Gradients by queries and by keys. (B, N, K), (B, N, d), (B, M, d) -> (B, N, d), (B, M, d)

    A zero vector has no gradient by its cosine.
    """
    dtype, is_cosine = score_dtype(queries.dtype), metric == "cosine"
    grad_queries, grad_keys = _empty_like(queries), _empty_like(keys)
    units: list[tuple[Tensor, Tensor]] = []  # the tile's sources as unit vectors, and their lengths

    def transform(source: Tensor) -> Tensor:
        if not is_cosine:
            return source
        units[:] = [unit_vectors(source)]
        return units[0][0]

    for images, rows, source, flat_index, neighbors in gather_tiles(
        keys, index, sides, padding, dtype, transform=transform
    ):
        query = queries[images, rows].to(dtype).flatten(0, 1)  # (T, d)
        grad_scores = grad[images, rows].flatten(0, 1)  # (T, K)
        if rows.start == 0:
            grad_source = torch.zeros_like(source)
        if is_cosine:
            unit_query, query_length = unit_vectors(query)
            grad_query = torch.bmm(grad_scores[:, None], neighbors)[:, 0]
            grad_query = normalize_backward(grad_query, unit_query, query_length)
            grad_neighbors = torch.mul(grad_scores[..., None], unit_query[:, None], out=neighbors)
        else:
            grad_neighbors = neighbors.sub_(query[:, None]).mul_(-2 * grad_scores[..., None])
            grad_query = grad_neighbors.sum(1).neg_()
        grad_queries[images, rows] = grad_query.view_as(grad_queries[images, rows]).to(queries.dtype)
        grad_source.flatten(0, 1).index_add_(0, flat_index, grad_neighbors.flatten(0, 1))
        if rows.stop == index.shape[1]:
            grad_source = normalize_backward(grad_source, *units[0]) if is_cosine else grad_source
            grad_keys[images] = interior_rows(grad_source, sides, padding, keys.shape[1])
    return grad_queries, grad_keys


@operator("convnn::attend")
def attend(
    values: Tensor, attention: Tensor, index: Tensor, weight: Tensor, bias: Tensor, sides: Sequence[int], padding: int
) -> Tensor:
    """bias + sum over slots of weight * attention * value. (B, M, d), (B, N, K) twice, (d, 1, K) -> (B, N, d)"""
    dtype = attention.dtype
    out = values.new_empty(*index.shape[:2], values.shape[2])
    slot_weight = weight[:, 0].mT.to(dtype).contiguous()  # (K, d)
    for images, rows, _, _, neighbors in gather_tiles(values, index, sides, padding, dtype):
        tile_attention = attention[images, rows].flatten(0, 1)  # (T, K)
        tile_out = torch.bmm(tile_attention[:, None], neighbors.mul_(slot_weight))[:, 0].add_(bias)
        out[images, rows] = tile_out.view_as(out[images, rows]).to(values.dtype)
    return out


@operator("convnn::attend_backward")
def attend_backward(
    grad: Tensor, values: Tensor, attention: Tensor, index: Tensor, weight: Tensor, sides: Sequence[int], padding: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by values, attention and weight. (B, N, d), ... -> (B, M, d), (B, N, K), (d, 1, K)"""
    dtype = attention.dtype
    grad_values, grad_attention = _empty_like(values), _empty_like(attention)
    slot_weight = weight[:, 0].mT.to(dtype).contiguous()  # (K, d)
    grad_slot_weight: Tensor | None = None
    for images, rows, source, flat_index, neighbors in gather_tiles(values, index, sides, padding, dtype):
        grad_rows = grad[images, rows].to(dtype).flatten(0, 1)[:, None]  # (T, 1, d)
        tile_attention = attention[images, rows].flatten(0, 1)[..., None]  # (T, K, 1)
        if rows.start == 0:
            grad_source = torch.zeros_like(source)
        neighbors.mul_(grad_rows)
        torch.linalg.vecdot(neighbors, slot_weight, out=grad_attention[images, rows].flatten(0, 1))  # (T, K)
        tile_slot_weight = neighbors.mul_(tile_attention).sum(0)
        grad_slot_weight = tile_slot_weight if grad_slot_weight is None else grad_slot_weight.add_(tile_slot_weight)
        grad_neighbors = torch.mul(grad_rows, tile_attention, out=neighbors).mul_(slot_weight)
        grad_source.flatten(0, 1).index_add_(0, flat_index, grad_neighbors.flatten(0, 1))
        if rows.stop == index.shape[1]:
            grad_values[images] = interior_rows(grad_source, sides, padding, values.shape[1])
    if grad_slot_weight is None:  # no images
        grad_slot_weight = torch.zeros_like(slot_weight)
    return grad_values, grad_attention, grad_slot_weight.mT[:, None].to(weight.dtype).contiguous()


@pair_scores.register_fake
def _(queries, keys, index, sides, padding, metric):  # type: ignore[no-untyped-def]
    return torch.empty(index.shape, dtype=score_dtype(queries.dtype), device=index.device)


@pair_scores_backward.register_fake
def _(grad, queries, keys, index, sides, padding, metric):  # type: ignore[no-untyped-def]
    return _empty_like(queries), _empty_like(keys)


@attend.register_fake
def _(values, attention, index, weight, bias, sides, padding):  # type: ignore[no-untyped-def]
    return values.new_empty(*index.shape[:2], values.shape[2])


@attend_backward.register_fake
def _(grad, values, attention, index, weight, sides, padding):  # type: ignore[no-untyped-def]
    return _empty_like(values), _empty_like(attention), _empty_like(weight)


def _setup_scores(ctx, inputs, output):  # type: ignore[no-untyped-def]
    *tensors, ctx.sides, ctx.padding, ctx.metric = inputs
    ctx.save_for_backward(*tensors)


def _scores_backward(ctx, grad):  # type: ignore[no-untyped-def]
    grads = pair_scores_backward(grad, *ctx.saved_tensors, ctx.sides, ctx.padding, ctx.metric)
    return *grads, None, None, None, None


def _setup_attend(ctx, inputs, output):  # type: ignore[no-untyped-def]
    values, attention, index, weight, _, ctx.sides, ctx.padding = inputs
    ctx.save_for_backward(values, attention, index, weight)


def _attend_backward(ctx, grad):  # type: ignore[no-untyped-def]
    grad_values, grad_attention, grad_weight = attend_backward(grad, *ctx.saved_tensors, ctx.sides, ctx.padding)
    return grad_values, grad_attention, None, grad_weight, grad.sum((0, 1)), None, None


pair_scores.register_autograd(_scores_backward, _setup_scores)
attend.register_autograd(_attend_backward, _setup_attend)


def _empty_like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)
