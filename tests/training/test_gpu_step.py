"""A training step as it runs on a GPU: nothing of it lies on the CPU or is read by it, so that it can be captured."""

from itertools import product

import pytest
import torch

from benchmarks.gpu.bench import LAYERS, config, trainer_of, two_slots
from benchmarks.gpu.count import META, meta_like_cuda
from convnn.layers.ops import nearest, spatial
from tests.support.gpu_path import HostUses

SAMPLINGS = ({}, {"sampling_type": "random", "num_samples": 40}, {"sampling_type": "spatial", "num_samples": 8})
OPTIONS = [
    *({"layer": layer, **sampling} for layer, sampling in product(LAYERS, SAMPLINGS)),
    *({"layer": "ConvNN", "similarity_type": "Loc", "K": 4, **sampling} for sampling in SAMPLINGS),
    {"layer": "ConvNN", "similarity_type": "Loc_Col", "magnitude_type": "euclidean", "aggregation_type": "Loc_Col"},
    {"layer": "ConvNN_Attn", "magnitude_type": "euclidean", "aggregation_type": "Loc_Col"},
    {"layer": "Branching", "accumulate": 2, "criterion": "MSE", "clip_grad_norm": 0},
]


@pytest.fixture(autouse=True)
def empty_caches():
    for cache in (nearest._cached_layout, spatial._cached_neighbors):
        cache.results.clear()


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_a_step_uses_no_tensor_of_the_cpu_and_waits_for_nothing(options):
    with meta_like_cuda():
        trainer = trainer_of(config(META, batch_size=4, **options), META, two_slots)
        x = torch.empty(4, 3, 32, 32, device=META)
        y = torch.empty(4, dtype=torch.int64, device=META)
        with HostUses() as uses:  # the first step, which makes what later ones find in the caches, too
            trainer.train_step(x, y)
    assert uses == []


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sum() + torch.tensor(1.0, device=META),
        lambda x: x.__setitem__(torch.zeros(2, dtype=torch.int64, device=META), 0.0),
        lambda x: x + torch.ones(()),
        lambda x: torch.unravel_index(x.long(), (2, 3)),
        lambda x: torch.zeros(()).item(),
    ],
)
def test_what_a_device_waits_for_is_found(work):
    with HostUses() as uses:
        work(torch.empty(4, device=META))
    assert uses
