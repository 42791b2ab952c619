"""The layers as a table: the class of each, the options it uses, and what it costs by arithmetic. Loads no torch.

To add a layer, write its module and a row here: it is then offered by --layer, the form and the help, built by
`convnn.training.build`, and counted by `convnn summary`. A class is called as CLASS(in_channels, out_channels,
**arguments), and the functions of its row as FUNCTION(in_channels, out_channels, side, **arguments).

N positions of the map, N' of the padded map, M candidates, K neighbors; all after any pixel unshuffle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from operator import attrgetter
from typing import Any

Side = tuple[int, int]  # height, width in pixels

COORDINATES = 2  # a channel for the height, one for the width
UNSHUFFLE = {"shuffle_pattern": "layer.shuffle_pattern", "shuffle_scale": "layer.shuffle_scale"}
CANDIDATES = {
    "sampling_type": "sampling.type",
    "num_samples": "sampling.num_samples",
    "sample_padding": "sampling.sample_padding",
}


@dataclass(frozen=True)
class Cost:
    """Parameters, and FLOPs of one image forward (a multiply-add counts two)."""

    parameters: int = 0
    flops: int = 0
    search_flops: int = 0  # those of `flops` that have no backward pass: the choice of neighbors has no gradient
    repeated: int = 0  # those of `parameters` whose gradient is that of another one

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.parameters + other.parameters,
            self.flops + other.flops,
            self.search_flops + other.search_flops,
            self.repeated + other.repeated,
        )


@dataclass(frozen=True)
class SavedTensors:
    """What autograd saves of one image for the backward pass of a layer, besides its input and its output."""

    numbers: int = 0  # of the type of the activations
    extra_bytes: int = 0  # indices, and numbers whose type does not depend on the options

    def __add__(self, other: SavedTensors) -> SavedTensors:
        return SavedTensors(self.numbers + other.numbers, self.extra_bytes + other.extra_bytes)


def saves_nothing(in_channels: int, out_channels: int, side: Side, **arguments: Any) -> SavedTensors:
    """Return what is saved for a layer that needs only its input in the backward pass."""
    return SavedTensors()


@dataclass(frozen=True)
class LayerKind:
    """A row of the table."""

    class_path: str  # "package.module:Class"
    arguments: Mapping[str, str]  # keyword arguments of the class, and the options that they are taken from
    cost: Callable[..., Cost]
    saved: Callable[..., SavedTensors] = saves_nothing
    candidates: Callable[..., int] | None = None  # (side, **arguments) -> M, of a layer that searches neighbors
    constants: Mapping[str, Any] = field(default_factory=dict)  # keyword arguments that no option sets
    optional_bias: bool = False  # takes `bias`, which is redundant before a normalization
    gathered_bytes: int = 0  # of buffers, for each number of the neighbors' vectors that are gathered
    branches: tuple[str, str] | None = None  # kinds that share the output channels: `first` by ratio, `second` the rest

    def option_values(self, config: Any, *, bias: bool = True) -> dict[str, Any]:
        """Return the arguments that a configuration sets; `bias` is for the layers that can do without one."""
        values = {argument: attrgetter(key)(config) for argument, key in self.arguments.items()}
        return values | {"bias": bias} if self.optional_bias else values

    def parts(self, config: Any, out_channels: int) -> Iterator[tuple[LayerKind, int]]:
        """Yield the layer and those of its branches that have channels, each with its output channels."""
        yield self, out_channels
        if self.branches:
            first = round(out_channels * self.option_values(config)["branch_ratio"])
            for name, channels in zip(self.branches, (first, out_channels - first), strict=True):
                if channels:
                    yield layer_kind(name), channels

    @cached_property
    def option_keys(self) -> frozenset[str]:
        """The options that have an effect on the layer, those of its branches included."""
        own = frozenset(self.arguments.values())
        return own.union(*(layer_kind(branch).option_keys for branch in self.branches or ()))

    @property
    def searches_neighbors(self) -> bool:
        """Whether the layer or a branch of it chooses K candidates for each position."""
        return self.candidates is not None or any(layer_kind(name).searches_neighbors for name in self.branches or ())


def convolution(in_channels: int, out_channels: int, size: int, positions: int, *, bias: bool = True) -> Cost:
    """Return a convolution over `size` positions; a linear layer is one over one position at one position."""
    weights = in_channels * out_channels * size
    return Cost(weights + (out_channels if bias else 0), 2 * weights * positions)


@dataclass(frozen=True)
class Inner:
    """The shape that a layer computes on, between its pixel unshuffle and shuffle."""

    features: int
    channels: int  # features, and coordinates where they are aggregated
    out_channels: int
    side: Side
    scale: int

    @classmethod
    def of(
        cls,
        in_channels: int,
        out_channels: int,
        side: Side,
        *,
        shuffle_pattern: str,
        shuffle_scale: int,
        aggregation_type: str = "Col",
        **arguments: Any,
    ) -> Inner:
        scale = unshuffle_scale(shuffle_pattern, shuffle_scale)
        features = in_channels * scale**2
        channels = features + COORDINATES if aggregation_type == "Loc_Col" else features
        return cls(features, channels, out_channels * scale**2, inner_side(side, shuffle_pattern, shuffle_scale), scale)

    @property
    def positions(self) -> int:
        return self.side[0] * self.side[1]

    @property
    def unshuffled(self) -> int:
        """Numbers of the unshuffled copy of the input; 0 where there is none."""
        return self.features * self.positions if self.scale > 1 else 0

    def padded_positions(self, padding: int) -> int:
        return (self.side[0] + 2 * padding) * (self.side[1] + 2 * padding)


def unshuffle_scale(shuffle_pattern: str, shuffle_scale: int) -> int:
    """Return the factor by which a layer shrinks the sides of its map while it computes."""
    return max(1, shuffle_scale) if shuffle_pattern == "BA" else 1


def inner_side(side: Side, shuffle_pattern: str, shuffle_scale: int) -> Side:
    """Return the (H, W) of the map that a layer computes on: after the unshuffle, before padding."""
    scale = unshuffle_scale(shuffle_pattern, shuffle_scale)
    return side[0] // scale, side[1] // scale


def window_reach(kernel_size: int) -> tuple[int, int]:
    """Return how many positions the window of a convolution with padding "same" reaches before and after its own."""
    return (kernel_size - 1) // 2, kernel_size // 2


def conv2d_cost(in_channels: int, out_channels: int, side: Side, *, kernel_size: int, bias: bool) -> Cost:
    return convolution(in_channels, out_channels, kernel_size**2, side[0] * side[1], bias=bias)


def coord_conv_cost(in_channels: int, out_channels: int, side: Side, *, kernel_size: int, **arguments: Any) -> Cost:
    inner = Inner.of(in_channels, out_channels, side, **arguments)
    return convolution(inner.channels, inner.out_channels, kernel_size**2, inner.positions)


def coord_conv_saved(in_channels: int, out_channels: int, side: Side, **arguments: Any) -> SavedTensors:
    inner = Inner.of(in_channels, out_channels, side, **arguments)
    has_coordinates = inner.channels > inner.features
    return SavedTensors(inner.unshuffled + (inner.channels * inner.positions if has_coordinates else 0))


def candidate_count(
    side: Side,
    *,
    shuffle_pattern: str,
    shuffle_scale: int,
    padding: int,
    sampling_type: str,
    num_samples: int,
    sample_padding: int,
    **arguments: Any,
) -> int:
    """Return the number of candidates of a ConvNN layer in a slot with a map of (H, W)."""
    sides = inner_side(side, shuffle_pattern, shuffle_scale)
    return pool_size(sides, padding, sampling_type, num_samples, sample_padding)


def samples_all(sides: Sequence[int], padding: int, sampling_type: str, num_samples: int) -> bool:
    """Return whether every position of the padded map is a candidate; `sides` are those of the map without padding.

    A grid that is no coarser than its map is all of it, margin and padding included.
    """
    if sampling_type == "random":
        return num_samples >= prod([side + 2 * padding for side in sides])
    return sampling_type == "all" or all(num_samples >= side for side in sides)


def pool_size(sides: Sequence[int], padding: int, sampling_type: str, num_samples: int, sample_padding: int) -> int:
    """Return the number of candidates on a map: all positions of the padded map, `num_samples` of them, or a grid."""
    # products of lists, as torch.compile traces no generator
    if samples_all(sides, padding, sampling_type, num_samples):
        return prod([side + 2 * padding for side in sides])
    if sampling_type == "random":
        return num_samples
    return prod([min(num_samples, max(0, side - 2 * sample_padding)) for side in sides])


def convnn_cost(
    in_channels: int, out_channels: int, side: Side, *, K: int, similarity_type: str, **arguments: Any
) -> Cost:
    """Return scores of all pairs, then a convolution over K neighbors."""
    inner = Inner.of(in_channels, out_channels, side, **arguments)
    compared = {"Col": inner.features, "Loc": COORDINATES, "Loc_Col": inner.features + COORDINATES}[similarity_type]
    scores = 2 * inner.positions * candidate_count(side, **arguments) * compared
    return Cost(0, scores, scores) + convolution(inner.channels, inner.out_channels, K, inner.positions)


def convnn_saved(
    in_channels: int, out_channels: int, side: Side, *, K: int, padding: int, **arguments: Any
) -> SavedTensors:
    """Return the unshuffled input, and the indices of the neighbors in 2 or 4 bytes."""
    inner = Inner.of(in_channels, out_channels, side, **arguments)
    index_bytes = 2 if inner.padded_positions(padding) < 2**15 else 4
    return SavedTensors(inner.unshuffled, index_bytes * inner.positions * K)


def attention_cost(in_channels: int, out_channels: int, side: Side, *, K: int, padding: int, **arguments: Any) -> Cost:
    """Query, key and value projections, scores of all pairs, a depthwise sum over K, and two projections back.

    The scores of the K chosen candidates weight their values, so only those of the others have no backward pass.
    """
    inner = Inner.of(in_channels, out_channels, side, **arguments)
    d, positions = inner.channels, inner.positions
    projections = convolution(d, 3 * d, 1, inner.padded_positions(padding), bias=False)
    candidates = candidate_count(side, padding=padding, **arguments)
    scores = Cost(0, 2 * positions * candidates * d, 2 * positions * max(0, candidates - K) * d)
    depthwise = Cost(d * (K + 1), 2 * d * K * positions)
    attended = convolution(d, inner.out_channels, 1, positions)
    output = convolution(inner.out_channels, inner.out_channels, 1, positions, bias=False)
    return projections + scores + depthwise + attended + output


def attention_saved(
    in_channels: int, out_channels: int, side: Side, *, K: int, padding: int, **arguments: Any
) -> SavedTensors:
    """Query, key, value and their sum, the projected output, indices, the weights and the mask of dropout."""
    inner = Inner.of(in_channels, out_channels, side, **arguments)
    # coordinates tell positions of the pad apart: it is projected too, and kept
    is_padded = inner.channels > inner.features
    projected = inner.padded_positions(padding) if is_padded else inner.positions
    numbers = (inner.channels + inner.out_channels) * inner.positions + 3 * inner.channels * projected
    weights = SavedTensors(numbers, 2 * 4 * inner.positions * K)
    return weights + convnn_saved(in_channels, out_channels, side, K=K, padding=padding, **arguments)


def mix_cost(in_channels: int, out_channels: int, side: Side, **arguments: Any) -> Cost:
    """Return the 1x1 convolution over both branches side by side; the branches are counted by their own rows."""
    return convolution(out_channels, out_channels, 1, side[0] * side[1])


def mix_saved(in_channels: int, out_channels: int, side: Side, **arguments: Any) -> SavedTensors:
    return SavedTensors(out_channels * side[0] * side[1])


NEIGHBORS = {
    "K": "layer.K",
    "padding": "layer.padding",
    "magnitude_type": "layer.magnitude_type",
    "aggregation_type": "layer.aggregation_type",
    **CANDIDATES,
    **UNSHUFFLE,
}

LAYER_TABLE = {
    "Conv2d": LayerKind(
        class_path="torch.nn:Conv2d",
        arguments={"kernel_size": "layer.kernel_size"},
        constants={"padding": "same"},
        optional_bias=True,
        cost=conv2d_cost,
    ),
    "Conv2d_New": LayerKind(
        class_path="convnn.layers.coordconv:CoordConv2d",
        arguments={"kernel_size": "layer.kernel_size", "aggregation_type": "layer.aggregation_type", **UNSHUFFLE},
        cost=coord_conv_cost,
        saved=coord_conv_saved,
    ),
    "ConvNN": LayerKind(
        class_path="convnn.layers.convnn:ConvNN2d",
        arguments={"similarity_type": "layer.similarity_type", "lambda_param": "layer.lambda_param", **NEIGHBORS},
        cost=convnn_cost,
        saved=convnn_saved,
        candidates=candidate_count,
        gathered_bytes=4,
    ),
    "ConvNN_Attn": LayerKind(
        class_path="convnn.layers.attention:ConvNNAttention2d",
        arguments={"attention_dropout": "layer.attention_dropout", **NEIGHBORS},
        cost=attention_cost,
        saved=attention_saved,
        candidates=candidate_count,
        gathered_bytes=8,  # and their products
    ),
    "Branching": LayerKind(
        class_path="convnn.layers.branching:Branching2d",
        arguments={"branch_ratio": "branching.ratio"},
        branches=("ConvNN", "Conv2d"),
        cost=mix_cost,
        saved=mix_saved,
    ),
    "Branching_Attn": LayerKind(
        class_path="convnn.layers.branching:Branching2d",
        arguments={"branch_ratio": "branching.ratio"},
        branches=("ConvNN_Attn", "Conv2d"),
        cost=mix_cost,
        saved=mix_saved,
    ),
}


def layer_kind(name: str) -> LayerKind:
    """Return a row of the table. Raises LookupError where there is none of that name."""
    try:
        return LAYER_TABLE[name]
    except KeyError:
        raise LookupError(f"there is no layer {name!r} in the layer table; it has {', '.join(LAYER_TABLE)}") from None


def layers_using(key: str) -> tuple[str, ...]:
    """Return the layers on which an option has an effect."""
    return tuple(name for name, kind in LAYER_TABLE.items() if key in kind.option_keys)
