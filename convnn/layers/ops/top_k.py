"""The highest scores of each row: torch's top-k, or two narrow sorts where they are faster.

    M  columns     G  columns of a group     k  columns chosen

The k best columns lie in the k groups whose maxima are highest: a column outside of them is surpassed by k maxima. So
the groups are sorted by their maxima, M / G values, and then the k * G columns of the best k. torch sorts rows of up to
128 values in registers, and larger ones in shared memory; its top-k on CUDA reads a row some 13 times with as many
barriers, and on MPS sorts all of it. Between equal scores torch's top-k chooses any, but always alike.
"""

from math import log2, sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

NARROW = 128  # columns that are sorted at once
CUDA_COLUMNS, CUDA_COUNT = 512, 8
"""Rows wider than this of which at most so many columns are chosen are sorted on CUDA.

Measured on an H200: 1,024 rows of 256 images, k 8 of 1,032 columns 6.6 ms against 8.0 ms; k 15 10.8 against 7.9; k 8 of
264 columns (256 rows) 1.1 against 0.95.
"""


def sorts_columns(columns: int, k: int, device: torch.device) -> bool:
    """Return whether `best_columns` is faster than torch's top-k on this device."""
    if device.type == "cpu":
        return False
    return device.type == "mps" or (columns > CUDA_COLUMNS and k <= CUDA_COUNT)


def top_columns(scores: Tensor, k: int) -> Tensor:
    """Return the columns of the k highest scores of each row, best first. (.., M) -> (.., k)"""
    if sorts_columns(scores.shape[-1], k, scores.device):
        return best_columns(scores, k)
    return scores.topk(k, dim=-1).indices


def group_size(columns: int, k: int) -> int:
    """Return the columns of a group, a power of two for which both sorts are about as wide; 1 for a single sort."""
    size = 1 << max(0, round(log2(sqrt(columns / k))))
    return size if columns > NARROW and 2 * (k * size + columns // size) <= columns else 1


def best_columns(scores: Tensor, k: int) -> Tensor:
    """Return the columns of the k highest scores of each row, best first, the lower one at ties. (.., M) -> (.., k)"""
    size = group_size(scores.shape[-1], k)
    if size == 1:
        return _sorted_columns(scores)[..., :k]
    unpaired = -scores.shape[-1] % size
    groups = (F.pad(scores, (0, unpaired), value=-torch.inf) if unpaired else scores).unflatten(-1, (-1, size))
    # in ascending order: the second sort, which is stable, then finds lower columns first
    chosen = _sorted_columns(groups.amax(-1))[..., :k].sort(dim=-1).values  # (.., k)
    candidates = groups.gather(-2, chosen[..., None].expand(*chosen.shape, size)).flatten(-2)  # (.., k * G)
    best = _sorted_columns(candidates)[..., :k]
    shift = size.bit_length() - 1
    return (chosen.gather(-1, best >> shift) << shift) | (best & (size - 1))


def _sorted_columns(scores: Tensor) -> Tensor:
    return scores.sort(dim=-1, descending=True, stable=True).indices
