"""What a configuration costs, by arithmetic."""

from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from convnn.config.schema import LAYERS, RunConfig
from convnn.costs import slot_cost
from convnn.costs.plan import plan
from convnn.layer_table import layer_kind
from convnn.layers.convnn import convnn_definition
from convnn.models import architectures

PARAMETERS = {  # ten classes, K 9, kernel 3, ratio 0.5, Col, width 1; in the order of LAYERS
    "vgg11": (128_812_810, 128_812_810, 128_812_810, 124_655_811, 130_015_690, 129_055_363),
    "vgg13": (128_997_706, 128_997_706, 128_997_706, 124_760_707, 130_221_258, 129_247_491),
    "vgg16": (134_309_962, 134_309_962, 134_309_962, 127_726_467, 136_124_618, 134_721_283),
    "vgg19": (139_622_218, 139_622_218, 139_622_218, 130_692_227, 142_027_978, 140_195_075),
    "resnet18": (11_172_170, 11_176_010, 11_176_010, 6_241_482, 12_572_490, 11_475_914),
    "resnet34": (21_280_330, 21_287_882, 21_287_882, 11_901_258, 23_810_378, 21_909_194),
}


def configured(model="vgg11", layer="ConvNN", options=None, **sections):
    """A configuration of a model, its layer with options, and values of further sections."""
    return RunConfig.model_validate({"model": {"name": model}, "layer": {"type": layer, **(options or {})}, **sections})


def spatial(n, margin=0, **options):
    return configured(options=options, sampling={"type": "spatial", "num_samples": n, "sample_padding": margin})


def candidates(config, side):
    """The candidates of a layer in a slot of this (H, W)."""
    return slot_cost.candidates(config, architectures.Slot("slot", 1, 64, side))


def first_slot(config, size):
    """The first slot's FLOPs on images of one channel, in a VGG of one channel."""
    return plan(config, size, 10, in_channels=1).layers[0].flops


@pytest.mark.parametrize("model", PARAMETERS)
@pytest.mark.parametrize("layer", LAYERS)
def test_parameters_are_those_of_the_published_models(model, layer):
    expected = PARAMETERS[model][LAYERS.index(layer)]
    assert plan(configured(model, layer), (32, 32), 10).parameters == expected


def test_branching_without_neighbors_still_has_its_mix():
    costs = plan(configured(layer="Branching", branching={"ratio": 0.0}), (32, 32), 10)
    assert costs.parameters == 130_015_690
    assert round(costs.flops / 1e9, 3) == 0.599
    assert {(layer.candidates, layer.K) for layer in costs.layers} == {(None, None)}


def test_half_branching_vgg11_takes_its_published_flops():
    assert round(plan(configured(layer="Branching"), (32, 32), 10).flops / 1e9, 3) == 0.623


def test_maps_of_a_vgg_halve_and_those_of_a_resnet_stay():
    assert [slot.side for slot in architectures.slots("vgg11", 1, (33, 100))] == [
        (33, 100), (16, 50), (8, 25), (8, 25), (4, 12), (4, 12), (2, 6), (2, 6)
    ]  # fmt: skip
    assert {slot.side for slot in architectures.slots("resnet18", 1, (5, 7))} == {(5, 7)}


def test_channels_run_from_slot_to_slot_at_any_width():
    for model, row in architectures.ARCHITECTURES.items():
        for width in (0.001, 0.3, 1, 2):
            slots = architectures.slots(model, width, (32, 32), in_channels=1)
            assert all(a.out_channels == b.in_channels for a, b in pairwise(slots))
            assert slots[-1].out_channels == max(1, round(512 * width))
            assert slots[0].in_channels == (1 if row.family.stem is None else max(1, round(64 * width)))


@pytest.mark.parametrize(
    ("model", "convolutions"),
    [("vgg11", 8), ("vgg13", 10), ("vgg16", 13), ("vgg19", 16), ("resnet18", 16), ("resnet34", 32)],
)
def test_models_have_as_many_slots_as_their_names_say(model, convolutions):
    slots = architectures.slots(model, 1, (32, 32))
    assert len(slots) == convolutions == len({slot.name for slot in slots})


