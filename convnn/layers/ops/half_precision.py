"""Matrix products in half types on a CPU that lacks instructions for them.

torch emulates them there at about a seventh of float32's speed. Here the rounded operands are multiplied in float32 and
the sum is rounded once, which is what such instructions compute; what is saved for backward stays in the half type.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from convnn.layers.neighbor_layer import working_dtype
from convnn.layers.ops.custom_op import operator
from convnn.layers.ops.tiles import add_product, tile_bytes, tiles

NATIVE = ("avx512_bf16", "amx_bf16", "bf16")  # instructions for products of bfloat16, on x86 and on ARM
# an older torch does not say: then float32, which is right everywhere
_PRESENT: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
EMULATED = not any(_PRESENT.get(name) for name in NATIVE)


def product_dtype(x: Tensor) -> torch.dtype:
    """Type in which to multiply values of x's type on its device: float32 where a half type is emulated."""
    half = x.dtype in (torch.bfloat16, torch.float16)
    return torch.float32 if half and x.device.type == "cpu" and EMULATED else x.dtype


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` under autocast, without emulation. (B, N, in), (out, in), (out,) -> (B, N, out)"""
    typed = x.to(working_dtype(x))
    if product_dtype(typed) == typed.dtype:
        return F.linear(typed, weight, bias)
    return widened(typed, weight, bias)


@operator("convnn::widened")
def widened(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight.mT + bias in float32 of operands rounded to x's type, rounded to it. (B, N, in), ... -> (B, N, out)

    A tile at a time: large float32 copies would leave holes in the heap between what is kept.
    """
    out = x.new_empty(*x.shape[:-1], weight.shape[0])
    factor, offset = _rounded(weight, x), None if bias is None else _rounded(bias, x)
    for rows, room in _tiles(x, out):
        room.copy_(F.linear(rows.float(), factor, offset))
    return out


@operator("convnn::widened_backward")
def widened_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients by x and by weight. (B, N, out), (B, N, in), (out, in)"""
    by_x, by_weight = torch.empty_like(x, memory_format=torch.contiguous_format), torch.zeros_like(weight).float()
    factor = _rounded(weight, x)
    for part, rows, room in _tiles(grad, x, by_x):
        above = part.float()
        add_product(by_weight, above, rows)
        room.copy_(above @ factor)
    return by_x, by_weight.to(weight.dtype)


def _tiles(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The rows of tensors (B, N, d), a tile of each at a time."""
    flat = [tensor.flatten(0, -2) for tensor in tensors]
    row_bytes = 4 * max(tensor.shape[-1] for tensor in tensors)
    for _, rows in tiles(1, len(flat[0]), row_bytes, tile_bytes(tensors[0].device)):
        yield tuple(tensor[rows] for tensor in flat)


def _rounded(weight: Tensor, x: Tensor) -> Tensor:
    return weight.to(x.dtype).float()


@widened.register_fake
def _(x, weight, bias):  # type: ignore[no-untyped-def]
    return x.new_empty(*x.shape[:-1], weight.shape[0])


@widened_backward.register_fake
def _(grad, x, weight):  # type: ignore[no-untyped-def]
    return torch.empty_like(x, memory_format=torch.contiguous_format), torch.empty_like(weight)


def _save(ctx, inputs, output):  # type: ignore[no-untyped-def]
    x, weight, bias = inputs
    ctx.bias = None if bias is None else bias.dtype
    ctx.save_for_backward(x, weight)


def _backward(ctx, grad):  # type: ignore[no-untyped-def]
    grad_x, grad_weight = widened_backward(grad, *ctx.saved_tensors)
    return grad_x, grad_weight, None if ctx.bias is None else grad.float().flatten(0, -2).sum(0).to(ctx.bias)


widened.register_autograd(_backward, _save)
