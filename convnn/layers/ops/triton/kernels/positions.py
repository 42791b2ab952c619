"""Positions of a padded map, and rows of the source that holds all of it or its interior.

B  batch      N  queries     S  rows of an image's source: H * W, or all of the padded map
K  slots
"""

import triton
import triton.language as tl


@triton.jit
def padded_position(position, W, PH: tl.constexpr, PW: tl.constexpr):
    """The number, in the map padded by PH and PW, of a position of the map itself; a sequence has PH = 0."""
    if PW > 0:
        position = (position // W + PH) * (W + 2 * PW) + position % W + PW
    return position


@triton.jit
def source_offsets(
    index_ptr, rows, is_row, slot, N, S, stride, H, W, index_stride, K: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr
):
    """Offsets of the neighbors of rows, and whether they are in the source: padding is not. -> (BT,) twice

    A position counts in the map of (H + 2 PH) x (W + 2 PW), of which the source holds the interior. With PW = 0 it is
    the row of the source itself. A sequence has H = 1 and PH = 0. `stride` is that of the source's rows. The offset
    of what is not in the source may lie outside of it: it is for masked accesses only.
    """
    image = (rows // N).to(tl.int64)  # what lies in one image, its index too, is counted in int32
    position = tl.load(index_ptr + image * index_stride + (rows % N) * K + slot, mask=is_row, other=0).to(tl.int32)
    if PW > 0:
        line = position // (W + 2 * PW) - PH
        column = position % (W + 2 * PW) - PW
        is_inside = is_row & (line >= 0) & (line < H) & (column >= 0) & (column < W)
        source = line * W + column
    else:
        is_inside = is_row
        source = position
    return (image * S + source) * stride, is_inside
