"""Attention over chosen positions: scores of the K chosen keys, and the weighted depthwise sum of their values.

    B  batch     N  positions (queries)               K  neighbors
    d  channels  M  rows of the projections: N, where the padding is zero, or the N' of the padded map

A row of the projections holds the query, the key and the value of a position, d channels each; the queries of the
padding are not used. The definition, with all that is gathered in memory at once:

    scores = cosine(queries[:, :, None], keys[image, index])            # (B, N, K)
    attention = scores.softmax(2)                                       # (B, N, K)
    values = values[image, index]                                       # (B, N, K, d)
    out = torch.einsum("bnk,bnkd,dk->bnd", attention * keep, values, weight) + bias

As in `aggregate`, a tile of what is gathered exists at a time, and the backward pass gathers again: the B * N * K * d
gathered keys and as many values are never kept. All sums are in float32, or in float64 for float64 vectors.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from convnn.layers.ops.aggregate import gather_tiles
from convnn.layers.ops.coordinates import padded_sides
from convnn.layers.ops.custom_op import operator
from convnn.layers.ops.similarity import exact_products, normalize, normalize_backward, score_dtype, unit_vectors
from convnn.layers.ops.tiles import interior_rows, interior_view
from convnn.layers.ops.triton import attend as fused
from convnn.layers.ops.triton import launch
from convnn.layers.ops.triton.attend import AttendInputs


def draw_keep(shape: Sequence[int], dtype: torch.dtype, probability: float, device: torch.device) -> Tensor | None:
    """Return what dropout multiplies each attention weight with: 0 or 1 / (1 - probability). (B, N, K) is the shape.

    `dtype` is that of the projections. None for probability 0. The numbers are those of `F.dropout` on a CPU.
    """
    if not probability:
        return None
    keep = torch.empty(shape, dtype=score_dtype(dtype), device=device)
    return keep.bernoulli_(1 - probability).div_(1 - probability)


def split_projections(projections: Tensor, sides: Sequence[int], padding: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of the map's own positions, keys and values. (B, M, 3 d) -> (B, N, d), (B, M, d), (B, M, d)"""
    queries, keys, values = projections.chunk(3, dim=2)
    return interior_rows(queries, sides, padding, prod(sides)), keys, values


@operator("convnn::attend")
def attend(
    projections: Tensor,
    index: Tensor,
    keep: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    sides: Sequence[int],
    padding: int,
    metric: str,
) -> tuple[Tensor, Tensor]:
    """Attention, and its weights before dropout. (B, M, 3 d), (B, N, K) twice, (d, 1, K), (d,) -> (B, N, d), (B, N, K)

    Scores are cosines, or negative squared distances, of queries and their neighbors' keys.
    """
    inputs = AttendInputs(projections, index, keep, weight, bias, sides, padding, metric)
    if _uses_kernels(inputs):
        return _attend_in_registers(inputs)
    return _attend_in_tiles(inputs)


def _uses_kernels(inputs: AttendInputs) -> bool:
    """Return whether there are kernels that agree with the tiles, in both directions."""
    projections, index, keep, weight, _, sides, padding, metric = inputs
    (_, rows, width), slots = projections.shape, index.shape[2]
    is_suitable = 0 < width <= 3 * fused.MAX_CHANNELS and slots <= fused.MAX_SLOTS and index.numel() > 0
    is_suitable = is_suitable and projections.dtype in launch.dtypes(projections.device)
    if not is_suitable or not launch.is_usable("attend", projections):
        return False
    is_ordered = launch.adds_in_order()

    def agrees() -> bool:
        checked = inputs.first_images(launch.CHECKED_IMAGES)
        actual, expected = _attend_in_registers(checked), _attend_in_tiles(checked)
        grads = _attend_backward_in_registers(expected[0], checked, expected[1], is_ordered)
        expected_grads = _attend_backward_in_tiles(expected[0], checked, expected[1])
        queries, keys, _ = split_projections(checked.projections, sides, padding)
        tolerance = fused.tolerance(projections, pair_scores(queries, keys, checked.neighbor_index, *inputs.options))
        return launch.agree([*actual, *grads], [*expected, *expected_grads], tolerance)

    shapes = (rows, width, index.shape[1:], index.dtype, keep is None, weight.dtype, tuple(sides), padding, metric)
    return launch.is_correct("attend", projections, (projections.dtype, is_ordered, *shapes), agrees)


def _attend_in_registers(inputs: AttendInputs) -> tuple[Tensor, Tensor]:
    outputs: tuple[Tensor, Tensor] = fused.forward(*inputs.contiguous())
    return outputs


