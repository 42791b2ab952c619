"""Matrix products of half types on CPUs without instructions for them.

torch emulates these at about a seventh of float32's speed. Here the rounded operands are multiplied in float32 and the
sum is rounded once, which is what the instructions compute; what is saved for backward stays in the half type.

    B  batch     N  rows     in, out  channels
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from convnn.layers.ops.custom_op import is_autocast_enabled, operator
from convnn.layers.ops.tiles import add_product, tile_bytes, tiles

INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # for products of bfloat16, on x86 and on ARM
# an older torch cannot tell: then float32, which is right everywhere
_CAPABILITIES: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
EMULATED = not any(_CAPABILITIES.get(name) for name in INSTRUCTIONS)


def autocast_dtype(x: Tensor) -> torch.dtype:
    """Return the type in which products of x are computed: autocast's, where it is enabled and applies."""
    if x.dtype != torch.float64 and is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def product_dtype(x: Tensor) -> torch.dtype:
    """The type in which to multiply values like those of x: float32 where products of a half type are emulated."""
    is_half = x.dtype in (torch.bfloat16, torch.float16)
    return torch.float32 if is_half and x.device.type == "cpu" and EMULATED else x.dtype


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` under autocast, without emulation. (B, N, in), (out, in), (out,) -> (B, N, out)"""
    x = x.to(autocast_dtype(x))
    if product_dtype(x) == x.dtype:
        return F.linear(x, weight, bias)
    return linear_in_float32(x, weight, bias)


@operator("convnn::linear_in_float32")
def linear_in_float32(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Round the operands to x's type, multiply in float32, round the result. (B, N, in), (out, in) -> (B, N, out)

    Computed in tiles: large float32 copies would fragment the heap between the tensors that are kept.
    """
    out = x.new_empty(*x.shape[:-1], weight.shape[0])
    rounded_weight = _round_to(x, weight)
    rounded_bias = None if bias is None else _round_to(x, bias)
    for rows, out_rows in _row_tiles(x, out):
        out_rows.copy_(F.linear(rows.float(), rounded_weight, rounded_bias))
    return out


@operator("convnn::linear_in_float32_backward")
def linear_in_float32_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients by x and by weight. (B, N, out), (B, N, in), (out, in) -> (B, N, in), (out, in)"""
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    grad_weight: Tensor | None = None
    rounded_weight = _round_to(x, weight)
    for grad_rows, rows, grad_x_rows in _row_tiles(grad, x, grad_x):
        grad_float32 = grad_rows.float()
        grad_weight = add_product(grad_weight, grad_float32, rows, torch.float32)
        grad_x_rows.copy_(grad_float32 @ rounded_weight)
    return grad_x, torch.zeros_like(weight) if grad_weight is None else grad_weight.to(weight.dtype)


def _row_tiles(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the rows of tensors (B, N, d), a tile of each at a time."""
    rows = [tensor.flatten(0, -2) for tensor in tensors]
    row_bytes = 4 * max(tensor.shape[-1] for tensor in tensors)
    for _, tile in tiles(1, len(rows[0]), row_bytes, tile_bytes(tensors[0].device)):
        yield tuple(tensor[tile] for tensor in rows)


def _round_to(x: Tensor, weight: Tensor) -> Tensor:
    return weight.to(x.dtype).float()


@linear_in_float32.register_fake
def _(x, weight, bias):  # type: ignore[no-untyped-def]
    return x.new_empty(*x.shape[:-1], weight.shape[0])


@linear_in_float32_backward.register_fake
def _(grad, x, weight):  # type: ignore[no-untyped-def]
    return torch.empty_like(x, memory_format=torch.contiguous_format), torch.empty_like(weight)


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    x, weight, bias = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(x, weight)


def _backward(ctx, grad):  # type: ignore[no-untyped-def]
    grad_x, grad_weight = linear_in_float32_backward(grad, *ctx.saved_tensors)
    grad_bias = None
    if ctx.bias_dtype is not None:
        grad_bias = grad.float().flatten(0, -2).sum(0).to(ctx.bias_dtype)
    return grad_x, grad_weight, grad_bias


linear_in_float32.register_autograd(_backward, _setup_context)
