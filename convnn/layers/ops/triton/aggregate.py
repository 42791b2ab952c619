"""Convolution over chosen positions that writes nothing of what it gathers: see `convnn.layers.ops.aggregate`.

    B  batch      N  queries     S  rows of an image: the map's, or those of the padded map
    C  channels   O  outputs     K  slots

Products are float32's where torch's are, in three TF32 products, else TF32's; half types are summed in float32.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from convnn.layers.ops.coordinates import padded_sides
from convnn.layers.ops.triton.launch import Launch
from convnn.layers.ops.triton.positions import entries_by_position, source_map

TOLERANCES = {
    "tf32x3": 1e-4,
    "tf32": 5e-3,
}  # of the largest value: float32 sums in another order, or of rounded factors
HALF_TOLERANCE = 2e-2  # plain torch rounds the gradient of each neighbor to the half type before it sums
MAX_PARTS = 64  # of the sum over all rows that is the gradient by weight
BLOCK_ROWS, BLOCK_OUTPUTS, BLOCK_CHANNELS, WARPS = 64, 64, 32, 4


def tolerance(x: Tensor) -> float:
    """Return the share of the largest value by which results may differ from those of plain torch."""
    return TOLERANCES[precision(x)] if x.dtype == torch.float32 else HALF_TOLERANCE


def precision(x: Tensor) -> str:
    """Return how the kernels multiply: float32 as torch multiplies it on CUDA, which a half type ignores."""
    matmul: Any = torch.backends.cuda.matmul  # whose parts have no types
    is_rounded = x.dtype != torch.float32 or matmul.fp32_precision == "tf32"
    return "tf32" if is_rounded else "tf32x3"


def _launch_forward(
    x: Tensor, index: Tensor, weight: Tensor, bias: Tensor, sides: Sequence[int], padding: int
) -> Tensor:
    """(B, S, C), (B or 1, N, K), (K, C, O), (O,) -> (B, N, O)"""
    from convnn.layers.ops.triton.kernels.aggregate import forward_kernel

    (batch, source_rows, channels), (_, length, slots), outputs = x.shape, index.shape, weight.shape[2]
    out = x.new_empty(batch, length, outputs)
    height, width, padding_height, padding_width, *_ = source_map(source_rows, sides, padding)
    rows = batch * length
    forward_kernel[(-(-rows // BLOCK_ROWS), -(-outputs // BLOCK_OUTPUTS))](
        x,
        index,
        weight,
        bias,
        out,
        rows,
        length,
        source_rows,
        channels,
        outputs,
        height,
        width,
        length * slots if len(index) > 1 else 0,
        K=slots,
        PH=padding_height,
        PW=padding_width,
        PRECISION=precision(x),
        BT=BLOCK_ROWS,
        BD=BLOCK_CHANNELS,
        BO=BLOCK_OUTPUTS,
        num_warps=WARPS,
    )
    return out


def _launch_by_x(
    grad: Tensor, index: Tensor, weight: Tensor, grad_x: Tensor, sides: Sequence[int], padding: int
) -> None:
    """Add to zeros, in any order. (B, N, O), (B or 1, N, K), (K, O, C), (B, S, C)"""
    from convnn.layers.ops.triton.kernels.aggregate import by_x_kernel

    (batch, length, outputs), (source_rows, channels), slots = grad.shape, grad_x.shape[1:], index.shape[2]
    height, width, padding_height, padding_width, *_ = source_map(source_rows, sides, padding)
    rows = batch * length
    by_x_kernel[(-(-rows // BLOCK_ROWS), -(-channels // BLOCK_OUTPUTS), slots)](
        grad,
        index,
        weight,
        grad_x,
        rows,
        length,
        source_rows,
        channels,
        outputs,
        height,
        width,
        length * slots if len(index) > 1 else 0,
        K=slots,
        PH=padding_height,
        PW=padding_width,
        PRECISION=precision(grad),
        BT=BLOCK_ROWS,
        BD=BLOCK_OUTPUTS,
        BO=BLOCK_CHANNELS,
        num_warps=WARPS,
    )


def _launch_by_x_ordered(
    grad: Tensor,
    order: Tensor,
    starts: Tensor,
    weight: Tensor,
    grad_x: Tensor,
    slots: int,
    sides: Sequence[int],
    padding: int,
) -> None:
    """Write sums in the order of `entries_by_position`. (B, N, O), (B * N * K,), .., (K, O, C), (B, S, C)"""
    from convnn.layers.ops.triton.kernels.aggregate import by_x_ordered_kernel

    (batch, source_rows, channels), outputs = grad_x.shape, grad.shape[2]
    _, width, padding_height, padding_width, *_ = source_map(source_rows, sides, padding)
    rows = batch * source_rows
    by_x_ordered_kernel[(-(-rows // BLOCK_ROWS), -(-channels // BLOCK_OUTPUTS))](
        grad,
        order,
        starts,
        weight,
        grad_x,
        rows,
        source_rows,
        channels,
        outputs,
        width,
        prod(padded_sides(sides, padding)),
        K=slots,
        PH=padding_height,
        PW=padding_width,
        PRECISION=precision(grad),
        BT=BLOCK_ROWS,
        BD=BLOCK_OUTPUTS,
        BO=BLOCK_CHANNELS,
        num_warps=WARPS,
    )


def _launch_by_weight(x: Tensor, index: Tensor, grad: Tensor, sides: Sequence[int], padding: int) -> Tensor:
    """Parts of the sum over all rows. (B, S, C), (B or 1, N, K), (B, N, O) -> (parts, K, C, O)"""
    from convnn.layers.ops.triton.kernels.aggregate import by_weight_kernel

    (batch, source_rows, channels), (_, length, slots), outputs = x.shape, index.shape, grad.shape[2]
    height, width, padding_height, padding_width, *_ = source_map(source_rows, sides, padding)
    rows, parts = batch * length, _parts(batch * length)
    sums = torch.empty(parts, slots, channels, outputs, dtype=torch.float32, device=x.device)
    step = -(-rows // (parts * BLOCK_CHANNELS)) * BLOCK_CHANNELS
    blocks = -(-channels // BLOCK_ROWS) * -(-outputs // BLOCK_OUTPUTS)
    by_weight_kernel[(blocks, slots, parts)](
        x,
        index,
        grad,
        sums,
        rows,
        length,
        source_rows,
        channels,
        outputs,
        height,
        width,
        length * slots if len(index) > 1 else 0,
        step,
        K=slots,
        PH=padding_height,
        PW=padding_width,
        PRECISION=precision(x),
        BT=BLOCK_CHANNELS,
        BD=BLOCK_ROWS,
        BO=BLOCK_OUTPUTS,
        num_warps=WARPS,
    )
    return sums


def _parts(rows: int) -> int:
    return max(1, min(MAX_PARTS, rows // 1024))


def _fake_forward(x, index, weight, bias, sides, padding):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape[0], index.shape[1], weight.shape[2])


def _fake_by_x(grad, index, weight, grad_x, sides, padding):  # type: ignore[no-untyped-def]
    return None


def _fake_by_x_ordered(grad, order, starts, weight, grad_x, slots, sides, padding):  # type: ignore[no-untyped-def]
    return None


def _fake_by_weight(x, index, grad, sides, padding):  # type: ignore[no-untyped-def]
    shape = (_parts(grad.shape[0] * grad.shape[1]), index.shape[2], x.shape[2], grad.shape[2])
    return x.new_empty(*shape, dtype=torch.float32)


forward = Launch("aggregate", _launch_forward, _fake_forward)
add_by_x = Launch("aggregate_by_x", _launch_by_x, _fake_by_x, mutates=("grad_x",))
by_x_ordered = Launch("aggregate_by_x_ordered", _launch_by_x_ordered, _fake_by_x_ordered, mutates=("grad_x",))
by_weight = Launch("aggregate_by_weight", _launch_by_weight, _fake_by_weight)


def by_x(
    grad: Tensor,
    index: Tensor,
    weight: Tensor,
    source_rows: int,
    sides: Sequence[int],
    padding: int,
    is_ordered: bool,
) -> Tensor:
    """Gradient by the source in float32; additions are atomic, or else in one order (`is_ordered`).

    (B, N, O), (B or 1, N, K), (K, O, C) -> (B, S, C)
    """
    batch, (slots, _, channels) = len(grad), weight.shape
    empty = grad.new_empty if is_ordered else grad.new_zeros
    grad_x = empty(batch, source_rows, channels, dtype=torch.float32)
    if is_ordered:
        entries = entries_by_position(index, batch, prod(padded_sides(sides, padding)))
        by_x_ordered(grad, *entries, weight, grad_x, slots, sides, padding)
    else:
        add_by_x(grad, index, weight, grad_x, sides, padding)
    return grad_x
