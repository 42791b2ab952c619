"""Ways to find the highest scores of each row, timed beside torch's top-k: the layers use the first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from convnn.layers.ops.top_k import best_columns, group_size


def by_two_top_ks(scores: Tensor, k: int, size: int) -> Tensor:
    """The same groups with torch's top-k in place of the sorts: ties as they fall."""
    groups = scores[..., : scores.shape[-1] // size * size].unflatten(-1, (-1, size))
    maxima = groups.amax(-1)
    rest = scores[..., groups.shape[-2] * size :]
    if rest.shape[-1]:
        maxima = torch.cat((maxima, rest.amax(-1, keepdim=True)), dim=-1)
    chosen = maxima.topk(k, dim=-1, sorted=False).indices
    columns = (chosen[..., None] * size + torch.arange(size, device=scores.device)).flatten(-2)
    is_inside = columns < scores.shape[-1]
    candidates = scores.gather(-1, columns.clamp(max=scores.shape[-1] - 1)).masked_fill_(~is_inside, -torch.inf)
    return columns.gather(-1, candidates.topk(k, dim=-1).indices)


def by_maxima(scores: Tensor, k: int) -> Tensor:
    """The best groups, and of their columns k times the best."""
    size = group_size(scores.shape[-1], k)
    unpaired = -scores.shape[-1] % size
    groups = torch.nn.functional.pad(scores, (0, unpaired), value=-torch.inf).unflatten(-1, (-1, size))
    chosen = groups.amax(-1).sort(dim=-1, descending=True, stable=True).indices[..., :k].sort(dim=-1).values
    candidates = groups.gather(-2, chosen[..., None].expand(*chosen.shape, size)).flatten(-2)
    best = torch.empty_like(chosen)
    for rank in range(k):
        best[..., rank : rank + 1] = candidates.argmax(dim=-1, keepdim=True)
        candidates.scatter_(-1, best[..., rank : rank + 1], -torch.inf)
    return chosen.gather(-1, best // size) * size + best % size


VARIANTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "two sorts": best_columns,
    "two sorts, groups of 8": partial(best_columns, size=8),
    "two sorts, groups of 32": partial(best_columns, size=32),
    "two top-ks, groups of 16": partial(by_two_top_ks, size=16),
    "two top-ks, groups of 32": partial(by_two_top_ks, size=32),
    "a sort and k maxima": by_maxima,
}
