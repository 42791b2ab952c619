"""Loc similarity: slots are locations, so ConvNN is an ordinary convolution wherever K makes a kernel."""

from math import prod

import pytest
import torch
from support import reference_layers as reference
from torch.nn import functional as F

from convnn.layers import ConvNN1d, ConvNN2d
from convnn.layers.ops.spatial import spatial_neighbors, spatial_neighbors_in_pool

CPU = torch.device("cpu")


@pytest.mark.parametrize("k", [1, 3, 5, 7])
@pytest.mark.parametrize("sides", [(8, 8), (3, 9), (1, 5), (1, 1)])
def test_loc_is_conv2d(k, sides):
    layer, x = ConvNN2d(3, 4, K=k * k, padding=k // 2, similarity_type="Loc"), torch.randn(2, 3, *sides)
    expected = F.conv2d(x, layer.weight.view(4, 3, k, k), layer.bias, padding=k // 2)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("k", [1, 3, 5, 7])
def test_loc_is_conv1d(k):
    layer, x = ConvNN1d(3, 4, K=k, padding=k // 2, similarity_type="Loc"), torch.randn(2, 3, 9)
    torch.testing.assert_close(layer(x), F.conv1d(x, layer.weight, layer.bias, padding=k // 2))


@pytest.mark.parametrize("k", [3, 5])
def test_the_search_by_location_finds_the_kernel_that_the_convolution_uses(k):
    layer, x = ConvNN2d(2, 4, K=k * k, padding=k // 2 + 1, similarity_type="Loc").double(), torch.randn(1, 2, 4, 5)
    torch.testing.assert_close(layer(x.double()), reference.forward(layer, x))


@pytest.mark.parametrize("sides", [(6,), (1,), (3, 4), (1, 5)])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_nearest_locations_of_every_count(sides, padding):
    candidates = reference.candidates_of(sides, padding, "all", -1, 0)
    queries = reference.queries_of(sides, padding)
    outer = [side + 2 * padding for side in sides]
    for k in range(1, prod(outer) + 1):
        index = spatial_neighbors(sides, padding, k, "all", -1, 0, CPU)[0].tolist()
        expected = reference.nearest_by_location(queries, candidates, k)
        assert [[candidates[number] for number in row] for row in index] == expected


def test_neighbors_in_a_pool_with_the_query_in_it_or_not():
    pool = torch.tensor([0, 3, 9, 14, 15, 22, 29])
    positions = list(zip(*(line.tolist() for line in torch.unravel_index(torch.arange(30), (5, 6))), strict=True))
    candidates = [positions[number] for number in pool.tolist()]
    queries = reference.queries_of((3, 4), 1)
    for k in range(1, len(pool) + 1):
        index = spatial_neighbors_in_pool(pool, (3, 4), 1, k)[0].tolist()
        neighbors = [[positions[number] for number in row] for row in index]
        assert neighbors == reference.nearest_by_location(queries, candidates, k)


def test_neighbors_are_computed_once_for_a_shape_and_nothing_else_can_change_them():
    first = spatial_neighbors((4, 4), 1, 4, "spatial", 3, 0, CPU)
    expected = first.clone()
    first.zero_()
    assert torch.equal(spatial_neighbors((4, 4), 1, 4, "spatial", 3, 0, CPU), expected)


def test_a_map_in_inference_mode_first_can_be_trained_on_after():
    layer, x = ConvNN2d(2, 2, K=4, similarity_type="Loc"), torch.randn(1, 2, 5, 7)
    with torch.inference_mode():
        layer(x)
    layer(x).sum().backward()
    assert layer.weight.grad.isfinite().all()
