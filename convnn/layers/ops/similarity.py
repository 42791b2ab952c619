"""What is compared, and how: two sets of vectors made ready so that an inner product ranks them.

t images, N queries, M candidates, c compared channels. Half types are raised to float32, float64 stays.
"""

import torch
from torch import Tensor

METRICS = ("cosine", "euclidean")


def score_dtype(dtype: torch.dtype) -> torch.dtype:
    """Type in which scores of vectors of this type are computed."""
    return torch.promote_types(dtype, torch.float32)


def unit(vectors: Tensor) -> Tensor:
    """Vectors scaled to length one along the last dimension; one whose squares underflow stays short."""
    length, least = _length(vectors)
    return vectors / length.clamp_min(least)


def through_unit(grad: Tensor, vectors: Tensor) -> Tensor:
    """Gradient by vectors from the one by their unit vectors; zero where a vector is zero or stays short."""
    length, least = _length(vectors)
    direction = vectors / length.clamp_min(least)
    across = grad - direction * (direction * grad).sum(-1, keepdim=True)
    return torch.where(length > least, across / length, 0)


def _length(vectors: Tensor) -> tuple[Tensor, float]:
    """Lengths, and the least one whose square is a normal number."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return length, torch.finfo(length.dtype).tiny ** 0.5


def placed(rows: Tensor, coordinates: Tensor, lambda_param: float) -> Tensor:
    """Features and coordinates side by side, as Loc_Col compares them. (t, N', C), (N', n) -> (t, N', C + n)"""
    values = rows.flatten(1)
    spread = values.std(dim=1) if values.shape[1] > 1 else values.new_zeros(len(values))
    features = rows * (lambda_param / (spread + 1e-6)).view(-1, 1, 1)
    return torch.cat((features, ((1 - lambda_param) * coordinates).expand(len(rows), -1, -1)), dim=2)


def centre_of(vectors: Tensor) -> Tensor:
    """Mean of each image's vectors, in bfloat16: taking it off whole numbers is exact, so ties stay. -> (t, 1, c)"""
    return vectors.mean(dim=1, keepdim=True).bfloat16()


def products(left: Tensor, right: Tensor, handicap: Tensor | None, out: Tensor | None = None) -> Tensor:
    """Inner products, less half a candidate's handicap: its squared length, in a ranking by distance.

    (t, n, c), (t, c, M), (t, 1, M) -> (t, n, M). q.c - |c|^2 / 2 is half of |q|^2 - |q - c|^2: the nearer, the higher.
    Both are to be taken about a centre, as near vectors far from the origin would drown in rounding.
    """
    if handicap is None:
        return torch.bmm(left, right, out=out)
    return torch.baddbmm(handicap, left, right, beta=-0.5, out=out)
