"""The kernels of the attention over chosen positions.

B  batch      N  queries     S  rows of an image's projections: H * W, or all of the padded map
D  channels   K  slots       T  B * N, rows of the output

A row of the projections holds a query, a key and a value, D channels each. A program has BD of them, D or more: those
from D are loaded as zeros, which add nothing to a sum, and are not stored.
"""

import triton
import triton.language as tl

from convnn.layers.ops.triton.kernels.blocks import block_mask, block_range, load_block
from convnn.layers.ops.triton.kernels.positions import padded_position, source_offsets

MIN_LENGTH = tl.constexpr(1.0842021724855044e-19)  # whose square is the smallest normal float32


@triton.jit
def load_rows(pointer, offsets, is_row, channels, is_channel):
    """Load channels of rows as float32, zeros for what is not there. (BT,) twice, (BD,) twice -> (BT, BD)"""
    return load_block(pointer, offsets, is_row, channels, is_channel).to(tl.float32)


@triton.jit
def inverse_lengths(rows):
    """One over the length of each row, at most one over MIN_LENGTH; and the same or, for so short a row, 0. -> (BT,)"""
    length = tl.sqrt(tl.sum(rows * rows, axis=1))
    inverse = 1.0 / tl.maximum(length, MIN_LENGTH)
    return inverse, tl.where(length > MIN_LENGTH, inverse, 0.0)


