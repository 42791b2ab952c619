"""The code path of a GPU computes what that of a CPU does: outputs and gradients of every layer and option."""

from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu import correctness
from convnn.layers import ConvNN2d
from convnn.layers.ops import nearest, spatial, tiles
from tests.support.gpu_path import DEVICE, GpuPath

EVERY = 9  # case: all of them take a minute


@pytest.fixture(autouse=True)
def empty_caches():
    yield
    for cache in (nearest._cached_layout, spatial._cached_neighbors):
        cache.results = {key: value for key, value in cache.results.items() if key[0].type == "cpu"}


@pytest.mark.parametrize(("first", "tile_bytes"), [(0, tiles.META_MEMORY // tiles.GPU_SHARE), (4, 20_000)])
def test_the_path_of_a_gpu_computes_what_that_of_a_cpu_does(first, tile_bytes, monkeypatch):
    for number, case in enumerate(islice(correctness.cases(), first, None, EVERY)):
        torch.manual_seed(number)
        layer = case.make().double().eval()
        x = torch.randn(3, 4, *correctness.SIDES[: case.dims], dtype=torch.float64)
        if case.has_ties:
            x = x + 4
        expected = correctness.outputs_and_gradients(layer, x)
        with monkeypatch.context() as patch, GpuPath():
            patch.setattr(tiles, "META_MEMORY", tile_bytes * tiles.GPU_SHARE)
            patch.setattr(tiles, "TILE_BYTES", 0)
            actual = correctness.outputs_and_gradients(layer, x)
        for pair in zip(actual, expected, strict=True):
            assert correctness.relative_error(*pair) < 1e-9, case
    assert {key[0] for key in nearest._cached_layout.results} >= {DEVICE}


def test_wide_rows_are_sorted_in_groups():
    """A map of 32 x 32 has more candidates than one sort on a GPU takes."""
    torch.manual_seed(0)
    layer, x = ConvNN2d(4, 6, K=9, magnitude_type="euclidean").double(), torch.randn(2, 4, 32, 32, dtype=torch.float64)
    expected = correctness.outputs_and_gradients(layer, x)
    with GpuPath():
        actual = correctness.outputs_and_gradients(layer, x)
    for pair in zip(actual, expected, strict=True):
        assert correctness.relative_error(*pair) < 1e-9


def test_a_tile_is_a_share_of_the_memory_of_the_device(monkeypatch):
    """Tiles of the CPU's size would divide a batch on a GPU into one call for each image."""
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 32 << 30)
    properties = SimpleNamespace(total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    kinds = {"cuda": 80 << 30, "mps": 32 << 30}
    assert {kind: tiles.tile_bytes(torch.device(kind)) for kind in kinds} == {
        kind: memory // tiles.GPU_SHARE for kind, memory in kinds.items()
    }
    properties.total_memory = 1 << 20
    assert tiles.tile_bytes(torch.device("cuda")) == tiles.tile_bytes(torch.device("cpu")) == tiles.TILE_BYTES
