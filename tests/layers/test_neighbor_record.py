"""The neighbors that are recorded are those that a layer computes with: over every layer and option."""

from itertools import product

import pytest
import torch
from torch.nn import functional as F

from convnn.layers import Branching2d, ConvNN1d, ConvNN2d, ConvNNAttention2d
from convnn.layers.neighbor_record import record_neighbors
from convnn.layers.ops.coordinates import append_coordinates, interior_positions, padded_sides, position_lines

CANDIDATES = [{}, {"sampling_type": "random", "num_samples": 20}, {"sampling_type": "spatial", "num_samples": 3}]
SHUFFLES = [{}, {"shuffle_pattern": "BA", "shuffle_scale": 2}]
METRICS = ["cosine", "euclidean"]
COORDS = ["Col", "Loc_Col"]


def recorded(layer, x):
    """The layer's output, what it recorded, and the (B, N', d) rows that it chooses from."""
    layer.eval()
    with torch.no_grad(), record_neighbors(layer, scores=True) as records:
        out = layer(x)
        assert torch.equal(out, layer(x))
    assert layer.on_neighbors is None
    padded = F.pad(layer.unshuffle(x), (layer.padding,) * (2 * layer.dims))
    rows = (append_coordinates(padded) if layer.coords else padded).flatten(2).mT
    return out, records[""], rows


def gather(rows, index):
    """(B, N', d), (B or 1, N, K) -> (B, N, K, d)"""
    return rows[torch.arange(len(rows))[:, None, None], index.long()]


@pytest.mark.parametrize("similarity", ["Loc", "Col", "Loc_Col"])
def test_a_convolution_over_the_recorded_neighbors_is_the_layer(similarity):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 8)
    for metric, aggregation, candidates, shuffle, (K, padding) in product(
        METRICS, COORDS, CANDIDATES, SHUFFLES, [(4, 0), (9, 1)]
    ):
        options = {"similarity_type": similarity, "aggregation_type": aggregation, "magnitude_type": metric}
        layer = ConvNN2d(3, 4, K=K, padding=padding, **options, **candidates, **shuffle)
        if layer.sampling.pool_size([side // 2 for side in x.shape[2:]], padding) < K:
            continue
        out, record, rows = recorded(layer, x)
        assert record.index.shape[1:] == (out[0, 0].numel() // (4 if shuffle else 1), K)
        neighbors = gather(rows, record.index)
        expected = torch.einsum("bnkd,odk->bon", neighbors, layer.weight) + layer.bias[:, None]
        # float32 sums of up to 126 products in another order
        torch.testing.assert_close(out, layer.shuffle(expected.unflatten(2, record.sides)), rtol=1e-4, atol=1e-5)


def test_attention_over_the_recorded_neighbors_is_the_layer():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 8)
    for metric, aggregation, candidates, shuffle, padding in product(METRICS, COORDS, CANDIDATES, SHUFFLES, [0, 1]):
        options = {"aggregation_type": aggregation, "magnitude_type": metric}
        layer = ConvNNAttention2d(3, 4, K=4, padding=padding, **options, **candidates, **shuffle)
        out, record, rows = recorded(layer, x)
        scores = record.scores if metric == "cosine" else -record.scores
        values = gather(layer.value(rows), record.index)
        mixed = torch.einsum("bnk,bnkd,dk->bdn", scores.softmax(2), values, layer.depthwise.weight[:, 0])
        expected = layer.output(layer.pointwise(mixed).mT).mT
        # the depthwise bias starts at zero; float32 sums in another order
        torch.testing.assert_close(out, layer.shuffle(expected.unflatten(2, record.sides)), rtol=1e-4, atol=1e-5)


def test_scores_are_those_of_the_recorded_neighbors():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7)
    _, record, rows = recorded(ConvNN2d(3, 2, K=5), x)
    queries = rows[:, interior_positions(record.sides, 1, x.device)][:, :, None]
    neighbors = gather(rows, record.index)
    torch.testing.assert_close(record.scores, F.cosine_similarity(queries, neighbors, dim=3))
    assert (record.scores.diff(dim=2) <= 1e-6).all()  # best first, up to rounding

    _, record, rows = recorded(ConvNN2d(3, 2, K=5, magnitude_type="euclidean"), x)
    torch.testing.assert_close(record.scores, (queries - gather(rows, record.index)).square().sum(3))

    _, record, rows = recorded(ConvNN2d(3, 2, K=9, similarity_type="Loc"), x)
    vertical, horizontal = position_lines(record.index.long(), padded_sides(record.sides, 1))
    own = position_lines(interior_positions(record.sides, 1, x.device)[:, None], padded_sides(record.sides, 1))
    assert torch.equal(record.scores, torch.maximum((vertical - own[0]).abs(), (horizontal - own[1]).abs()).float())


def test_slots_that_can_only_hold_padding_are_recorded_as_padding():
    x = torch.randn(1, 3, 2, 2)
    _, record, _ = recorded(ConvNN2d(3, 4, K=9), x)
    vertical, horizontal = position_lines(record.index.long(), [4, 4])
    is_padding = (vertical % 3 == 0) | (horizontal % 3 == 0)
    assert record.index.shape == (1, 4, 9)
    assert (is_padding.sum(2) >= 5).all()


def test_layers_of_a_model_are_recorded_in_one_forward_by_name():
    model = torch.nn.Sequential()
    model.add_module("plain", torch.nn.Conv2d(3, 4, 3, padding="same"))
    branches = (lambda a, b: ConvNN2d(a, b, K=3), lambda a, b: torch.nn.Conv2d(a, b, 1))
    model.add_module("branching", Branching2d(4, 4, *branches))
    model.add_module("attention", ConvNNAttention2d(4, 2, K=2))
    model.eval()
    with torch.inference_mode(), record_neighbors(model) as records:
        model(torch.randn(5, 3, 4, 4))
    assert {name: tuple(record.index.shape) for name, record in records.items()} == {
        "branching.first": (5, 16, 3),
        "attention": (5, 16, 2),
    }
    assert all(record.scores is None for record in records.values())


def test_a_sequence_is_recorded_too():
    _, record, _ = recorded(ConvNN1d(3, 2, K=3), torch.randn(2, 3, 9))
    assert (record.sides, record.index.shape) == ((9,), (2, 9, 3))
