"""Similarity of vectors: normalization for cosines, and inner products that rank candidates by distance.

    t  images       N  queries       M  candidates       c  compared channels

Scores are computed in float32, or in float64 for float64 vectors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

METRICS = ("cosine", "euclidean")
ALIGNED = 4  # float32 numbers in 16 bytes, which a GPU loads at once


def score_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which scores of vectors of this type are computed."""
    return torch.promote_types(dtype, torch.float32)


@contextmanager
def exact_products() -> Iterator[None]:
    """Compute float32 products in float32, whatever is set for the process.

    Scores in TF32 or bfloat16 would change up to two thirds of the neighbors in a map of three channels, and sums of an
    attention in TF32 would differ from those of its kernels, which are not products of matrices.
    """
    known: Any = torch.backends  # whose parts have no types
    backends = known.cuda.matmul, known.mkldnn.matmul
    precisions = [backend.fp32_precision for backend in backends]
    if all(precision in ("ieee", "none") for precision in precisions):
        yield
        return
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # refused where only one backend was set
        before = "highest"
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        for backend, precision in zip(backends, precisions, strict=True):
            backend.fp32_precision = precision


def normalize(vectors: Tensor) -> Tensor:
    """Scale vectors to unit length along the last dimension; one whose squares underflow stays shorter."""
    return unit_vectors(vectors)[0]


def unit_vectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return `normalize(vectors)`, and the lengths by which they were divided. (.., c) -> (.., c), (.., 1)"""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp_min_(_min_length(vectors.dtype))
    return vectors / length, length


def normalize_backward(grad: Tensor, unit: Tensor, length: Tensor) -> Tensor:
    """Return the gradient by vectors from the one by `unit_vectors` of them; zero for a vector that stays shorter."""
    radial = (unit * grad).sum(-1, keepdim=True)
    grad_vectors = torch.addcmul(grad, unit, radial, value=-1).div_(length)
    return grad_vectors.masked_fill_(length <= _min_length(length.dtype), 0)


def _min_length(dtype: torch.dtype) -> float:
    """Return the smallest length whose square is a normal number."""
    return torch.finfo(dtype).tiny ** 0.5


def append_weighted_coordinates(rows: Tensor, coordinates: Tensor, lambda_param: float) -> Tensor:
    """Features and coordinates as Loc_Col compares them. (t, N', C), (N', n) -> (t, N', C + n)

    Features are divided by their standard deviation in the image and weighted with lambda_param, coordinates with the
    rest of 1.
    """
    values = rows.flatten(1)
    std = values.std(dim=1) if values.shape[1] > 1 else values.new_zeros(len(values))
    features = rows * (lambda_param / (std + 1e-6)).view(-1, 1, 1)
    return torch.cat((features, ((1 - lambda_param) * coordinates).expand(len(rows), -1, -1)), dim=2)


def center_of(vectors: Tensor) -> Tensor:
    """Return the mean of each image's vectors. (t, N, c) -> (t, 1, c)

    It is rounded to bfloat16: subtracting it from integers is then exact, so that ties stay ties.
    """
    return vectors.mean(dim=1, keepdim=True).bfloat16()


def score_products(
    queries: Tensor, candidates: Tensor, norm_penalty: Tensor | None, out: Tensor | None = None
) -> Tensor:
    """Inner products, minus half the norm penalty. (t, n, c), (t, c, M), (t, 1, M) -> (t, n, M)

    With the candidates' squared norms as the penalty this ranks by distance: q.c - |c|^2 / 2 = (|q|^2 - |q - c|^2) / 2.
    Vectors must be centered first: for vectors far from the origin, small distances would be lost to rounding.
    """
    if norm_penalty is None:
        return torch.bmm(queries, candidates, out=out)
    return torch.baddbmm(norm_penalty, queries, candidates, beta=-0.5, out=out)


def append_penalty(queries: Tensor, candidates: Tensor, norm_penalty: Tensor) -> tuple[Tensor, Tensor]:
    """Append channels that subtract half the norm penalty from the products. (t, n, c), (t, M, c), (t, M) -> (.., c')

    For GPUs, where `torch.baddbmm` first copies the penalty over all scores, which takes longer than some more
    channels: one of them holds the penalty, and up to three zeros keep rows aligned.
    """
    channels = queries.shape[2]
    added = ALIGNED - channels % ALIGNED
    candidates = F.pad(candidates, (0, added))
    candidates[..., channels] = -0.5 * norm_penalty
    return F.pad(queries, (0, added), value=1.0), candidates
