"""A terminal experiment launcher for Convolutional Nearest Neighbor networks.

As a library: `from convnn import ConvNN2d, ConvNNAttention2d, Branching2d, load_run`. Nothing heavy is imported before
one of them is asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from convnn.layers import (
        Branching1d,
        Branching2d,
        ConvNN1d,
        ConvNN2d,
        ConvNNAttention1d,
        ConvNNAttention2d,
        CoordConv1d,
        CoordConv2d,
        PixelShuffle1d,
        PixelUnshuffle1d,
    )
    from convnn.worker.load_run import load_run

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
    "load_run",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'convnn' has no attribute {name!r}")
    from importlib import import_module

    module = "convnn.worker.load_run" if name == "load_run" else "convnn.layers"
    return getattr(import_module(module), name)
