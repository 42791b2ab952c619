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

# of the largest value: float32 sums in another order, or of rounded factors
TOLERANCES = {"tf32x3": 1e-4, "tf32": 5e-3}
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


def _options(
    source: Tensor,
    outputs: int,
    slots: int,
    sides: Sequence[int],
    padding: int,
    input_precision: str,
    blocks: tuple[int, int, int],
) -> dict[str, Any]:
    """Arguments that the kernels have in common: of a source (B, S, C), and of blocks of rows, channels and outputs."""
    _, source_rows, channels = source.shape
    shape = source_map(source_rows, sides, padding)
    block_rows, block_channels, block_outputs = blocks
    return {
        "S": source_rows,
        "C": channels,
        "O": outputs,
        "W": shape.width,
        "K": slots,
        "PH": shape.outer_height,
        "PW": shape.outer_width,
        "PRECISION": input_precision,
        "BT": block_rows,
        "BD": block_channels,
        "BO": block_outputs,
        "num_warps": WARPS,
    }


def _by_row(index: Tensor, batch: int, sides: Sequence[int]) -> dict[str, Any]:
    """Arguments of the kernels that go through rows of the output."""
    images, length, slots = index.shape
    index_stride = length * slots if images > 1 else 0
    numbers = {"T": batch * length, "N": length, "H": (1, *sides)[-2], "index_stride": index_stride}
    return {"index_ptr": index, **numbers}


def _launch_forward(
    x: Tensor, index: Tensor, weight: Tensor, bias: Tensor, sides: Sequence[int], padding: int
) -> Tensor:
    """(B, S, C), (B or 1, N, K), (K, C, O), (O,) -> (B, N, O)"""
    from convnn.layers.ops.triton.kernels.aggregate import forward_kernel

    out = _fake_forward(x, index, weight, bias, sides, padding)
    batch, length, outputs = out.shape
    blocks = (BLOCK_ROWS, BLOCK_CHANNELS, BLOCK_OUTPUTS)
    forward_kernel[(-(-batch * length // BLOCK_ROWS), -(-outputs // BLOCK_OUTPUTS))](
        x_ptr=x,
        weight_ptr=weight,
        bias_ptr=bias,
        out_ptr=out,
        **_options(x, outputs, index.shape[2], sides, padding, precision(x), blocks),
        **_by_row(index, batch, sides),
    )
    return out


def _launch_by_x(
    grad: Tensor, index: Tensor, weight: Tensor, grad_x: Tensor, sides: Sequence[int], padding: int
) -> None:
    """Add to zeros, in any order. (B, N, O), (B or 1, N, K), (K, O, C), (B, S, C)"""
    from convnn.layers.ops.triton.kernels.aggregate import by_x_kernel

    (batch, length, outputs), slots, channels = grad.shape, index.shape[2], grad_x.shape[2]
    blocks = (BLOCK_ROWS, BLOCK_OUTPUTS, BLOCK_CHANNELS)
    by_x_kernel[(-(-batch * length // BLOCK_ROWS), -(-channels // BLOCK_OUTPUTS), slots)](
        grad_ptr=grad,
        weight_ptr=weight,
        grad_x_ptr=grad_x,
        **_options(grad_x, outputs, slots, sides, padding, precision(grad), blocks),
        **_by_row(index, batch, sides),
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

    batch, source_rows, channels = grad_x.shape
    rows = batch * source_rows
    blocks = (BLOCK_ROWS, BLOCK_OUTPUTS, BLOCK_CHANNELS)
    by_x_ordered_kernel[(-(-rows // BLOCK_ROWS), -(-channels // BLOCK_OUTPUTS))](
        grad_ptr=grad,
        order_ptr=order,
        starts_ptr=starts,
        weight_ptr=weight,
        grad_x_ptr=grad_x,
        ROWS=rows,
        P=prod(padded_sides(sides, padding)),
        **_options(grad_x, grad.shape[2], slots, sides, padding, precision(grad), blocks),
    )


def _launch_by_weight(x: Tensor, index: Tensor, grad: Tensor, sides: Sequence[int], padding: int) -> Tensor:
    """Parts of the sum over all rows. (B, S, C), (B or 1, N, K), (B, N, O) -> (parts, K, C, O)"""
    from convnn.layers.ops.triton.kernels.aggregate import by_weight_kernel

    sums = _fake_by_weight(x, index, grad, sides, padding)
    parts, slots, channels, outputs = sums.shape
    channel_blocks, output_blocks = -(-channels // BLOCK_ROWS), -(-outputs // BLOCK_OUTPUTS)
    blocks = (BLOCK_CHANNELS, BLOCK_ROWS, BLOCK_OUTPUTS)
    by_weight_kernel[(channel_blocks * output_blocks, slots, parts)](
        x_ptr=x,
        grad_ptr=grad,
        parts_ptr=sums,
        STEP=-(-len(grad) * grad.shape[1] // (parts * BLOCK_CHANNELS)) * BLOCK_CHANNELS,
        **_options(x, outputs, slots, sides, padding, precision(x), blocks),
        **_by_row(index, len(x), sides),
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
