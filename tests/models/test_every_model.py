"""Every layer in every model: it is what the plan says it is, and it learns."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from convnn.config.schema import LAYERS, RunConfig
from convnn.costs import slot_cost
from convnn.costs.plan import plan
from convnn.models import architectures
from convnn.training import build

BOTH = list(itertools.product(architectures.ARCHITECTURES, LAYERS))


def configured(model, layer, width=1.0, options=None, **sections):
    """A configuration of a model at a width, its layer with options, and values of further sections."""
    chosen = {"model": {"name": model, "width": width}, "layer": {"type": layer, **(options or {})}}
    return RunConfig.model_validate({**chosen, **sections})


def on_meta(config, num_classes=10):
    with torch.device("meta"):
        return build.model(config, num_classes)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


OPTIONS = [
    {"options": {"K": 5, "kernel_size": 5, "padding": 2, "aggregation_type": "Loc_Col", "similarity_type": "Loc_Col"}},
    {"options": {"shuffle_pattern": "BA", "shuffle_scale": 2}, "branching": {"ratio": 1.0}},
    {"options": {"shuffle_pattern": "BA", "shuffle_scale": 2, "aggregation_type": "Loc_Col"}},
    {"branching": {"ratio": 0.3}},
    {"branching": {"ratio": 0.0}},
]


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
@pytest.mark.parametrize(("model", "layer"), BOTH)
def test_plan_has_the_parameters_of_the_model_and_of_each_slot(model, layer, options):
    config = configured(model, layer, 0.3, **options)
    built, costs = on_meta(config, 7), plan(config, (32, 32), 7)
    assert costs.parameters == parameters(built)
    for slot in costs.layers:
        assert slot.parameters == parameters(built.get_submodule(slot.slot)), slot.slot


@pytest.mark.parametrize("model", architectures.ARCHITECTURES)
def test_full_width_has_the_parameters_of_the_plan(model):
    config = configured(model, "Branching_Attn")
    assert parameters(on_meta(config)) == plan(config, (32, 32), 10).parameters


@pytest.mark.parametrize("model", architectures.ARCHITECTURES)
@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
@pytest.mark.parametrize("width", [1.0, 0.3])
def test_flops_of_convolutions_are_what_torch_counts(model, size, width):
    config = configured(model, "Conv2d", width)
    built = on_meta(config)
    with FlopCounterMode(display=False) as counter:
        built(torch.empty(1, 3, *size, device="meta"))
    assert plan(config, size, 10).flops == counter.get_total_flops()


@pytest.mark.parametrize("model", ["vgg11", "vgg19"])
def test_shortcut_of_the_head_changes_no_figure(model):
    config = configured(model, "Conv2d")
    built = on_meta(config)
    with FlopCounterMode(display=False) as counter:
        built(torch.empty(1, 3, 32, 32, device="meta"))
    saved = 2 * (25088 - 512) * 4096  # multiply-adds of the 48 copies that the summed weight spares
    assert plan(config, (32, 32), 10).flops == counter.get_total_flops() + saved


@pytest.mark.parametrize(("model", "layer"), BOTH)
def test_model_learns_from_maps_of_the_planned_size(model, layer):
    torch.manual_seed(0)
    size = {1: (6, 5), 32: (32, 45)}[architectures.architecture(model).min_side]
    config = configured(model, layer, 1 / 16)
    built, shapes = build.model(config, 7), {}
    for slot in architectures.slots(model, 1 / 16, size):
        layer_of_slot = built.get_submodule(slot.name)
        layer_of_slot.register_forward_hook(
            lambda _, inputs, output, slot=slot: shapes.update({slot: (inputs[0].shape, output.shape)})
        )
    logits = built(torch.randn(2, 3, *size))
    assert logits.shape == (2, 7)
    for slot in architectures.slots(model, 1 / 16, size):
        assert shapes[slot] == ((2, slot.in_channels, *slot.side), (2, slot.out_channels, *slot.side)), slot.name
    logits.square().sum().backward()
    without_gradient = [name for name, p in built.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without_gradient


POOLS = [
    ({"padding": 1}, {}),
    ({"padding": 0, "shuffle_pattern": "BA", "shuffle_scale": 2}, {}),
    ({}, {"type": "random", "num_samples": 9}),
    ({}, {"type": "random", "num_samples": 999}),
    ({}, {"type": "spatial", "num_samples": 3}),
    ({}, {"type": "spatial", "num_samples": 5, "sample_padding": 1}),
    ({}, {"type": "spatial", "num_samples": 8, "sample_padding": 4}),
    ({"shuffle_pattern": "BA", "shuffle_scale": 2}, {"type": "spatial", "num_samples": 3}),
]


@pytest.mark.parametrize("layer", ["ConvNN", "ConvNN_Attn"])
@pytest.mark.parametrize(("options", "sampling"), POOLS)
def test_layer_takes_as_many_neighbors_as_the_plan_has_candidates(layer, options, sampling):
    size = (8, 6)
    pool = slot_cost.candidates(
        configured("resnet18", layer, options=options, sampling=sampling), architectures.Slot("", 2, 3, size)
    )

    def run(K):
        config = configured("resnet18", layer, options={**options, "K": K}, sampling=sampling)
        return build.conv(config)(2, 3)(torch.randn(1, 2, *size))

    assert run(pool).shape == (1, 3, *size)
    with pytest.raises(ValueError, match=rf"at least {pool + 1} candidates, got {pool}\b"):
        run(pool + 1)


@pytest.mark.parametrize("model", ["vgg11", "resnet18"])
def test_model_takes_images_of_any_number_of_channels(model):
    assert build.model(configured(model, "Conv2d", 1 / 16), 7, 1)(torch.randn(2, 1, 32, 32)).shape == (2, 7)


def test_names_of_parameters_say_where_they_are():
    names = {
        model: set(dict(on_meta(configured(model, "Conv2d", 1 / 16)).named_parameters()))
        for model in architectures.ARCHITECTURES
    }
    assert {"stage1.conv1.weight", "stage5.norm2.bias", "head.0.weight", "head.6.bias"} <= names["vgg11"]
    assert {"stem.weight", "stage4.block2.conv1.weight", "stage2.block1.shortcut.weight"} <= names["resnet18"]
    assert "stage1.block1.conv1.bias" not in names["resnet18"]  # BatchNorm follows, so a Conv2d slot needs none
