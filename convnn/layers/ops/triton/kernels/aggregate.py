"""The kernels of the convolution over chosen positions.

B  batch      N  queries     S  rows of an image's source: H * W, or all of the padded map
C  channels   O  outputs     K  slots     T  B * N, rows of the output
"""

import triton
import triton.language as tl

from convnn.layers.ops.triton.kernels.blocks import block_mask, block_range, load_block
from convnn.layers.ops.triton.kernels.positions import padded_position, source_offsets


@triton.jit(do_not_specialize=["T"])
def forward_kernel(
    x_ptr,  # (B, S, C)
    index_ptr,  # (B or 1, N, K)
    weight_ptr,  # (K, C, O)
    bias_ptr,  # (O,)
    out_ptr,  # (B, N, O), written
    T,
    N,
    S,
    C,
    O,  # noqa: E741
    H,
    W,
    index_stride,
    K: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    PRECISION: tl.constexpr,
    BT: tl.constexpr,
    BD: tl.constexpr,
    BO: tl.constexpr,
):
    """A program computes BO outputs of BT rows: bias + sum over slots of gathered @ weight."""
    rows, is_row = block_range(tl.program_id(0) * BT, T, BT)
    outputs, is_output = block_range(tl.program_id(1) * BO, O, BO)
    total = tl.zeros((BT, BO), tl.float32)
    for slot in range(K):
        offsets, is_inside = source_offsets(index_ptr, rows, is_row, slot, N, S, C, H, W, index_stride, K, PH, PW)
        for first in range(0, C, BD):
            channels, is_channel = block_range(first, C, BD)
            left = load_block(x_ptr, offsets, is_inside, channels, is_channel)
            right = load_block(weight_ptr, (slot * C + channels) * O, is_channel, outputs, is_output)
            total = tl.dot(left, right, total, input_precision=PRECISION)
    total += tl.load(bias_ptr + outputs, mask=is_output, other=0.0).to(tl.float32)[None, :]
    out = out_ptr + rows.to(tl.int64)[:, None] * O + outputs[None, :]
    tl.store(out, total, mask=block_mask(is_row, is_output))


@triton.jit(do_not_specialize=["T"])
def by_x_kernel(
    grad_ptr,  # (B, N, O)
    index_ptr,
    weight_ptr,  # (K, O, C)
    grad_x_ptr,  # (B, S, C) float32, zeros, added to
    T,
    N,
    S,
    C,
    O,  # noqa: E741
    H,
    W,
    index_stride,
    K: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    PRECISION: tl.constexpr,
    BT: tl.constexpr,
    BD: tl.constexpr,
    BO: tl.constexpr,
):
    """A program adds the gradient of BD channels by one slot of BT rows, in any order with the other programs."""
    rows, is_row = block_range(tl.program_id(0) * BT, T, BT)
    channels, is_channel = block_range(tl.program_id(1) * BD, C, BD)
    slot = tl.program_id(2)
    total = tl.zeros((BT, BD), tl.float32)
    for first in range(0, O, BO):
        outputs, is_output = block_range(first, O, BO)
        left = load_block(grad_ptr, rows.to(tl.int64) * O, is_row, outputs, is_output)
        right = load_block(weight_ptr, (slot * O + outputs) * C, is_output, channels, is_channel)
        total = tl.dot(left, right, total, input_precision=PRECISION)
    offsets, is_inside = source_offsets(index_ptr, rows, is_row, slot, N, S, C, H, W, index_stride, K, PH, PW)
    target = grad_x_ptr + offsets[:, None] + channels[None, :]
    tl.atomic_add(target, total, mask=block_mask(is_inside, is_channel), sem="relaxed")


@triton.jit(do_not_specialize=["ROWS"])
def by_x_ordered_kernel(
    grad_ptr,  # (B, N, O)
    order_ptr,  # (B * N * K,) the entries of the index, by position and slot
    starts_ptr,  # (B * P * K + 1,) of the entries of each position and slot: P positions of an image
    weight_ptr,  # (K, O, C)
    grad_x_ptr,  # (B, S, C) float32, written
    ROWS,  # B * S
    S,
    C,
    O,  # noqa: E741
    W,
    P,
    K: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    PRECISION: tl.constexpr,
    BT: tl.constexpr,
    BD: tl.constexpr,
    BO: tl.constexpr,
):
    """A program computes BD channels of BT rows of the source, from all that chose them, in a fixed order."""
    rows, is_row = block_range(tl.program_id(0) * BT, ROWS, BT)
    channels, is_channel = block_range(tl.program_id(1) * BD, C, BD)
    # of rows from ROWS it lies behind the last image, and is masked
    position = (rows // S).to(tl.int64) * P + padded_position(rows % S, W, PH, PW)
    total = tl.zeros((BT, BD), tl.float32)
    for slot in range(K):
        first = tl.load(starts_ptr + position * K + slot, mask=is_row, other=0)
        count = tl.load(starts_ptr + position * K + slot + 1, mask=is_row, other=0) - first
        longest = tl.max(count, axis=0)
        for start in range(0, O, BO):
            outputs, is_output = block_range(start, O, BO)
            left = tl.zeros((BT, BO), tl.float32)
            for number in range(longest):
                is_entry = number < count  # false for rows from ROWS, whose count is 0
                entry = tl.load(order_ptr + first + number, mask=is_entry, other=0)
                left += load_block(grad_ptr, entry // K * O, is_entry, outputs, is_output).to(tl.float32)
            right = load_block(weight_ptr, (slot * O + outputs) * C, is_output, channels, is_channel)
            total = tl.dot(left, right.to(tl.float32), total, input_precision=PRECISION)
    target = grad_x_ptr + rows.to(tl.int64)[:, None] * C + channels[None, :]
    tl.store(target, total, mask=block_mask(is_row, is_channel))


@triton.jit(do_not_specialize=["T", "STEP"])
def by_weight_kernel(
    x_ptr,  # (B, S, C)
    index_ptr,
    grad_ptr,  # (B, N, O)
    parts_ptr,  # (parts, K, C, O) float32, written
    T,
    N,
    S,
    C,
    O,  # noqa: E741
    H,
    W,
    index_stride,
    STEP,  # rows of a part, a multiple of BT: the parts have no row in common
    K: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    PRECISION: tl.constexpr,
    BT: tl.constexpr,
    BD: tl.constexpr,
    BO: tl.constexpr,
):
    """A program computes gathered.T @ grad of one slot over the rows of one part, which are summed in a fixed order."""
    output_blocks = tl.cdiv(O, BO)
    channels, is_channel = block_range(tl.program_id(0) // output_blocks * BD, C, BD)
    outputs, is_output = block_range(tl.program_id(0) % output_blocks * BO, O, BO)
    slot, part = tl.program_id(1), tl.program_id(2)
    total = tl.zeros((BD, BO), tl.float32)
    for start in range(part * STEP, min((part + 1) * STEP, T), BT):  # none for a part from T, which stores zeros
        rows, is_row = block_range(start, T, BT)
        offsets, is_inside = source_offsets(index_ptr, rows, is_row, slot, N, S, C, H, W, index_stride, K, PH, PW)
        left = load_block(x_ptr, channels, is_channel, offsets, is_inside)  # transposed
        right = load_block(grad_ptr, rows.to(tl.int64) * O, is_row, outputs, is_output)
        total = tl.dot(left, right, total, input_precision=PRECISION)
    target = parts_ptr + ((part * K + slot).to(tl.int64) * C + channels)[:, None] * O + outputs[None, :]
    tl.store(target, total, mask=block_mask(is_channel, is_output))
