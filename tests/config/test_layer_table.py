"""The layer and model tables: every row can be built, names only options that exist, and reaches every user of it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pkgutil import resolve_name
from typing import get_args, get_type_hints

import pytest

from convnn.config.options import BY_KEY, OPTIONS
from convnn.config.schema import LAYERS, LayerSection, ModelSection, RunConfig
from convnn.layer_table import LAYER_TABLE, LayerKind, convolution, layer_kind, layers_using
from convnn.models.architectures import ARCHITECTURES, architecture


@pytest.mark.parametrize("name", LAYER_TABLE)
def test_a_row_names_a_class_its_arguments_and_options_of_the_schema(name):
    kind = layer_kind(name)
    accepted = inspect.signature(resolve_name(kind.class_path)).parameters
    assert kind.option_values(RunConfig()).keys() | kind.constants.keys() <= accepted.keys()
    assert kind.option_keys <= BY_KEY.keys()
    assert all(branch in LAYER_TABLE for branch in kind.branches or ())


def test_the_choices_of_the_schema_are_the_rows_of_the_tables():
    assert BY_KEY["layer.type"].choices == LAYERS == tuple(LAYER_TABLE)
    assert BY_KEY["model.name"].choices == tuple(ARCHITECTURES)
    schema = RunConfig.model_json_schema()["$defs"]
    assert schema["LayerSection"]["properties"]["type"]["enum"] == list(LAYER_TABLE)
    assert get_args(get_type_hints(ModelSection)["name"]) == tuple(ARCHITECTURES)
    assert get_args(get_type_hints(LayerSection)["type"]) == LAYERS


def test_an_option_has_an_effect_on_the_layers_that_use_it():
    assert layers_using("layer.attention_dropout") == ("ConvNN_Attn", "Branching_Attn")
    for option in OPTIONS:
        assert option.layers == (layers_using(option.key) or LAYERS), option.key


@pytest.mark.parametrize("look_up", [layer_kind, architecture])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(look_up):
    with pytest.raises(LookupError, match=r"no .* 'ConvNN_Other' .* it has \w+"):
        look_up("ConvNN_Other")


def test_the_tables_load_no_torch():
    code = "import sys, convnn.layer_table, convnn.models.architectures; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_branches_share_the_output_channels(monkeypatch):
    halves = LayerKind(
        "convnn.layers.branching:Branching2d",
        {"branch_ratio": "branching.ratio"},
        branches=("Conv2d", "Conv2d_New"),
        cost=lambda in_channels, out_channels, side, **arguments: convolution(out_channels, out_channels, 1, 1),
    )
    monkeypatch.setitem(LAYER_TABLE, "Halves", halves)
    config = RunConfig()
    assert [channels for _, channels in halves.parts(config, 9)] == [9, 4, 5]
    assert not halves.searches_neighbors
    assert halves.option_keys >= {"branching.ratio", "layer.kernel_size", "layer.aggregation_type"}