def test_pool_of_all_is_the_padded_map():
    assert candidates(configured(options={"padding": 1}), (32, 32)) == 34 * 34
    assert candidates(configured(options={"padding": 0}), (5, 7)) == 5 * 7
    assert (
        candidates(configured(options={"padding": 2, "shuffle_pattern": "BA", "shuffle_scale": 2}), (8, 12)) == 8 * 10
    )


def test_pool_of_a_draw_is_at_most_the_padded_map():
    for n in (1, 100, 5000):
        config = configured(sampling={"type": "random", "num_samples": n})
        assert candidates(config, (8, 8)) == min(n, 10 * 10)


def test_pool_of_a_grid_counts_each_row_once_and_becomes_all_at_the_full_side():
    assert candidates(spatial(8), (32, 32)) == 64
    assert [candidates(spatial(n), (8, 8)) for n in (1, 7, 8, 9)] == [1, 49, 100, 100]
    assert candidates(spatial(5), (4, 32)) == 4 * 5  # a side with fewer rows gives each once
    assert candidates(spatial(5, margin=2), (16, 8)) == 5 * 4
    assert candidates(spatial(5, margin=4), (16, 8)) == 0
    assert candidates(spatial(4, shuffle_pattern="BA", shuffle_scale=2), (16, 16)) == 16


@pytest.mark.parametrize(
    ("options", "per_query"),  # multiply-adds: scores against 3 * 4 candidates, then 64 outputs of K neighbors
    [
        ({}, 12 * 1 + 64 * 9),
        ({"similarity_type": "Loc"}, 12 * 2 + 64 * 9),
        ({"similarity_type": "Loc_Col"}, 12 * 3 + 64 * 9),
        ({"aggregation_type": "Loc_Col", "K": 5}, 12 * 1 + 64 * 3 * 5),
    ],
)
def test_flops_of_a_convnn_are_its_scores_and_its_aggregation(options, per_query):
    assert first_slot(configured(options={"padding": 0, **options}), (3, 4)) == 2 * 12 * per_query


def test_shuffle_trades_positions_for_channels_in_the_flops():
    config = configured(options={"padding": 1, "shuffle_pattern": "BA", "shuffle_scale": 2})
    queries, pool = 2 * 3, 4 * 5
    assert first_slot(config, (4, 6)) == 2 * queries * (pool * 4 + 4 * 256 * 9)


def test_flops_of_attention_count_projections_at_every_padded_position():
    config = configured(layer="ConvNN_Attn")
    n, padded, d, out, k = 12, 30, 1, 64, 9
    expected = padded * 3 * d * d + n * padded * d + n * (d * k + d * out + out * out)
    assert first_slot(config, (3, 4)) == 2 * expected


def test_flops_of_branches_add_up():
    both = configured(layer="Branching", branching={"ratio": 0.25})
    n, padded = 12, 30
    neighbors = n * padded + n * 16 * 9
    assert first_slot(both, (3, 4)) == 2 * (neighbors + n * 48 * 9 + n * 64 * 64)


