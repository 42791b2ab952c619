"""Blocks of matrices in memory: a program has as many rows and columns as it is compiled for, perhaps beyond the last.

R  rows     C  columns
"""

import triton
import triton.language as tl


@triton.jit
def block_range(start, end, SIZE: tl.constexpr):
    """SIZE numbers from `start`, and which of them lie below `end`. -> (SIZE,) twice"""
    numbers = start + tl.arange(0, SIZE)
    return numbers, numbers < end


@triton.jit
def block_mask(is_row, is_column):
    """Which entries of a block lie in the matrix. (R,), (C,) -> (R, C)"""
    return is_row[:, None] & is_column[None, :]


@triton.jit
def load_block(pointer, row_offsets, is_row, column_offsets, is_column):
    """Load a block; what lies outside of the matrix is not read, and zero. (R,) twice, (C,) twice -> (R, C)"""
    block = pointer + row_offsets[:, None] + column_offsets[None, :]
    return tl.load(block, mask=block_mask(is_row, is_column), other=0.0)
