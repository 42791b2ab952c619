"""What constructors take, refuse and name, the same for every layer."""

import inspect

import pytest
import torch

from convnn import layers
from convnn.layers import ConvNN1d, ConvNN2d, ConvNNAttention1d, ConvNNAttention2d, CoordConv1d, CoordConv2d

WITH_OPTIONS = [ConvNN1d, ConvNN2d, ConvNNAttention1d, ConvNNAttention2d, CoordConv1d, CoordConv2d]


@pytest.mark.parametrize("make", WITH_OPTIONS)
def test_channels_are_positional_and_options_keyword_only_with_defaults(make):
    first, second, *options = inspect.signature(make).parameters.values()
    assert (first.name, second.name) == ("in_channels", "out_channels")
    assert all(option.kind is option.KEYWORD_ONLY and option.default is not option.empty for option in options)


def test_one_and_two_dimensional_layers_take_the_same_options():
    for name in ("ConvNN", "ConvNNAttention", "CoordConv", "Branching"):
        signature_1d, signature_2d = (inspect.signature(getattr(layers, f"{name}{n}d")) for n in (1, 2))
        assert signature_1d == signature_2d


@pytest.mark.parametrize("make", WITH_OPTIONS[:4])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"K": 0}, "K is 0"),
        ({"padding": -1}, "padding is -1"),
        ({"magnitude_type": "l1"}, "magnitude_type is 'l1'"),
        ({"aggregation_type": "Loc"}, "aggregation_type is 'Loc'"),
        ({"sampling_type": "grid"}, "sampling_type is 'grid'"),
        ({"sampling_type": "random"}, "num_samples is -1"),
        ({"sample_padding": -1}, "sample_padding is -1"),
        ({"shuffle_pattern": "AB"}, "shuffle_pattern is 'AB'"),
        ({"shuffle_pattern": "BA"}, "shuffle_scale is 0"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(make, options, message):
    with pytest.raises(ValueError, match=f"{make.__name__}: {message}"):
        make(3, 3, **options)


def test_options_of_one_layer_are_checked_too():
    for make, options in (
        (ConvNN2d, {"lambda_param": 1.5}),
        (ConvNN2d, {"similarity_type": "L"}),
        (ConvNNAttention2d, {"attention_dropout": 1.0}),
        (CoordConv2d, {"kernel_size": 0}),
    ):
        with pytest.raises(ValueError, match=f"{make.__name__}: {next(iter(options))} is"):
            make(3, 3, **options)


@pytest.mark.parametrize("make", WITH_OPTIONS)
def test_a_map_that_the_scale_does_not_divide_is_refused(make):
    sides = (6,) if make.dims == 1 else (4, 6)
    layer = make(3, 3, shuffle_pattern="B", shuffle_scale=4)
    with pytest.raises(ValueError, match=f"{make.__name__}: shuffle_scale = 4 .* {'x'.join(map(str, sides))} map"):
        layer(torch.zeros(1, 3, *sides))


@pytest.mark.parametrize("make", WITH_OPTIONS)
def test_input_of_another_shape_is_refused(make):
    with pytest.raises(ValueError, match=rf"{make.__name__}: input of shape .* expected \(B, 3"):
        make(3, 3)(torch.zeros(1, 4, *[8] * make.dims))


def test_parameters_of_convnn_begin_as_those_of_a_convolution():
    torch.manual_seed(0)
    layer = ConvNN2d(5, 7, K=4, aggregation_type="Loc_Col")
    torch.manual_seed(0)
    expected = torch.nn.Conv1d(7, 7, 4)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {"weight": (7, 7, 4), "bias": (7,)}
    assert torch.equal(layer.weight, expected.weight)
    assert torch.equal(layer.bias, expected.bias)


def test_parameters_of_attention_have_the_names_and_number_of_the_definition():
    layer = ConvNNAttention2d(5, 6, K=4, aggregation_type="Loc_Col", shuffle_pattern="BA", shuffle_scale=2)
    d, out, K = 5 * 4 + 2, 6 * 4, 4
    names = "query.weight key.weight value.weight depthwise.weight depthwise.bias pointwise.weight pointwise.bias"
    assert {name for name, _ in layer.named_parameters()} == {*names.split(), "output.weight"}
    assert sum(p.numel() for p in layer.parameters()) == 3 * d * d + d * (K + 1) + d * out + out + out * out
    assert layer.depthwise.weight.shape == (d, 1, K)
    assert (layer.depthwise.weight == 1).all()
    assert (layer.depthwise.bias == 0).all()


def test_dropout_applies_in_training_alone():
    layer, x = ConvNNAttention2d(2, 3, attention_dropout=0.5), torch.randn(2, 2, 4, 4)
    torch.manual_seed(0)
    first = layer(x)
    assert not torch.equal(first, layer(x))
    torch.manual_seed(0)
    assert torch.equal(first, layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