@triton.jit
def query_offsets(rows, N, S, D, W, QH: tl.constexpr, QW: tl.constexpr):
    """Offsets of the projections of queries: with QW > 0 the projections are those of the padded map. -> (BT,)

    Those of rows from T lie behind the last image: they are for masked accesses only.
    """
    return ((rows // N).to(tl.int64) * S + padded_position(rows % N, W, QH, QW)) * 3 * D


@triton.jit
def column(matrix, slots, slot):
    """A column of a matrix in registers. (BT, SLOTS) -> (BT,)"""
    return tl.sum(tl.where(slots[None, :] == slot, matrix, 0.0), axis=1)


@triton.jit(do_not_specialize=["T"])
def forward_kernel(
    projections_ptr,  # (B, S, 3 D)
    index_ptr,  # (B, N, K)
    keep_ptr,  # (B, N, K) float32, with HAS_KEEP: the factor of each weight, 0 where it is dropped
    weight_ptr,  # (D, K)
    bias_ptr,  # (D,)
    attention_ptr,  # (B, N, K) float32, written: the weights before any is dropped
    out_ptr,  # (B, N, D), written
    T,
    N,
    S,
    D,
    H,
    W,
    K: tl.constexpr,
    SLOTS: tl.constexpr,  # the power of two from K
    PH: tl.constexpr,
    PW: tl.constexpr,
    QH: tl.constexpr,
    QW: tl.constexpr,
    COSINE: tl.constexpr,
    HAS_KEEP: tl.constexpr,
    BT: tl.constexpr,
    BD: tl.constexpr,
):
    """A program computes BT rows: bias + sum over slots of weight * attention * value."""
    rows, is_row = block_range(tl.program_id(0) * BT, T, BT)
    channels, is_channel = block_range(0, D, BD)
    slots, is_slot = block_range(0, K, SLOTS)
    query = load_rows(projections_ptr, query_offsets(rows, N, S, D, W, QH, QW), is_row, channels, is_channel)
    if COSINE:
        inverse, _ = inverse_lengths(query)
        query *= inverse[:, None]
    scores = tl.full((BT, SLOTS), float("-inf"), tl.float32)  # slots from K weigh nothing
    for slot in range(K):
        offsets, is_inside = source_offsets(index_ptr, rows, is_row, slot, N, S, 3 * D, H, W, N * K, K, PH, PW)
        # a key of the padding is zero, and scores as such
        key = load_rows(projections_ptr + D, offsets, is_inside, channels, is_channel)
        if COSINE:
            inverse, _ = inverse_lengths(key)
            score = tl.sum(query * key, axis=1) * inverse
        else:
            score = -tl.sum((query - key) * (query - key), axis=1)
        scores = tl.where(slots[None, :] == slot, score[:, None], scores)
    exponentials = tl.exp(scores - tl.max(scores, axis=1)[:, None])  # rows from T have scores of zeros: no NaN arises
    attention = exponentials / tl.sum(exponentials, axis=1)[:, None]
    weights = rows.to(tl.int64)[:, None] * K + slots[None, :]
    is_weight = block_mask(is_row, is_slot)
    tl.store(attention_ptr + weights, attention, mask=is_weight)
    if HAS_KEEP:
        attention *= tl.load(keep_ptr + weights, mask=is_weight, other=0.0)
    total = tl.zeros((BT, BD), tl.float32) + tl.load(bias_ptr + channels, mask=is_channel, other=0.0)[None, :]
    for slot in range(K):
        offsets, is_inside = source_offsets(index_ptr, rows, is_row, slot, N, S, 3 * D, H, W, N * K, K, PH, PW)
        value = load_rows(projections_ptr + 2 * D, offsets, is_inside, channels, is_channel)
        weight = tl.load(weight_ptr + channels * K + slot, mask=is_channel, other=0.0).to(tl.float32)
        total += value * weight[None, :] * column(attention, slots, slot)[:, None]
    out = out_ptr + rows.to(tl.int64)[:, None] * D + channels[None, :]
    tl.store(out, total, mask=block_mask(is_row, is_channel))


@triton.jit(do_not_specialize=["T"])
def backward_kernel(
    grad_ptr,  # (B, N, D)
    projections_ptr,
    index_ptr,
    keep_ptr,
    weight_ptr,
    attention_ptr,
    grad_projections_ptr,  # (B, S, 3 D) float32, zeros: queries are written and, with ADDS, keys and values added
    grad_scores_ptr,  # (B, N, K) float32, written without ADDS
    parts_ptr,  # (programs, K + 1, D) float32, written: by weight, then by bias
    T,
    N,
    S,
    D,
    H,
    W,
    K: tl.constexpr,
    SLOTS: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    QH: tl.constexpr,
    QW: tl.constexpr,
    COSINE: tl.constexpr,
    HAS_KEEP: tl.constexpr,
    ADDS: tl.constexpr,
    BT: tl.constexpr,
    BD: tl.constexpr,
):
    """A program computes the gradients of BT rows; with ADDS it adds those by sources, in any order with the others."""
    rows, is_row = block_range(tl.program_id(0) * BT, T, BT)
    channels, is_channel = block_range(0, D, BD)
    slots, is_slot = block_range(0, K, SLOTS)
    grad = load_rows(grad_ptr, rows.to(tl.int64) * D, is_row, channels, is_channel)
    weights = rows.to(tl.int64)[:, None] * K + slots[None, :]
    is_weight = block_mask(is_row, is_slot)
    attention = tl.load(attention_ptr + weights, mask=is_weight, other=0.0)
    keep = tl.full((BT, SLOTS), 1.0, tl.float32)
    if HAS_KEEP:
        keep = tl.load(keep_ptr + weights, mask=is_weight, other=0.0)
    masked = attention * keep
    grad_kept = tl.zeros((BT, SLOTS), tl.float32)
    parts_ptr += tl.program_id(0).to(tl.int64) * (K + 1) * D + channels
    for slot in range(K):
        offsets, is_inside = source_offsets(index_ptr, rows, is_row, slot, N, S, 3 * D, H, W, N * K, K, PH, PW)
        value = load_rows(projections_ptr + 2 * D, offsets, is_inside, channels, is_channel)
        weight = tl.load(weight_ptr + channels * K + slot, mask=is_channel, other=0.0).to(tl.float32)
        factor = column(masked, slots, slot)[:, None]
        weighted = grad * weight[None, :]
        grad_kept = tl.where(slots[None, :] == slot, tl.sum(weighted * value, axis=1)[:, None], grad_kept)
        tl.store(parts_ptr + slot * D, tl.sum(grad * value * factor, axis=0), mask=is_channel)
        if ADDS:
            target = grad_projections_ptr + 2 * D + offsets[:, None] + channels[None, :]
            tl.atomic_add(target, weighted * factor, mask=block_mask(is_inside, is_channel), sem="relaxed")
    tl.store(parts_ptr + K * D, tl.sum(grad, axis=0), mask=is_channel)
    grad_attention = grad_kept * keep
    grad_scores = attention * (grad_attention - tl.sum(attention * grad_attention, axis=1)[:, None])
    if not ADDS:
        tl.store(grad_scores_ptr + weights, grad_scores, mask=is_weight)
    own_offsets = query_offsets(rows, N, S, D, W, QH, QW)
    query = load_rows(projections_ptr, own_offsets, is_row, channels, is_channel)
    grad_factor = tl.full((BT,), 1.0, tl.float32)
    if COSINE:
        inverse, grad_factor = inverse_lengths(query)
        query *= inverse[:, None]
    grad_query = tl.zeros((BT, BD), tl.float32)
    for slot in range(K):
        offsets, is_inside = source_offsets(index_ptr, rows, is_row, slot, N, S, 3 * D, H, W, N * K, K, PH, PW)
        key = load_rows(projections_ptr + D, offsets, is_inside, channels, is_channel)
        grad_score = column(grad_scores, slots, slot)[:, None]
        if COSINE:
            inverse, key_factor = inverse_lengths(key)
            key *= inverse[:, None]
            score = tl.sum(query * key, axis=1)[:, None]
            grad_query += grad_score * (key - score * query)
            grad_key = grad_score * (query - score * key) * key_factor[:, None]
        else:
            grad_key = 2 * grad_score * (query - key)
            grad_query -= grad_key
        if ADDS:
            target = grad_projections_ptr + D + offsets[:, None] + channels[None, :]
            tl.atomic_add(target, grad_key, mask=block_mask(is_inside, is_channel), sem="relaxed")
    own = grad_projections_ptr + own_offsets[:, None] + channels[None, :]  # of this row alone
    tl.store(own, grad_query * grad_factor[:, None], mask=block_mask(is_row, is_channel))


@triton.jit(do_not_specialize=["ROWS"])
def by_source_kernel(
    grad_ptr,  # (B, N, D)
    projections_ptr,
    order_ptr,  # (B * N * K,) the entries of the index, by position and slot
    starts_ptr,  # (B * P * K + 1,) of the entries of each position and slot: P positions of an image
    keep_ptr,
    weight_ptr,
    attention_ptr,
    grad_scores_ptr,
    grad_projections_ptr,  # (B, S, 3 D) float32, of which keys and values are written
    ROWS,  # B * S
    N,
    S,
    D,
    W,
    P,
    K: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    QH: tl.constexpr,
    QW: tl.constexpr,
    COSINE: tl.constexpr,
    HAS_KEEP: tl.constexpr,
    BT: tl.constexpr,
    BD: tl.constexpr,
):
    """A program sums the gradients of BT keys and values over the queries that chose them, in a fixed order."""
    rows, is_row = block_range(tl.program_id(0) * BT, ROWS, BT)
    channels, is_channel = block_range(0, D, BD)
    offsets = rows.to(tl.int64) * 3 * D
    # of rows from ROWS it lies behind the last image, and is masked; (position + 1) * K is at most B * P * K
    position = (rows // S).to(tl.int64) * P + padded_position(rows % S, W, PH, PW)
    first = tl.load(starts_ptr + position * K, mask=is_row, other=0)
    count = tl.load(starts_ptr + (position + 1) * K, mask=is_row, other=0) - first
    key = load_rows(projections_ptr + D, offsets, is_row, channels, is_channel)
    key_factor = tl.full((BT,), 1.0, tl.float32)
    if COSINE:
        inverse, key_factor = inverse_lengths(key)
        key *= inverse[:, None]
    grad_key = tl.zeros((BT, BD), tl.float32)
    grad_value = tl.zeros((BT, BD), tl.float32)
    for number in range(tl.max(count, axis=0)):
        is_entry = number < count  # false for rows from ROWS, whose count is 0
        entry = tl.load(order_ptr + first + number, mask=is_entry, other=0)
        grad = load_rows(grad_ptr, entry // K * D, is_entry, channels, is_channel)
        weight = load_rows(weight_ptr, entry % K, is_entry, channels * K, is_channel)
        factor = tl.load(attention_ptr + entry, mask=is_entry, other=0.0)
        if HAS_KEEP:
            factor *= tl.load(keep_ptr + entry, mask=is_entry, other=0.0)
        grad_value += grad * weight * factor[:, None]
        grad_score = tl.load(grad_scores_ptr + entry, mask=is_entry, other=0.0)
        query = load_rows(
            projections_ptr, query_offsets(entry // K, N, S, D, W, QH, QW), is_entry, channels, is_channel
        )
        if COSINE:
            inverse, _ = inverse_lengths(query)
            grad_key += (grad_score * inverse)[:, None] * query
        else:
            grad_key += 2 * grad_score[:, None] * (query - key)
    if COSINE:
        radial = tl.sum(key * grad_key, axis=1)
        grad_key = (grad_key - radial[:, None] * key) * key_factor[:, None]
    mask = block_mask(is_row, is_channel)
    target = grad_projections_ptr + offsets[:, None] + channels[None, :]
    tl.store(target + D, grad_key, mask=mask)
    tl.store(target + 2 * D, grad_value, mask=mask)
