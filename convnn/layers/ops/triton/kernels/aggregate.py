"""The kernels of the convolution over chosen positions.

B  batch      N  queries     S  rows of an image's source: H * W, or all of the padded map
C  channels   O  outputs     K  slots     T  B * N, rows of the output
"""

import triton
import triton.language as tl


@triton.jit
def source_offsets(
    index_ptr, rows, is_row, slot, N, S, C, H, W, index_stride, K: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr
):
    """Offsets of the neighbors of rows, and whether they are in the source: padding is not. -> (BT,) twice

    A position counts in the map of (H + 2 PH) x (W + 2 PW), of which the source holds the interior. With PW = 0 it is
    the row of the source itself. A sequence has H = 1 and PH = 0.
    """
    image = (rows // N).to(tl.int64)
    position = tl.load(index_ptr + image * index_stride + (rows % N) * K + slot, mask=is_row, other=0).to(tl.int32)
    if PW > 0:
        line = position // (W + 2 * PW) - PH
        place = position % (W + 2 * PW) - PW
        is_inside = is_row & (line >= 0) & (line < H) & (place >= 0) & (place < W)
        source = line * W + place
    else:
        is_inside = is_row
        source = position
    return (image * S + source) * C, is_inside


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
    for start in range(part * STEP, min((part + 1) * STEP, T), BT):
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
