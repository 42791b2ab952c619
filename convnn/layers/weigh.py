"""Attention over chosen positions: true scores of the K chosen keys, and the weighted, depthwise sum of their values.

B batch, d channels, N queries, M source rows (N, the pad being zero, or the N' of the padded map), K neighbours.
What is gathered, (.., K, d), lives for one tile and is gathered again in the backward pass. All sums are in float32 or
better.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .rows import interior_rows, pad_rows, row_numbers, tile_bytes, tiles
from .similarity import score_dtype, unit


@torch.library.custom_op("convnn::pair_scores", mutates_args=())
def pair_scores(
    queries: Tensor, keys: Tensor, index: Tensor, sides: Sequence[int], padding: int, metric: str
) -> Tensor:
    """Cosine, or minus squared distance, of each query and its neighbours' keys. (B, N, d), (B, M, d) -> (B, N, K)"""
    exact = score_dtype(queries.dtype)
    scores = torch.empty(index.shape, dtype=exact, device=index.device)
    for images, rows, source, numbers in _sources(keys, index, sides, padding, exact):
        query = queries[images, rows].to(exact).flatten(0, 1)[:, None]
        if metric == "cosine":
            chosen = unit(source).flatten(0, 1).index_select(0, numbers).view(len(query), -1, query.shape[2])
            found = chosen.mul_(unit(query)).sum(2)
        else:
            chosen = source.flatten(0, 1).index_select(0, numbers).view(len(query), -1, query.shape[2])
            found = chosen.sub_(query).square_().sum(2).neg_()
        scores[images, rows] = found.view(scores[images, rows].shape)
    return scores


@torch.library.custom_op("convnn::pair_scores_backward", mutates_args=())
def pair_scores_backward(
    grad: Tensor, queries: Tensor, keys: Tensor, index: Tensor, sides: Sequence[int], padding: int, metric: str
) -> tuple[Tensor, Tensor]:
    """Gradients by queries and by keys; a zero vector gets none from cosine. (B, N, K), ... -> (B, N, d), (B, M, d)"""
    exact, wide = score_dtype(queries.dtype), queries.shape[2]
    grad_queries = _like(queries)
    grad_keys = _like(keys)
    for images, rows, source, numbers in _sources(keys, index, sides, padding, exact):
        query = queries[images, rows].to(exact).flatten(0, 1)
        part = grad[images, rows].flatten(0, 1)[..., None]
        if rows.start == 0:
            total = torch.zeros_like(source)
        if metric == "cosine":
            near = unit(source).flatten(0, 1).index_select(0, numbers).view(len(query), -1, wide)
            by_query = _through_unit((near * part).sum(1), query)
            by_key = torch.mul(part, unit(query)[:, None], out=near)
        else:
            near = source.flatten(0, 1).index_select(0, numbers).view(len(query), -1, wide).sub_(query[:, None])
            by_key = near.mul_(part).mul_(-2)
            by_query = by_key.sum(1).neg_()
        grad_queries[images, rows] = by_query.view(grad_queries[images, rows].shape).to(queries.dtype)
        total.view(-1, total.shape[2]).index_add_(0, numbers, by_key.flatten(0, 1))
        if rows.stop == index.shape[1]:
            total = _through_unit(total, source) if metric == "cosine" else total
            grad_keys[images] = interior_rows(total, sides, padding, keys.shape[1])
    return grad_queries, grad_keys


@torch.library.custom_op("convnn::weigh", mutates_args=())
def weigh(
    values: Tensor,
    share: Tensor,
    index: Tensor,
    weight: Tensor,
    bias: Tensor,
    sides: Sequence[int],
    padding: int,
) -> Tensor:
    """bias + sum over slots of weight * share * value. (B, M, d), (B, N, K) twice, (d, 1, K), (d,) -> (B, N, d)"""
    exact = share.dtype
    out = values.new_empty(*index.shape[:2], values.shape[2])
    slots = weight[:, 0].mT.to(exact).contiguous()  # (K, d)
    for images, rows, source, numbers in _sources(values, index, sides, padding, exact):
        part = share[images, rows].flatten(0, 1)[..., None]
        chosen = source.flatten(0, 1).index_select(0, numbers).view(len(part), -1, values.shape[2])
        found = chosen.mul_(part).mul_(slots).sum(1).add_(bias)
        out[images, rows] = found.view(out[images, rows].shape).to(values.dtype)
    return out


