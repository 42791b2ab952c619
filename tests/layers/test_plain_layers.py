"""Layers without neighbors: shuffles, coordinates, branches."""

import pytest
import torch
from support import reference_layers as reference
from torch import nn
from torch.nn import functional as F

from convnn.layers import (
    Branching1d,
    Branching2d,
    ConvNN1d,
    ConvNN2d,
    ConvNNAttention2d,
    CoordConv1d,
    CoordConv2d,
    PixelShuffle1d,
    PixelUnshuffle1d,
)


def test_pixel_shuffle_1d_interleaves():
    x = torch.arange(24).view(2, 2, 6)
    down = PixelUnshuffle1d(3)(x)
    assert torch.equal(down, reference.unshuffle(x, 3))
    assert torch.equal(PixelShuffle1d(3)(down), x)


def test_pixel_shuffles_name_what_does_not_divide():
    with pytest.raises(ValueError, match="downscale_factor 4 does not divide the length 6"):
        PixelUnshuffle1d(4)(torch.zeros(1, 1, 6))
    with pytest.raises(ValueError, match="upscale_factor 4 does not divide the 6 channels"):
        PixelShuffle1d(4)(torch.zeros(1, 6, 2))


def test_the_reference_shuffles_as_torch_does():
    x = torch.randn(2, 3, 4, 6)
    assert torch.equal(reference.unshuffle(x, 2), F.pixel_unshuffle(x, 2))
    x = torch.randn(2, 8, 4, 6)
    assert torch.equal(reference.shuffle(x, 2), F.pixel_shuffle(x, 2))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's word on kernels of two
@pytest.mark.parametrize(
    ("make", "convolve", "sides"), [(CoordConv1d, F.conv1d, (5,)), (CoordConv2d, F.conv2d, (4, 5))]
)
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_coordconv_convolves_features_then_coordinates(make, convolve, sides, kernel_size):
    layer, x = make(2, 3, kernel_size=kernel_size, aggregation_type="Loc_Col"), torch.randn(2, 2, *sides)
    lines = [torch.linspace(-1, 1, side) for side in sides]
    grid = torch.stack(torch.meshgrid(lines, indexing="ij")[::-1])
    wide = torch.cat((x, grid.expand(2, *grid.shape)), dim=1)
    torch.testing.assert_close(layer(x), convolve(wide, layer.conv.weight, layer.conv.bias, padding="same"))


@pytest.mark.parametrize(("pattern", "shape"), [("BA", (1, 3, 4, 6)), ("B", (1, 3, 2, 3)), ("A", (1, 3, 8, 12))])
@pytest.mark.parametrize("make", [CoordConv2d, ConvNN2d, ConvNNAttention2d])
def test_patterns_change_the_size_as_shuffling_does(make, pattern, shape):
    assert make(2, 3, shuffle_pattern=pattern, shuffle_scale=2)(torch.randn(1, 2, 4, 6)).shape == shape


def test_coordinates_of_a_side_of_one_are_minus_one():
    layer = CoordConv2d(1, 1, kernel_size=1, aggregation_type="Loc_Col")
    nn.init.ones_(layer.conv.weight)
    nn.init.zeros_(layer.conv.bias)
    assert layer(torch.zeros(1, 1, 1, 1)).item() == -2


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 1.0])
def test_branches_share_the_channels_and_are_mixed(ratio):
    def first(a, b):
        return ConvNN2d(a, b)

    def second(a, b):
        return nn.Conv2d(a, b, 3, padding="same")

    layer, x = Branching2d(3, 6, first, second, branch_ratio=ratio), torch.randn(2, 3, 5, 5)
    share = round(6 * ratio)
    parts = [branch(x) for branch in (layer.first, layer.second) if branch is not None]
    assert [part.shape[1] for part in parts] == [n for n in (share, 6 - share) if n]
    expected = F.conv2d(torch.cat(parts, 1), layer.mix.weight, layer.mix.bias)
    torch.testing.assert_close(layer(x), expected)
    roots = {name.split(".")[0] for name, _ in layer.named_parameters()}
    assert roots == {"mix"} | ({"first"} if share else set()) | ({"second"} if share < 6 else set())


def test_any_two_layers_may_branch_in_one_dimension_too():
    layer = Branching1d(3, 5, lambda a, b: ConvNN1d(a, b, K=3), lambda a, b: nn.Conv1d(a, b, 3, padding="same"))
    assert layer.first.out_channels == 2  # round half to even
    assert layer(torch.randn(2, 3, 7)).shape == (2, 5, 7)


def test_a_ratio_outside_zero_to_one_is_refused():
    with pytest.raises(ValueError, match=r"Branching2d: branch_ratio is 1\.5"):
        Branching2d(3, 4, ConvNN2d, ConvNN2d, branch_ratio=1.5)
