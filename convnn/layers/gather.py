"""Convolution over chosen positions: gather the rows of K neighbours, multiply by the weight of their slots.

B batch, C channels, d channels gathered (C, or C + n with coordinates), N queries, N' positions of the padded map,
K neighbours, T rows of a tile. What is gathered lives for one tile; the backward pass gathers again.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from .rows import interior_rows, linear, outer_product, pad_rows, row_numbers, tile_bytes, tiles


@torch.library.custom_op("convnn::aggregate", mutates_args=())
def aggregate(
    x: Tensor, index: Tensor, weight: Tensor, bias: Tensor, sides: Sequence[int], padding: int, coords: bool
) -> Tensor:
    """bias + sum over slots of weight @ neighbour. (B, N, C), (B or 1, N, K), (out, d, K), (out,) -> (B, N, out)"""
    out = x.new_empty(x.shape[0], index.shape[1], weight.shape[0])
    flat = weight.mT.flatten(1)  # slots outside, channels inside: a tile of gathered rows is one matrix
    with torch.autocast(x.device.type, enabled=False):
        for images, rows in _tiles(x, index, weight):
            source = pad_rows(x[images], sides, padding, x.dtype, coords=coords)
            gathered = source.flatten(0, 1).index_select(0, row_numbers(index, images, rows, source.shape[1]))
            out[images, rows] = linear(gathered.view(*out[images, rows].shape[:2], -1), flat, bias)
    return out


@torch.library.custom_op("convnn::aggregate_backward", mutates_args=())
def aggregate_backward(
    grad: Tensor,
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    sides: Sequence[int],
    padding: int,
    coords: bool,
    need_x: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients by x and by weight, summed in float32 or better; the first is empty unless needed. (B, N, out), ..."""
    channels, (out, wide, slots) = x.shape[2], weight.shape
    exact = torch.promote_types(x.dtype, torch.float32)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if need_x else x.new_empty(0)
    grad_weight = weight.new_zeros(out, slots * wide, dtype=exact)
    back = weight.permute(2, 1, 0)[:, :channels].flatten(0, 1)  # (K * C, out)
    with torch.autocast(x.device.type, enabled=False):
        for images, rows in _tiles(x, index, weight):
            source = pad_rows(x[images], sides, padding, x.dtype, coords=coords)
            numbers = row_numbers(index, images, rows, source.shape[1])
            part = grad[images, rows].reshape(-1, out)
            gathered = source.flatten(0, 1).index_select(0, numbers)
            grad_weight += outer_product(part, gathered.view(len(part), -1))
            if not need_x:
                continue
            if rows.start == 0:
                total = torch.zeros(source.shape[0] * source.shape[1], channels, dtype=exact, device=x.device)
            del gathered
            total.index_add_(0, numbers, linear(part, back).view(-1, channels).to(exact))
            if rows.stop == index.shape[1]:
                grad_x[images] = interior_rows(total.view(*source.shape[:2], -1), sides, padding, x.shape[1])
    return grad_x, grad_weight.view(out, slots, wide).mT.to(weight.dtype).contiguous()


@aggregate.register_fake
def _(x, index, weight, bias, sides, padding, coords):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape[0], index.shape[1], weight.shape[0])


@aggregate_backward.register_fake
def _(grad, x, index, weight, sides, padding, coords, need_x):  # type: ignore[no-untyped-def]
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if need_x else x.new_empty(0)
    return grad_x, torch.empty_like(weight, memory_format=torch.contiguous_format)


def _save(ctx, inputs, output):  # type: ignore[no-untyped-def]
    x, index, weight, _, *ctx.options = inputs
    ctx.save_for_backward(x, index, weight)


def _backward(ctx, grad):  # type: ignore[no-untyped-def]
    x, index, weight = ctx.saved_tensors
    grad_x, grad_weight = aggregate_backward(grad, x, index, weight, *ctx.options, ctx.needs_input_grad[0])
    grad_x = grad_x if ctx.needs_input_grad[0] else None
    return grad_x, None, grad_weight, grad.sum((0, 1)), None, None, None


aggregate.register_autograd(_backward, setup_context=_save)


def _tiles(x, index, weight):  # type: ignore[no-untyped-def]
    row_bytes = prod(weight.shape[1:]) * x.dtype.itemsize
    return tiles(x.shape[0], index.shape[1], row_bytes, tile_bytes(x.device))
