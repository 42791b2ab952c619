"""What one layer costs: parameters, and FLOPs of one image, from its options and its map.

N positions of the map, N' of the padded map, M candidates, K neighbours; all after any unshuffling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig

AXES = 2  # a coordinate for the width, one for the height


@dataclass(frozen=True)
class Cost:
    """Parameters, and FLOPs of one image forward (a multiply-add counts two)."""

    parameters: int
    flops: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.flops + other.flops)


@dataclass(frozen=True)
class Shuffled:
    """Channels and positions of a layer between its unshuffle and its shuffle."""

    features: int
    convolved: int  # features, and coordinates where they are aggregated
    out: int
    height: int
    width: int

    @property
    def positions(self) -> int:
        return self.height * self.width

    def padded(self, padding: int) -> int:
        return (self.height + 2 * padding) * (self.width + 2 * padding)


def shuffled(config: RunConfig, before: int, after: int, side: tuple[int, int]) -> Shuffled:
    """What a layer of (before, after) channels on a map of (H, W) works on inside."""
    r = scale(config)
    features = before * r * r
    convolved = features + (AXES if config.layer.aggregation_type == "Loc_Col" else 0)
    return Shuffled(features, convolved, after * r * r, side[0] // r, side[1] // r)


def scale(config: RunConfig) -> int:
    """The factor by which a layer shrinks its map while it works."""
    return max(1, config.layer.shuffle_scale) if config.layer.shuffle_pattern == "BA" else 1


def neighbour_channels(config: RunConfig, after: int) -> int:
    """How many of a layer's output channels come from neighbours: all, a branch's share, or none."""
    if config.layer.type.startswith("Branching"):
        return round(after * config.branching.ratio)
    return after if config.layer.type.startswith("ConvNN") else 0


def pool(config: RunConfig, side: tuple[int, int]) -> int:
    """Candidates of a ConvNN layer on a map of (H, W): positions of the padded map, a draw or a grid of them."""
    shape = shuffled(config, 1, 1, side)
    everything = shape.padded(config.layer.padding)
    n, margin = config.sampling.num_samples, config.sampling.sample_padding
    if config.sampling.type == "random":
        return min(n, everything)
    if config.sampling.type == "spatial" and n < max(shape.height, shape.width):
        return min(n, max(0, shape.height - 2 * margin)) * min(n, max(0, shape.width - 2 * margin))
    return everything


def layer(config: RunConfig, before: int, after: int, side: tuple[int, int], *, bias: bool = True) -> Cost:
    """The configured layer from `before` to `after` channels on a map of (H, W)."""
    kernel = config.layer.kernel_size**2
    if config.layer.type == "Conv2d":
        return convolution(before, after, kernel, side[0] * side[1], bias=bias)
    if config.layer.type == "Conv2d_New":
        shape = shuffled(config, before, after, side)
        return convolution(shape.convolved, shape.out, kernel, shape.positions)
    if config.layer.type in ("ConvNN", "ConvNN_Attn"):
        return neighbours(config, before, after, side)
    share, positions = neighbour_channels(config, after), side[0] * side[1]
    total = convolution(after, after, 1, positions)  # the mix of both branches
    if share:
        total += neighbours(config, before, share, side)
    if after - share:
        total += convolution(before, after - share, kernel, positions)
    return total


def convolution(before: int, after: int, kernel: int, positions: int, *, bias: bool = True) -> Cost:
    """A convolution over `kernel` places; a linear layer is one over a single place at a single position."""
    weights = before * after * kernel
    return Cost(weights + (after if bias else 0), 2 * weights * positions)


def neighbours(config: RunConfig, before: int, after: int, side: tuple[int, int]) -> Cost:
    """A ConvNN, or a ConvNNAttention for the `_Attn` layers."""
    shape = shuffled(config, before, after, side)
    k, d, out, n = config.layer.K, shape.convolved, shape.out, shape.positions
    candidates = pool(config, side)
    if config.layer.type.endswith("_Attn"):
        projections = convolution(d, 3 * d, 1, shape.padded(config.layer.padding), bias=False)
        depthwise = Cost(d * (k + 1), 2 * d * k * n)
        output = convolution(d, out, 1, n) + convolution(out, out, 1, n, bias=False)
        return projections + Cost(0, 2 * n * candidates * d) + depthwise + output
    compared = {"Col": shape.features, "Loc": AXES, "Loc_Col": shape.features + AXES}[config.layer.similarity_type]
    return Cost(0, 2 * n * candidates * compared) + convolution(d, out, k, n)