def test_a_search_is_trained_without_a_backward_pass():
    """Counted by torch: the scores choose neighbors, which has no gradient; only the convolution has one."""
    x = torch.randn(1, 4, 5, 6, requires_grad=True)
    weight, bias = torch.randn(8, 4, 9, requires_grad=True), torch.randn(8, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        convnn_definition(x, weight, bias, padding=1).sum().backward()
    cost = layer_kind("ConvNN").cost(4, 8, (5, 6), **layer_kind("ConvNN").option_values(configured()))
    assert cost.search_flops == 2 * 30 * 56 * 4
    assert counter.get_total_flops() == cost.flops + 2 * (cost.flops - cost.search_flops)


@pytest.mark.parametrize(("layer", "share"), [("ConvNN", 1.0), ("ConvNN_Attn", 1 - 9 / 30), ("Conv2d", 0.0)])
def test_the_scores_that_weight_an_attention_have_a_backward_pass(layer, share):
    costs = plan(configured(layer=layer), (3, 4), 10, in_channels=1)
    (cost,) = [slot_cost.slot_cost(configured(layer=layer), architectures.Slot("slot", 1, 64, (3, 4)))]
    assert cost.search_flops == pytest.approx(share * 2 * 12 * 30)
    assert costs.training_flops == 3 * costs.flops - 2 * costs.search_flops


def test_a_wide_search_makes_training_much_cheaper_than_three_times_its_forward_pass():
    costs = plan(configured("resnet18", options={"K": 4}), (32, 32), 10)
    assert 1.3 < 3 * costs.flops / costs.training_flops < 3


def test_candidates_and_K_are_planned_only_where_a_layer_searches_neighbors():
    for layer in LAYERS:
        costs = plan(configured(layer=layer), (32, 32), 10)
        searches = layer not in ("Conv2d", "Conv2d_New")
        assert {slot.K for slot in costs.layers} == ({9} if searches else {None})
        assert costs.layers[-1].candidates == (16 if searches else None)


def test_json_of_a_plan_has_the_documented_names():
    written = plan(configured(), (32, 40), 10).json()
    assert set(written) == {"parameters", "flops", "memory_bytes", "layers"}
    assert list(written["layers"][0]) == ["slot", "in", "out", "map", "candidates", "K", "parameters", "flops"]
    assert written["layers"][0]["map"] == [32, 40]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("model", ["vgg11", "resnet18"])
def test_memory_grows_with_the_batch_and_shrinks_with_micro_batches(model, layer):
    def memory(**training):
        return plan(configured(model, layer, training=training), (32, 32), 10).memory_bytes

    assert memory(batch_size=64) < memory(batch_size=128) < memory(batch_size=256)
    assert memory(batch_size=256, accumulate=4) == memory(batch_size=64)


@pytest.mark.parametrize("model", architectures.ARCHITECTURES)
def test_memory_holds_weights_gradients_and_what_the_optimizer_remembers(model):
    def least(optimizer):
        config = configured(model, "Conv2d", optimizer=optimizer, training={"batch_size": 1})
        costs = plan(config, (32, 32), 10)
        return costs.memory_bytes / (4 * costs.parameters)

    assert least({"name": "adam"}) >= 4
    assert 3 <= least({"name": "sgd"}) < least({"name": "adam"})
    assert 2 <= least({"name": "sgd", "momentum": 0.0}) < least({"name": "sgd"})


@pytest.mark.parametrize(("side", "shared"), [(32, True), (64, False)])
def test_weights_of_a_head_that_share_a_gradient_count_once_where_adamw_keeps_a_state(side, shared):
    plans = {name: plan(configured(optimizer={"name": name}), (side, side), 10) for name in ("adamw", "adam")}
    weights, channels = 512 * 49 * 4096, 512 * 4096
    assert plans["adam"].trained_numbers == plans["adam"].parameters == plans["adamw"].parameters
    assert plans["adam"].trained_numbers - plans["adamw"].trained_numbers == shared * (weights - channels)
    saved = plans["adam"].memory_bytes - plans["adamw"].memory_bytes
    assert (saved > 3 * 4 * (weights - channels)) if shared else saved == 0


MEASURED = [  # GB that torch had allocated at the peak of training on an H200, with a state of every weight
    ("vgg11", "Conv2d", 256, {}, 2.92),
    ("vgg11", "ConvNN", 256, {}, 3.27),
    ("vgg11", "Branching", 256, {}, 3.28),
    ("vgg11", "ConvNN_Attn", 256, {}, 3.24),
    ("vgg11", "Branching_Attn", 256, {}, 3.42),
    ("vgg11", "ConvNN", 256, {"amp": True}, 3.27),
    ("resnet18", "ConvNN", 64, {}, 4.08),
    ("resnet18", "Branching_Attn", 64, {"amp": True}, 8.06),
]


@pytest.mark.parametrize(("model", "layer", "batch", "options", "gigabytes"), MEASURED)
def test_the_memory_forecast_is_near_what_a_card_was_measured_to_take(model, layer, batch, options, gigabytes):
    sections = {"training": {"batch_size": batch}, "optimizer": {"name": "adam"}}
    config = configured(model, layer, runtime={"device": "cuda", **options}, **sections)
    assert 0.8 < plan(config, (32, 32), 10).memory_bytes / (gigabytes * 1e9) < 1.25