@torch.library.custom_op("convnn::weigh_backward", mutates_args=())
def weigh_backward(
    grad: Tensor,
    values: Tensor,
    share: Tensor,
    index: Tensor,
    weight: Tensor,
    sides: Sequence[int],
    padding: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by values, share and weight. (B, N, d), ... -> (B, M, d), (B, N, K), (d, 1, K)"""
    exact, wide = share.dtype, values.shape[2]
    grad_values = _like(values)
    grad_share = _like(share)
    slots = weight[:, 0].mT.to(exact).contiguous()
    grad_slots = torch.zeros_like(slots)
    for images, rows, source, numbers in _sources(values, index, sides, padding, exact):
        above = grad[images, rows].to(exact).flatten(0, 1)[:, None]
        part = share[images, rows].flatten(0, 1)[..., None]
        if rows.start == 0:
            total = torch.zeros_like(source)
        near = source.flatten(0, 1).index_select(0, numbers).view(len(part), -1, wide).mul_(above)
        grad_share[images, rows] = torch.linalg.vecdot(near, slots).view(grad_share[images, rows].shape)
        grad_slots += near.mul_(part).sum(0)
        total.view(-1, total.shape[2]).index_add_(
            0, numbers, torch.mul(above, part, out=near).mul_(slots).flatten(0, 1)
        )
        if rows.stop == index.shape[1]:
            grad_values[images] = interior_rows(total, sides, padding, values.shape[1])
    return grad_values, grad_share, grad_slots.mT[:, None].to(weight.dtype).contiguous()


@pair_scores.register_fake
def _(queries, keys, index, sides, padding, metric):  # type: ignore[no-untyped-def]
    return torch.empty(index.shape, dtype=score_dtype(queries.dtype), device=index.device)


@pair_scores_backward.register_fake
def _(grad, queries, keys, index, sides, padding, metric):  # type: ignore[no-untyped-def]
    return _like(queries), _like(keys)


@weigh.register_fake
def _(values, share, index, weight, bias, sides, padding):  # type: ignore[no-untyped-def]
    return values.new_empty(*index.shape[:2], values.shape[2])


@weigh_backward.register_fake
def _(grad, values, share, index, weight, sides, padding):  # type: ignore[no-untyped-def]
    return _like(values), _like(share), _like(weight)


def _save_scores(ctx, inputs, output):  # type: ignore[no-untyped-def]
    *tensors, ctx.sides, ctx.padding, ctx.metric = inputs
    ctx.save_for_backward(*tensors)


def _scores_backward(ctx, grad):  # type: ignore[no-untyped-def]
    found = pair_scores_backward(grad, *ctx.saved_tensors, ctx.sides, ctx.padding, ctx.metric)
    return *found, None, None, None, None


def _save_weigh(ctx, inputs, output):  # type: ignore[no-untyped-def]
    values, share, index, weight, _, ctx.sides, ctx.padding = inputs
    ctx.save_for_backward(values, share, index, weight)


def _weigh_backward(ctx, grad):  # type: ignore[no-untyped-def]
    by_values, by_share, by_weight = weigh_backward(grad, *ctx.saved_tensors, ctx.sides, ctx.padding)
    return by_values, by_share, None, by_weight, grad.sum((0, 1)), None, None


pair_scores.register_autograd(_scores_backward, setup_context=_save_scores)
weigh.register_autograd(_weigh_backward, setup_context=_save_weigh)


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _sources(
    x: Tensor, index: Tensor, sides: Sequence[int], padding: int, dtype: torch.dtype
) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Tiles: slices of images and of queries, the padded source rows, and their numbers in every slot (T * K,)."""
    row_bytes = index.shape[2] * x.shape[2] * dtype.itemsize
    for images, rows in tiles(x.shape[0], index.shape[1], row_bytes, tile_bytes(x.device)):
        source = pad_rows(x[images], sides, padding, dtype)
        yield images, rows, source, row_numbers(index, images, rows, source.shape[1])


def _through_unit(grad: Tensor, vectors: Tensor) -> Tensor:
    """Gradient by vectors from the one by their unit vectors; zero where the vector is."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    direction = vectors / torch.where(length > 0, length, 1)
    across = grad - direction * (direction * grad).sum(-1, keepdim=True)
    return torch.where(length > 0, across / torch.where(length > 0, length, 1), 0)
