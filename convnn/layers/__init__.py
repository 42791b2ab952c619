"""The layers: torch only, channels positional, options keyword-only under the names of their flags."""

from .attention import ConvNNAttention1d, ConvNNAttention2d
from .branching import Branching1d, Branching2d
from .convnn import ConvNN1d, ConvNN2d
from .coordconv import CoordConv1d, CoordConv2d
from .shuffle import PixelShuffle1d, PixelUnshuffle1d

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
