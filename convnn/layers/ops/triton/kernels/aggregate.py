"""The kernels of the convolution over chosen positions.

B  batch      N  queries     S  rows of an image's source: H * W, or all of the padded map
C  channels   O  outputs     K  slots     T  B * N, rows of the output
"""

import triton
import triton.language as tl

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
    rows = tl.program_id(0) * BT + tl.arange(0, BT)
    outputs = tl.program_id(1) * BO + tl.arange(0, BO)
    is_row, is_output = rows < T, outputs < O
    total = tl.zeros((BT, BO), tl.float32)
    for slot in range(K):
        offsets, is_inside = source_offsets(index_ptr, rows, is_row, slot, N, S, C, H, W, index_stride, K, PH, PW)
        for first in range(0, C, BD):
            channels = first + tl.arange(0, BD)
            is_channel = channels < C
            left = tl.load(
                x_ptr + offsets[:, None] + channels[None, :], mask=is_inside[:, None] & is_channel[None, :], other=0.0
            )
            right = tl.load(
                weight_ptr + (slot * C + channels)[:, None] * O + outputs[None, :],
                mask=is_channel[:, None] & is_output[None, :],
                other=0.0,
            )
            total = tl.dot(left, right, total, input_precision=PRECISION)
    total += tl.load(bias_ptr + outputs, mask=is_output, other=0.0).to(tl.float32)[None, :]
    out = out_ptr + rows.to(tl.int64)[:, None] * O + outputs[None, :]
    tl.store(out, total, mask=is_row[:, None] & is_output[None, :])


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
    rows = tl.program_id(0) * BT + tl.arange(0, BT)
    channels = tl.program_id(1) * BD + tl.arange(0, BD)
    slot = tl.program_id(2)
    is_row, is_channel = rows < T, channels < C
    total = tl.zeros((BT, BD), tl.float32)
    for first in range(0, O, BO):
        outputs = first + tl.arange(0, BO)
        is_output = outputs < O
        left = tl.load(
            grad_ptr + rows.to(tl.int64)[:, None] * O + outputs[None, :],
            mask=is_row[:, None] & is_output[None, :],
            other=0.0,
        )
        right = tl.load(
            weight_ptr + (slot * O + outputs)[:, None] * C + channels[None, :],
            mask=is_output[:, None] & is_channel[None, :],
            other=0.0,
        )
        total = tl.dot(left, right, total, input_precision=PRECISION)
    offsets, is_inside = source_offsets(index_ptr, rows, is_row, slot, N, S, C, H, W, index_stride, K, PH, PW)
    target = grad_x_ptr + offsets[:, None] + channels[None, :]
    tl.atomic_add(target, total, mask=is_inside[:, None] & is_channel[None, :], sem="relaxed")


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
    rows = tl.program_id(0) * BT + tl.arange(0, BT)
    channels = tl.program_id(1) * BD + tl.arange(0, BD)
    is_row, is_channel = rows < ROWS, channels < C
    # of rows from ROWS it lies behind the last image, and is masked
    position = (rows // S).to(tl.int64) * P + padded_position(rows % S, W, PH, PW)
    total = tl.zeros((BT, BD), tl.float32)
    for slot in range(K):
        first = tl.load(starts_ptr + position * K + slot, mask=is_row, other=0)
        count = tl.load(starts_ptr + position * K + slot + 1, mask=is_row, other=0) - first
        longest = tl.max(count, axis=0)
        for start in range(0, O, BO):
            outputs = start + tl.arange(0, BO)
            is_output = outputs < O
            left = tl.zeros((BT, BO), tl.float32)
            for number in range(longest):
                is_entry = number < count  # false for rows from ROWS, whose count is 0
                entry = tl.load(order_ptr + first + number, mask=is_entry, other=0)
                grad = grad_ptr + (entry // K * O)[:, None] + outputs[None, :]
                left += tl.load(grad, mask=is_entry[:, None] & is_output[None, :], other=0.0).to(tl.float32)
            right = tl.load(
                weight_ptr + (slot * O + outputs)[:, None] * C + channels[None, :],
                mask=is_output[:, None] & is_channel[None, :],
                other=0.0,
            ).to(tl.float32)
            total = tl.dot(left, right, total, input_precision=PRECISION)
    target = grad_x_ptr + rows.to(tl.int64)[:, None] * C + channels[None, :]
    tl.store(target, total, mask=is_row[:, None] & is_channel[None, :])


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
    channels = tl.program_id(0) // output_blocks * BD + tl.arange(0, BD)
    outputs = tl.program_id(0) % output_blocks * BO + tl.arange(0, BO)
    slot, part = tl.program_id(1), tl.program_id(2)
    is_channel, is_output = channels < C, outputs < O
    total = tl.zeros((BD, BO), tl.float32)
    for start in range(part * STEP, min((part + 1) * STEP, T), BT):  # none for a part from T, which stores zeros
        rows = start + tl.arange(0, BT)
        is_row = rows < T
        offsets, is_inside = source_offsets(index_ptr, rows, is_row, slot, N, S, C, H, W, index_stride, K, PH, PW)
        left = tl.load(
            x_ptr + offsets[None, :] + channels[:, None], mask=is_inside[None, :] & is_channel[:, None], other=0.0
        )
        right = tl.load(
            grad_ptr + rows.to(tl.int64)[:, None] * O + outputs[None, :],
            mask=is_row[:, None] & is_output[None, :],
            other=0.0,
        )
        total = tl.dot(left, right, total, input_precision=PRECISION)
    target = parts_ptr + ((part * K + slot).to(tl.int64) * C + channels)[:, None] * O + outputs[None, :]
    tl.store(target, total, mask=is_channel[:, None] & is_output[None, :])
