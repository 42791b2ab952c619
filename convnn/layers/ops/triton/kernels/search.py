"""The kernel of the search for neighbors.

B  batch      N  queries     M  candidates     BQ  queries of a program
C  channels   k  neighbors, the query itself included     BC  candidates of a tile
"""

import triton
import triton.language as tl

from convnn.layers.ops.triton.kernels.blocks import block_range, load_block

MASKED = tl.constexpr(-0x80000000)  # below the number of any score
NO_CANDIDATE = tl.constexpr(-0x7FFFFFFF80000000)  # MASKED in the upper half: below the key of any candidate
LAST_COLUMN = tl.constexpr(0x7FFFFFFF)  # a column and its number in a key are each other's complement


@triton.jit
def sortable(scores):
    """Numbers in the order of float32 scores: equal zeros of both signs, and NaN above all. -> int32"""
    bits = tl.where(scores == 0.0, 0.0, scores).to(tl.int32, bitcast=True)
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # -inf becomes -0x7F800001, above MASKED
    return tl.where(scores != scores, 0x7FFFFFFF, ordered)


@triton.jit
def best_key(ordered, start):
    """The highest of each row, the lower column at ties, and its column in the tile. -> (BQ,) int64, (BQ,) int32

    A key has the score in its upper half and, below, a number that is higher for lower columns.
    """
    top, column = tl.max(ordered, axis=1, return_indices=True)
    return (top.to(tl.int64) << 32) | ((start + column) ^ LAST_COLUMN).to(tl.int64), column


@triton.jit(do_not_specialize=["blocks"])
def search_kernel(
    queries_ptr,  # (B, N, C) float32
    candidates_ptr,  # (B, M, C) float32
    penalty_ptr,  # (B, M) float32, with HAS_PENALTY
    own_column_ptr,  # (N,) int64: a query's own candidate, M or more if it is none
    own_position_ptr,  # (N,)
    position_ptr,  # (M,) of the candidates
    index_ptr,  # (B, N, k), written
    blocks,  # of queries of an image
    N,
    M,
    C,
    HAS_PENALTY: tl.constexpr,
    COUNT: tl.constexpr,  # k - 1
    SLOTS: tl.constexpr,  # the power of two from COUNT, at least 2
    TENSOR_CORES: tl.constexpr,
    BQ: tl.constexpr,
    BC: tl.constexpr,
    BD: tl.constexpr,
):
    """Scores of BQ queries with all candidates, a tile at a time; the COUNT best so far stay in registers."""
    # int64 for the images before this one; rows and columns of one image, times channels, stay below 2^31
    image = (tl.program_id(0) // blocks).to(tl.int64)
    rows, is_query = block_range(tl.program_id(0) % blocks * BQ, N, BQ)
    own_column = tl.load(own_column_ptr + rows, mask=is_query, other=-1)  # rows from N: computed, not stored
    queries_ptr += image * N * C
    candidates_ptr += image * M * C
    slot = tl.arange(0, SLOTS)
    # distinct, so that one of them at a time is replaced; slots beyond COUNT hold more than any key, and are never
    empty = tl.where(slot < COUNT, slot.to(tl.int64) + NO_CANDIDATE, 0x7FFFFFFFFFFFFFFF)
    best = tl.zeros((BQ, SLOTS), tl.int64) + empty[None, :]
    for start in range(0, M, BC):
        columns, is_candidate = block_range(start, M, BC)
        scores = tl.zeros((BQ, BC), tl.float32)
        if TENSOR_CORES:
            for first in range(0, C, BD):
                channels, is_channel = block_range(first, C, BD)  # beyond are zeros on both sides, which add nothing
                left = load_block(queries_ptr, rows * C, is_query, channels, is_channel)
                right = load_block(candidates_ptr, channels, is_channel, columns * C, is_candidate)  # transposed
                scores = tl.dot(left, right, scores, input_precision="tf32x3")
        else:
            for channel in range(C):
                left = tl.load(queries_ptr + rows * C + channel, mask=is_query, other=0.0)
                right = tl.load(candidates_ptr + columns * C + channel, mask=is_candidate, other=0.0)
                scores += left[:, None] * right[None, :]
        if HAS_PENALTY:
            penalty = tl.load(penalty_ptr + image * M + columns, mask=is_candidate, other=0.0)
            scores -= 0.5 * penalty[None, :]
        is_allowed = is_candidate[None, :] & (columns[None, :] != own_column[:, None])
        ordered = tl.where(is_allowed, sortable(scores), MASKED)
        # Take the best of the tile out of it and put them in the place of the worst so far, until no row has a better
        # one. A row that is done loses columns that cannot enter later either: its worst key only rises.
        key, column = best_key(ordered, start)
        worst = tl.min(best, axis=1)
        while tl.max((key > worst).to(tl.int32), axis=0) > 0:
            is_replaced = (best == worst[:, None]) & (key > worst)[:, None]
            best = tl.where(is_replaced, key[:, None], best)
            ordered = tl.where(columns[None, :] == (start + column)[:, None], MASKED, ordered)
            key, column = best_key(ordered, start)
            worst = tl.min(best, axis=1)
    best = tl.sort(best, dim=1, descending=True)
    rank = slot - (SLOTS - COUNT)  # the slots beyond COUNT come first
    chosen = (best & LAST_COLUMN).to(tl.int32) ^ LAST_COLUMN
    # with fewer than COUNT candidates other than the query, empty slots would remain: their column is none
    is_chosen = is_query[:, None] & (rank >= 0)[None, :] & (chosen >= 0) & (chosen < M)
    position = tl.load(position_ptr + chosen, mask=is_chosen, other=0)
    index_ptr += (image * N + rows)[:, None] * (COUNT + 1)
    tl.store(index_ptr + 1 + rank[None, :], position, mask=is_chosen)
    own_position = tl.load(own_position_ptr + rows, mask=is_query, other=0)
    tl.store(index_ptr, own_position[:, None], mask=is_query[:, None])
