"""Attention over chosen positions: true scores of the K chosen keys, and the weighted, depthwise sum of their values.

B batch, d channels, N queries, M source rows (N, the pad being zero, or the N' of the padded map), K neighbours.
What is gathered, (.., K, d), lives for one tile and is gathered again in the backward pass. All sums are in float32 or
better.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from convnn.layers.ops.aggregate import gathers
from convnn.layers.ops.custom_op import operator
from convnn.layers.ops.similarity import score_dtype, through_unit, unit
from convnn.layers.ops.tiles import interior_rows


@operator("convnn::pair_scores")
def pair_scores(
    queries: Tensor, keys: Tensor, index: Tensor, sides: Sequence[int], padding: int, metric: str
) -> Tensor:
    """Cosine, or minus squared distance, of each query and its neighbours' keys. (B, N, d), (B, M, d) -> (B, N, K)"""
    exact = score_dtype(queries.dtype)
    scores = torch.empty(index.shape, dtype=exact, device=index.device)
    ready = unit if metric == "cosine" else torch.Tensor.detach
    for images, rows, _, _, near in gathers(keys, index, sides, padding, exact, ready=ready):
        query = ready(queries[images, rows].to(exact)).flatten(0, 1)[:, None]
        found = near.mul_(query).sum(2) if metric == "cosine" else near.sub_(query).square_().sum(2).neg_()
        scores[images, rows] = found.view_as(scores[images, rows])
    return scores


@operator("convnn::pair_scores_backward")
def pair_scores_backward(
    grad: Tensor, queries: Tensor, keys: Tensor, index: Tensor, sides: Sequence[int], padding: int, metric: str
) -> tuple[Tensor, Tensor]:
    """Gradients by queries and by keys; a zero vector gets none from cosine. (B, N, K), ... -> (B, N, d), (B, M, d)"""
    exact, cosine = score_dtype(queries.dtype), metric == "cosine"
    by_query, by_key = _like(queries), _like(keys)
    ready = unit if cosine else torch.Tensor.detach
    for images, rows, source, numbers, near in gathers(keys, index, sides, padding, exact, ready=ready):
        query = queries[images, rows].to(exact).flatten(0, 1)
        part = grad[images, rows].flatten(0, 1)
        if rows.start == 0:
            by_source = torch.zeros_like(source)
        if cosine:
            found = through_unit(torch.bmm(part[:, None], near)[:, 0], query)
            near = torch.mul(part[..., None], unit(query)[:, None], out=near)
        else:
            near = near.sub_(query[:, None]).mul_(-2 * part[..., None])
            found = near.sum(1).neg_()
        by_query[images, rows] = found.view_as(by_query[images, rows]).to(queries.dtype)
        by_source.flatten(0, 1).index_add_(0, numbers, near.flatten(0, 1))
        if rows.stop == index.shape[1]:
            by_source = through_unit(by_source, source) if cosine else by_source
            by_key[images] = interior_rows(by_source, sides, padding, keys.shape[1])
    return by_query, by_key


@operator("convnn::weigh")
def weigh(
    values: Tensor, share: Tensor, index: Tensor, weight: Tensor, bias: Tensor, sides: Sequence[int], padding: int
) -> Tensor:
    """bias + sum over slots of weight * share * value. (B, M, d), (B, N, K) twice, (d, 1, K), (d,) -> (B, N, d)"""
    exact = share.dtype
    out = values.new_empty(*index.shape[:2], values.shape[2])
    slots = weight[:, 0].mT.to(exact).contiguous()  # (K, d)
    for images, rows, _, _, near in gathers(values, index, sides, padding, exact):
        part = share[images, rows].flatten(0, 1)
        found = torch.bmm(part[:, None], near.mul_(slots))[:, 0].add_(bias)
        out[images, rows] = found.view_as(out[images, rows]).to(values.dtype)
    return out


@operator("convnn::weigh_backward")
def weigh_backward(
    grad: Tensor, values: Tensor, share: Tensor, index: Tensor, weight: Tensor, sides: Sequence[int], padding: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by values, share and weight. (B, N, d), ... -> (B, M, d), (B, N, K), (d, 1, K)"""
    exact = share.dtype
    by_value, by_share = _like(values), _like(share)
    slots = weight[:, 0].mT.to(exact).contiguous()
    by_slot = torch.zeros_like(slots)
    for images, rows, source, numbers, near in gathers(values, index, sides, padding, exact):
        above = grad[images, rows].to(exact).flatten(0, 1)[:, None]
        part = share[images, rows].flatten(0, 1)[..., None]
        if rows.start == 0:
            by_source = torch.zeros_like(source)
        near.mul_(above)
        by_share[images, rows] = torch.linalg.vecdot(near, slots).view_as(by_share[images, rows])
        by_slot += near.mul_(part).sum(0)
        by_source.flatten(0, 1).index_add_(0, numbers, torch.mul(above, part, out=near).mul_(slots).flatten(0, 1))
        if rows.stop == index.shape[1]:
            by_value[images] = interior_rows(by_source, sides, padding, values.shape[1])
    return by_value, by_share, by_slot.mT[:, None].to(weight.dtype).contiguous()


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


pair_scores.register_autograd(_scores_backward, _save_scores)
weigh.register_autograd(_weigh_backward, _save_weigh)


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)
