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

TOLERANCES = {
    "tf32x3": 1e-4,
    "tf32": 5e-3,
}  # of the largest value: float32 sums in another order, or of rounded factors
HALF_TOLERANCE = 2e-2  # plain torch rounds the gradient of each neighbor to the half type before it sums
MAX_PARTS = 64  # of the sum over all rows that is the gradient by weight
BLOCK_ROWS, BLOCK_OUTPUTS, BLOCK_CHANNELS, WARPS = 64, 64, 32, 4


def dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    """Return the types that the kernels compute on a device."""
    return (torch.float32,) if device.type == "cpu" else (torch.float32, torch.bfloat16, torch.float16)


def precision(x: Tensor) -> str:
    """Return how the kernels multiply: float32 as torch multiplies it on CUDA, which a half type ignores."""
    matmul: Any = torch.backends.cuda.matmul  # whose parts have no types
    is_rounded = x.dtype != torch.float32 or matmul.fp32_precision == "tf32"
    return "tf32" if is_rounded else "tf32x3"


def _map(rows: int, sides: Sequence[int], padding: int) -> tuple[int, int, int, int]:
    """Height and width of the map that the source holds, and its padding in both: 0, if it is in the source."""
    height, width = (1, *sides)[-2:]
    if rows == prod(padded_sides(sides, padding)):
        padding = 0
    return height, width, padding * (len(sides) - 1), padding


def _launch_forward(
    x: Tensor, index: Tensor, weight: Tensor, bias: Tensor, sides: Sequence[int], padding: int
) -> Tensor:
    """(B, S, C), (B or 1, N, K), (K, C, O), (O,) -> (B, N, O)"""
    from convnn.layers.ops.triton.kernels.aggregate import forward_kernel

    (batch, source_rows, channels), (_, length, slots), outputs = x.shape, index.shape, weight.shape[2]
    out = x.new_empty(batch, length, outputs)
    height, width, padding_height, padding_width = _map(source_rows, sides, padding)
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
    height, width, padding_height, padding_width = _map(source_rows, sides, padding)
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


def _launch_by_weight(x: Tensor, index: Tensor, grad: Tensor, sides: Sequence[int], padding: int) -> Tensor:
    """Parts of the sum over all rows. (B, S, C), (B or 1, N, K), (B, N, O) -> (parts, K, C, O)"""
    from convnn.layers.ops.triton.kernels.aggregate import by_weight_kernel

    (batch, source_rows, channels), (_, length, slots), outputs = x.shape, index.shape, grad.shape[2]
    height, width, padding_height, padding_width = _map(source_rows, sides, padding)
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


def _fake_by_weight(x, index, grad, sides, padding):  # type: ignore[no-untyped-def]
    shape = (_parts(grad.shape[0] * grad.shape[1]), index.shape[2], x.shape[2], grad.shape[2])
    return x.new_empty(*shape, dtype=torch.float32)


forward = Launch("aggregate", _launch_forward, _fake_forward)
add_by_x = Launch("aggregate_by_x", _launch_by_x, _fake_by_x, mutates=("grad_x",))
by_weight = Launch("aggregate_by_weight", _launch_by_weight, _fake_by_weight)


def agree(actual: Sequence[Tensor], expected: Sequence[Tensor], x: Tensor) -> bool:
    """Return whether results are equal but for rounding; where they are no numbers, nothing is compared."""
    tolerance = TOLERANCES[precision(x)] if x.dtype == torch.float32 else HALF_TOLERANCE
    pairs = [(a.float().nan_to_num(), b.float().nan_to_num()) for a, b in zip(actual, expected, strict=True)]
    return all(bool((a - b).abs().amax() <= tolerance * b.abs().amax().clamp_min(1e-30)) for a, b in pairs)
