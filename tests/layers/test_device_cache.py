"""What depends on a map's size alone is kept, except where a captured graph could reuse its memory."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convnn.layers import ConvNN2d, ConvNNAttention2d
from convnn.layers.ops import custom_op, nearest, spatial
from convnn.layers.ops.custom_op import CPU_ENTRIES, OPERATORS, DeviceCache

META = torch.device("meta")  # takes the path of a GPU
CACHES = (nearest._cached_layout, spatial._cached_neighbors)
LOC = {"similarity_type": "Loc", "sampling_type": "spatial", "num_samples": 3}
CASES = [(ConvNN2d, {}), (ConvNN2d, LOC), (ConvNN2d, {"similarity_type": "Loc", "K": 4}), (ConvNNAttention2d, {})]


class Opened(TorchDispatchMode):
    """Runs our operators on meta tensors, as they run on a device: torch would only ask for their outputs' shapes."""

    def __init__(self, through_dispatcher):
        super().__init__()
        self.through_dispatcher = through_dispatcher

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func not in OPERATORS:
            return func(*args, **(kwargs or {}))
        operator = OPERATORS[func]
        return (operator.kernel if self.through_dispatcher else operator.function)(*args)


@pytest.fixture(autouse=True)
def empty_caches():
    for cache in CACHES:
        cache.results.clear()
    yield
    for cache in CACHES:
        cache.results.clear()


@pytest.fixture(autouse=True)
def graphs_may_be_captured(monkeypatch):
    monkeypatch.setattr(custom_op, "GRAPH_MODULES", ("torch",))


def entries():
    return sum(len(cache.results) for cache in CACHES)


@pytest.mark.parametrize(("layer_class", "options"), CASES)
def test_a_call_through_the_dispatcher_keeps_nothing_on_a_gpu_and_uses_what_is_kept(layer_class, options):
    layer = layer_class(4, 5, **options).to(META)
    x = torch.empty(2, 4, 8, 8, device=META)
    with torch.no_grad(), Opened(through_dispatcher=True):
        layer(x)
    assert entries() == 0
    with torch.no_grad(), Opened(through_dispatcher=False):
        layer(x[:1])  # as the preflight of a compiled run does
    assert entries() == 1
    (cache,) = [cache for cache in CACHES if cache.results]
    before = list(cache.results.values())
    with torch.no_grad(), Opened(through_dispatcher=True):
        layer(x)
    assert list(cache.results.values()) == before


def test_a_cpu_keeps_a_limited_number():
    cache = DeviceCache(lambda device, number: torch.full((), number))
    for number in range(2 * CPU_ENTRIES):
        cache(META, number)
        assert cache(torch.device("cpu"), number).item() == number
    devices = [device.type for device, _ in cache.results]
    assert devices.count("cpu") == CPU_ENTRIES
    assert devices.count("meta") == 2 * CPU_ENTRIES  # a captured graph may read what is kept for a GPU


def test_a_call_that_fails_leaves_the_caches_open():
    layer = ConvNN2d(2, 3, K=4).to(META)
    with Opened(through_dispatcher=True), pytest.raises(RuntimeError):
        OPERATORS[nearest.nearest_positions.overload].kernel(torch.empty(2, device=META), None, [2], 1, 2, "x", None)
    assert DeviceCache.adds
    with torch.no_grad(), Opened(through_dispatcher=False):
        layer(torch.empty(2, 2, 8, 8, device=META))
    assert entries() == 1


def test_a_call_through_the_dispatcher_adds_to_the_caches_where_nothing_captures_graphs(monkeypatch):
    monkeypatch.setattr(custom_op, "GRAPH_MODULES", ("no.such.module",))
    layer = ConvNN2d(4, 5).to(META)
    with torch.no_grad(), Opened(through_dispatcher=True):
        layer(torch.empty(2, 4, 8, 8, device=META))
    assert entries() == 1
