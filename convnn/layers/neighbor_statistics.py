"""Statistics of the neighbors that a layer chooses, and of how the branches of a layer share its work.

B  batch                      K  neighbors
N  queries                    Q  queries whose neighbors are compared with those of an earlier choice
N' positions of the padded map

A neighbor here is what a slot holds beside the query itself.

neighbors_outside   % of the neighbors on the map that lie outside the window of the ordinary convolution
neighbors_distance  mean Euclidean distance of the neighbors on the map, in pixels of the image
neighbors_padding   % of the neighbors that are padding
neighbors_hub       how often the most frequent candidate is chosen, mean over the images
neighbors_gini      Gini coefficient of how often each candidate is chosen: 0 all alike, towards 1 a few alone
neighbors_overlap   % of the neighbors that an earlier choice had, too; padding is all alike
branch_activation   norm of what the first branch computes at a position, in % of the sum over both branches
branch_weight       the same of the weights that the 1x1 convolution gives its channels
branch_gradient     the same of the gradient of its parameters
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from convnn.layer_table import window_reach
from convnn.layers.branching import Branching1d, Branching2d
from convnn.layers.neighbor_record import NeighborRecord
from convnn.layers.ops.coordinates import interior_positions, neighbor_offsets, padded_sides, position_lines
from convnn.layers.sampling import fixed_order

Branching = Branching1d | Branching2d


def neighbor_statistics(record: NeighborRecord, pool: Tensor | None, *, window: int, pixels: int) -> dict[str, Tensor]:
    """Return the statistics of a layer's choice but the overlap, as scalars on its device.

    NaN stands for one that is not defined, as without neighbors on the map.

    Args:
        pool: the candidates (M,), positions of the padded map; None for all.
        window: side of the window of the ordinary convolution, in positions.
        pixels: pixels of the image that a position covers along each side.
    """
    sides, padding, index = record.sides, record.padding, record.index.long()
    offsets = neighbor_offsets(index, sides, padding)  # (n, B, N, K)
    others = offsets.any(0)
    on_map = others & is_on_map(index, sides, padding)
    count = on_map.sum()
    before, after = window_reach(window)
    outside = on_map & ((offsets < -before) | (offsets > after)).any(0)
    distances = offsets.float().square().sum(0).sqrt() * on_map
    candidates = _candidates(pool, sides, padding, index.device)
    hub, gini = _hubness(index, on_map, candidates, prod(padded_sides(sides, padding)))
    return {
        "neighbors_outside": 100 * outside.sum().float() / count,
        "neighbors_distance": pixels * distances.sum() / count,
        "neighbors_padding": 100 * (others.sum() - count).float() / others.sum(),
        "neighbors_hub": hub,
        "neighbors_gini": gini,
    }


def is_on_map(index: Tensor, sides: Sequence[int], padding: int) -> Tensor:
    """Return which positions of the padded map belong to the map itself. (...) -> (...)"""
    lines = zip(position_lines(index, padded_sides(sides, padding)), sides, strict=True)
    return torch.stack([(line >= padding) & (line < padding + side) for line, side in lines]).all(0)


def _candidates(pool: Tensor | None, sides: Sequence[int], padding: int, device: torch.device) -> Tensor:
    """Return the candidates that are positions of the map: of the padded map, (M,)."""
    if pool is None:
        return interior_positions(sides, padding, device)
    return pool[is_on_map(pool, sides, padding)]


def _hubness(index: Tensor, on_map: Tensor, candidates: Tensor, positions: int) -> tuple[Tensor, Tensor]:
    """Return the largest count and the Gini coefficient of the counts of the candidates, means over the images."""
    images = torch.arange(len(index), device=index.device)[:, None, None] * positions
    counts = torch.zeros(len(index) * positions, dtype=torch.long, device=index.device)
    counts.scatter_add_(0, (index + images).flatten(), on_map.long().flatten())
    ranked = counts.view(len(index), positions)[:, candidates].float().sort(1).values  # (B, M)
    size = ranked.shape[1]
    if size == 0:
        return ranked.sum() * torch.nan, ranked.sum() * torch.nan
    ranks = torch.arange(1, size + 1, device=index.device)
    gini = 2 * (ranks * ranked).sum(1) / (size * ranked.sum(1)) - (size + 1) / size
    return ranked[:, -1].mean(), gini.nanmean()


def sampled_queries(record: NeighborRecord, size: int) -> Tensor:
    """Return the rows of up to `size` queries, always the same ones of a map. -> (Q,)"""
    return fixed_order(record.sides, 0, 0, record.index.device)[:size]


def neighbors_overlap(record: NeighborRecord, rows: Tensor, before: Tensor) -> Tensor:
    """Return the share of the neighbors of some queries that they had before, too, in percent. -> ()

    `rows` are those of the queries (Q,), `before` their neighbors by an earlier choice of the layer (B or 1, Q, K).
    """
    sides, padding, device = record.sides, record.padding, record.index.device
    queries = interior_positions(sides, padding, device)[rows, None]  # (Q, 1)
    before, now = before.long(), record.index[:, rows].long()
    chosen = torch.zeros(*now.shape[:2], prod(padded_sides(sides, padding)), dtype=torch.bool, device=device)
    chosen.scatter_(2, before, True)
    others, on_map = now != queries, is_on_map(now, sides, padding)
    in_both = (chosen.gather(2, now) & on_map & others).sum()
    padding_before, padding_now = (~is_on_map(before, sides, padding)).sum(2), (~on_map).sum(2)
    return 100 * (in_both + torch.minimum(padding_before, padding_now).sum()).float() / others.sum()


@contextmanager
def record_activations(layers: Mapping[str, Branching]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Record the norm of what each branch of some layers computes at a position, in the mean, in a forward pass."""
    norms: dict[str, tuple[Tensor, Tensor]] = {}

    def record(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        first, second = inputs[0].detach().float().tensor_split([layers[name].first_channels], 1)
        norms[name] = first.norm(dim=1).mean(), second.norm(dim=1).mean()

    hooks = [layer.mix.register_forward_pre_hook(partial(record, name)) for name, layer in layers.items()]
    try:
        yield norms
    finally:
        for hook in hooks:
            hook.remove()


def branch_parameters(layer: Branching) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters of both branches; none of one without channels."""
    first, second = (list(branch.parameters()) if branch else [] for branch in (layer.first, layer.second))
    return first, second


def mix_norms(layer: Branching) -> tuple[Tensor, Tensor]:
    """Return the norms of the weights that the 1x1 convolution gives each branch."""
    first, second = layer.mix.weight.detach().float().tensor_split([layer.first_channels], 1)
    return first.norm(), second.norm()
