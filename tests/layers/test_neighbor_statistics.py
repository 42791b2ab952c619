"""The statistics of neighbors agree with plain loops over positions, for every kind of candidates and map."""

import math

import pytest
import torch
from torch.nn import functional as F

from convnn.layers import Branching2d, ConvNN1d, ConvNN2d, ConvNNAttention2d
from convnn.layers.neighbor_record import record_neighbors
from convnn.layers.neighbor_statistics import (
    mix_norms,
    neighbor_statistics,
    neighbors_overlap,
    record_activations,
    sampled_queries,
)

PIXELS = 2


def record(layer, x):
    layer.eval()
    with torch.inference_mode(), record_neighbors(layer) as records:
        layer(x)
    return records[""]


def coordinates(position, sides, padding):
    """The coordinates of a position of the padded map in the map itself."""
    result = []
    for side in reversed(sides):
        position, line = divmod(position, side + 2 * padding)
        result.append(line - padding)
    return result[::-1]


def window_offsets(size, dims):
    """The offsets that an ordinary convolution reads, found by its gradient."""
    x = torch.zeros(1, 1, *[2 * size + 1] * dims, requires_grad=True)
    convolved = (F.conv1d, F.conv2d)[dims - 1](x, torch.ones(1, 1, *[size] * dims), padding="same")
    convolved[(0, 0, *[size] * dims)].backward()
    return (x.grad[0, 0].nonzero() - size).tolist()


def looped(choice, pool, window):
    """The statistics, a query and a slot at a time."""
    in_window = window_offsets(window, len(choice.sides))
    sides, padding = choice.sides, choice.padding

    def on_map(point):
        return all(0 <= line < side for line, side in zip(point, sides, strict=True))

    outer = math.prod(side + 2 * padding for side in sides)
    points = [coordinates(position, sides, padding) for position in range(outer)]
    queries = [point for point in points if on_map(point)]
    candidates = [point for point in (points if pool is None else [points[i] for i in pool]) if on_map(point)]
    outside, distances, pads, hubs, ginis = [], [], [], [], []
    for image in choice.index.tolist():
        counts = {tuple(point): 0 for point in candidates}
        for query, slots in zip(queries, image, strict=True):
            for point in (points[slot] for slot in slots):
                if point == query:
                    continue
                pads.append(not on_map(point))
                if on_map(point):
                    counts[tuple(point)] += 1
                    distances.append(PIXELS * math.dist(point, query))
                    outside.append([a - b for a, b in zip(point, query, strict=True)] not in in_window)
        hubs.append(max(counts.values()))
        values = list(counts.values())
        if sum(values):
            differences = sum(abs(a - b) for a in values for b in values)
            ginis.append(differences / (2 * len(values) * sum(values)))
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    return {
        "neighbors_outside": 100 * mean(outside),
        "neighbors_distance": mean(distances),
        "neighbors_padding": 100 * mean(pads),
        "neighbors_hub": mean(hubs),
        "neighbors_gini": mean(ginis),
    }


@pytest.mark.parametrize(
    "layer",
    [
        ConvNN2d(3, 2, K=5, padding=1),
        ConvNN2d(3, 2, K=9, padding=1, similarity_type="Loc"),
        ConvNN2d(3, 2, K=4, padding=0, sampling_type="random", num_samples=12),
        ConvNN2d(3, 2, K=4, padding=1, sampling_type="spatial", num_samples=3, magnitude_type="euclidean"),
        ConvNN2d(3, 2, K=3, shuffle_pattern="BA", shuffle_scale=2, aggregation_type="Loc_Col"),
        ConvNNAttention2d(3, 2, K=6, padding=2),
        ConvNN1d(3, 2, K=3),
    ],
    ids=lambda layer: type(layer).__name__ + layer.sampling.sampling_type,
)
def test_statistics_agree_with_a_loop_over_positions(layer):
    torch.manual_seed(0)
    sides = (6, 8)[: layer.dims]
    choice = record(layer, torch.randn(2, 3, *sides))
    pool = layer.pool(choice.sides, torch.device("cpu"))
    for window in (3, 4):
        values = neighbor_statistics(choice, pool, window=window, pixels=PIXELS)
        expected = looped(choice, None if pool is None else pool.tolist(), window)
        # float32 sums of a few hundred terms
        assert {name: value.item() for name, value in values.items()} == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_without_a_neighbor_on_the_map_the_statistics_are_not_defined():
    layer = ConvNN2d(3, 2, K=1)
    choice = record(layer, torch.randn(2, 3, 4, 4))
    values = neighbor_statistics(choice, None, window=3, pixels=1)
    defined = {name for name, value in values.items() if value.isfinite()}
    assert defined == {"neighbors_hub"}
    assert neighbors_overlap(choice, torch.arange(4), choice.index[:, :4]).isnan()


def test_the_overlap_is_the_share_of_the_neighbors_that_were_chosen_before_where_padding_is_all_alike():
    torch.manual_seed(0)
    layer = ConvNN2d(3, 2, K=5, padding=1, magnitude_type="euclidean")
    x = torch.randn(2, 3, 5, 7)
    before, now = record(layer, x), record(layer, x + 0.5 * torch.randn_like(x))
    rows = sampled_queries(now, 20)
    assert len(set(rows.tolist())) == 20
    shared, neighbors = 0, 0
    for first, second in zip(before.index[:, rows].flatten(0, 1), now.index[:, rows].flatten(0, 1), strict=True):
        words = []
        for slots in (first, second):
            points = [coordinates(slot, now.sides, 1) for slot in slots.tolist()[1:]]
            words.append([(y, x) if 0 <= y < 5 and 0 <= x < 7 else "padding" for y, x in points])
        neighbors += 4
        for word in set(words[0]):
            shared += min(words[0].count(word), words[1].count(word))
    overlap = neighbors_overlap(now, rows, before.index[:, rows])
    assert 0 < shared < neighbors
    assert overlap.item() == pytest.approx(100 * shared / neighbors)
    assert neighbors_overlap(now, rows, now.index[:, rows]).item() == 100


def test_norms_of_branches_are_those_of_their_own_channels():
    branches = (lambda a, b: ConvNN2d(a, b, K=3), lambda a, b: torch.nn.Conv2d(a, b, 1))
    layer = Branching2d(3, 8, *branches, branch_ratio=0.25)
    x = torch.randn(2, 3, 4, 5)
    with torch.no_grad(), record_activations({"slot": layer}) as norms:
        layer(x)
        first, second = layer.first(x), layer.second(x)
    assert not layer.mix._forward_pre_hooks
    assert torch.stack(norms["slot"]).allclose(torch.stack([first.norm(dim=1).mean(), second.norm(dim=1).mean()]))
    weight = layer.mix.weight
    assert torch.stack(mix_norms(layer)).allclose(torch.stack([weight[:, :2].norm(), weight[:, 2:].norm()]))
