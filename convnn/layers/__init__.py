"""The layers, which need only torch: channels are positional, options keyword-only under the names of their flags."""

from convnn.layers.attention import ConvNNAttention1d, ConvNNAttention2d
from convnn.layers.branching import Branching1d, Branching2d
from convnn.layers.convnn import ConvNN1d, ConvNN2d
from convnn.layers.coordconv import CoordConv1d, CoordConv2d
from convnn.layers.pixel_shuffle import PixelShuffle1d, PixelUnshuffle1d

__all__ = [
    "Branching1d",
    "Branching2d",
    "ConvNN1d",
    "ConvNN2d",
    "ConvNNAttention1d",
    "ConvNNAttention2d",
    "CoordConv1d",
    "CoordConv2d",
    "PixelShuffle1d",
    "PixelUnshuffle1d",
]