def _attend_backward_in_registers(
    grad: Tensor, inputs: AttendInputs, attention: Tensor, is_ordered: bool
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = (grad.contiguous(), inputs.contiguous(), attention.contiguous())
    by_projections, by_weight, by_bias = fused.backward(*tensors, is_ordered)
    dtype, weight_dtype = inputs.projections.dtype, inputs.weight.dtype
    return by_projections.to(dtype), by_weight.to(weight_dtype).contiguous(), by_bias.to(weight_dtype)


@exact_products()
def _attend_in_tiles(inputs: AttendInputs) -> tuple[Tensor, Tensor]:
    queries, keys, values = split_projections(inputs.projections, inputs.sides, inputs.padding)
    attention = pair_scores(queries, keys, inputs.neighbor_index, *inputs.options).softmax(2)
    masked = attention if inputs.keep is None else attention * inputs.keep
    return _weighted_sum(values, masked, inputs), attention


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


def _weighted_sum(values: Tensor, attention: Tensor, inputs: AttendInputs) -> Tensor:
    """bias + sum over slots of weight * attention * value. (B, M, d), (B, N, K) -> (B, N, d)"""
    _, index, _, weight, bias, sides, padding, _ = inputs
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
    grad: Tensor,
    projections: Tensor,
    index: Tensor,
    keep: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    attention: Tensor,
    sides: Sequence[int],
    padding: int,
    metric: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by projections, weight and bias. (B, N, d), ... -> (B, M, 3 d), (d, 1, K), (d,)

    A zero vector has no gradient by its cosine.
    """
    inputs = AttendInputs(projections, index, keep, weight, bias, sides, padding, metric)
    if _uses_kernels(inputs):
        return _attend_backward_in_registers(grad, inputs, attention, launch.adds_in_order())
    return _attend_backward_in_tiles(grad, inputs, attention)


@exact_products()
def _attend_backward_in_tiles(grad: Tensor, inputs: AttendInputs, attention: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    projections, _, keep, weight, _, sides, padding, _ = inputs
    queries, keys, values = split_projections(projections, sides, padding)
    grad_projections = torch.empty_like(projections, memory_format=torch.contiguous_format)
    by_query, by_key, by_value = grad_projections.chunk(3, dim=2)
    masked = attention if keep is None else attention * keep
    grad_attention, grad_weight = _weighted_sum_backward(grad, values, masked, inputs, by_value)
    if keep is not None:
        grad_attention.mul_(keep)
    grad_scores = torch._softmax_backward_data(grad_attention, attention, 2, attention.dtype)
    grad_queries = by_query if queries.shape[1] == keys.shape[1] else torch.empty_like(queries)
    _pair_scores_backward(grad_scores, queries, keys, inputs, grad_queries, by_key)
    if grad_queries is not by_query:  # the queries of the padding have no gradient
        by_query.zero_()
        padded = by_query.unflatten(1, padded_sides(sides, padding))
        interior_view(padded, sides, padding).copy_(grad_queries.unflatten(1, tuple(sides)))
    return grad_projections, grad_weight, grad.sum((0, 1), dtype=masked.dtype).to(weight.dtype)


def _weighted_sum_backward(
    grad: Tensor, values: Tensor, attention: Tensor, inputs: AttendInputs, grad_values: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients by attention and weight; that by values is written. (B, N, d), ... -> (B, N, K), (d, 1, K)"""
    _, index, _, weight, _, sides, padding, _ = inputs
    dtype = attention.dtype
    grad_attention = torch.empty_like(attention, memory_format=torch.contiguous_format)
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
    return grad_attention, grad_slot_weight.mT[:, None].to(weight.dtype).contiguous()


def _pair_scores_backward(
    grad: Tensor, queries: Tensor, keys: Tensor, inputs: AttendInputs, grad_queries: Tensor, grad_keys: Tensor
) -> None:
    """Write the gradients by queries and by keys. (B, N, K), (B, N, d), (B, M, d), ..., (B, N, d), (B, M, d)"""
    index, (sides, padding, metric) = inputs.neighbor_index, inputs.options
    dtype, is_cosine = score_dtype(queries.dtype), metric == "cosine"
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
            if is_cosine:
                grad_source = normalize_backward(grad_source, *units[0])
            grad_keys[images] = interior_rows(grad_source, sides, padding, keys.shape[1])


@attend.register_fake
def _(projections, index, keep, weight, bias, sides, padding, metric):  # type: ignore[no-untyped-def]
    out = projections.new_empty(*index.shape[:2], projections.shape[2] // 3)
    return out, projections.new_empty(index.shape, dtype=score_dtype(projections.dtype))


@attend_backward.register_fake
def _(grad, projections, index, keep, weight, bias, attention, sides, padding, metric):  # type: ignore[no-untyped-def]
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (projections, weight, bias))


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    *tensors, ctx.sides, ctx.padding, ctx.metric = inputs
    attention = output[1]
    ctx.mark_non_differentiable(attention)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, attention)


def _backward(ctx, grad, _):  # type: ignore[no-untyped-def]
    if grad is None:  # nothing depends on the output
        return (None,) * 8
    by_projections, by_weight, by_bias = attend_backward(grad, *ctx.saved_tensors, ctx.sides, ctx.padding, ctx.metric)
    return by_projections, None, None, by_weight, by_bias, None, None, None


attend.register_autograd(_backward, _setup_context)
