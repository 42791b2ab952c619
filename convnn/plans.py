"""The models as plain data: their convolution slots, and what a configuration costs, known without torch.

A slot is a place in a model that any layer can fill. H W are the sides of its map in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from convnn import costs, memory

if TYPE_CHECKING:
    from convnn.config import RunConfig

STAGES: dict[str, tuple[tuple[int, ...], ...]] = {  # output channels of the slots of each stage, at width 1
    "vgg11": ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg13": ((64,) * 2, (128,) * 2, (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg16": ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
    "resnet18": ((64,) * 4, (128,) * 4, (256,) * 4, (512,) * 4),
    "resnet34": ((64,) * 6, (128,) * 8, (256,) * 12, (512,) * 6),
}
STEM = 64  # channels of a ResNet's first convolution
HIDDEN = 4096  # units of the two hidden layers of a VGG's head
POOLED = 7  # side of the map that a VGG's head reads, in pixels


@dataclass(frozen=True)
class Slot:
    """A place for a layer: its module's name in the model, its channels, and its map's (H, W) in pixels."""

    name: str
    in_channels: int
    out_channels: int
    side: tuple[int, int]


@dataclass(frozen=True)
class LayerPlan:
    """A slot filled with the configured layer; `candidates` and `K` are None where nothing looks for neighbours."""

    slot: str
    in_channels: int
    out_channels: int
    map: tuple[int, int]
    candidates: int | None
    K: int | None
    parameters: int  # of the layer alone, without the normalisation after it
    flops: int  # of one image

    def json(self) -> dict[str, Any]:
        """The layer as `convnn summary --json` writes it."""
        return {
            "slot": self.slot,
            "in": self.in_channels,
            "out": self.out_channels,
            "map": list(self.map),
            "candidates": self.candidates,
            "K": self.K,
            "parameters": self.parameters,
            "flops": self.flops,
        }


@dataclass(frozen=True)
class Plan:
    """What a configuration costs: parameters, FLOPs of one image forward, bytes of training at its peak."""

    parameters: int
    flops: int
    memory_bytes: int
    layers: tuple[LayerPlan, ...]

    def json(self) -> dict[str, Any]:
        """The plan as `convnn summary --json` writes it."""
        layers = [layer.json() for layer in self.layers]
        return {
            "parameters": self.parameters,
            "flops": self.flops,
            "memory_bytes": self.memory_bytes,
            "layers": layers,
        }


def scaled(channels: int, width: float) -> int:
    """Channels (or hidden units) at a width, one at least."""
    return max(1, round(channels * width))


def is_vgg(model: str) -> bool:
    """Whether the model is a VGG, which halves its map after every stage, and not a ResNet."""
    return model.startswith("vgg")


def stages(model: str, width: float, in_channels: int = 3) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The (in, out) channels of the slots of each stage; a ResNet's first slot follows its stem."""
    before = in_channels if is_vgg(model) else scaled(STEM, width)
    result = []
    for channels in STAGES[model]:
        outs = [scaled(c, width) for c in channels]
        result.append(tuple(zip([before, *outs], outs, strict=False)))
        before = outs[-1]
    return tuple(result)


def slots(model: str, width: float, image_size: tuple[int, int], in_channels: int = 3) -> tuple[Slot, ...]:
    """The slots of a model in the order they run, for images of (H, W) pixels."""
    vgg, (height, width_px) = is_vgg(model), image_size
    result = []
    for s, stage in enumerate(stages(model, width, in_channels)):
        side = (height >> s, width_px >> s) if vgg else (height, width_px)
        for i, (before, after) in enumerate(stage):
            name = f"conv{i + 1}" if vgg else f"block{i // 2 + 1}.conv{i % 2 + 1}"
            result.append(Slot(f"stage{s + 1}.{name}", before, after, side))
    return tuple(result)


def candidates(config: RunConfig, side: tuple[int, int]) -> int:
    """Positions in the pool of a ConvNN layer on a map of (H, W) pixels.

    The pool counts the query's own position where it is among them, so K neighbours, the query included, need a pool
    of at least K. The map is the slot's; any unshuffling is taken into account here.
    """
    return costs.pool(config, side)


def plan(config: RunConfig, image_size: tuple[int, int], num_classes: int, in_channels: int = 3) -> Plan:
    """What a configuration costs on images of (H, W) pixels, by arithmetic alone.

    FLOPs count a multiply-add as two, of the model as defined and not of the way it is computed: convolutions, linear
    layers, projections, scores and aggregation. Selection, normalisation and pooling are not counted.
    """
    model, width = config.model.name, config.model.width
    places = slots(model, width, image_size, in_channels)
    # a bias before a ResNet's BatchNorm is redundant, and its Conv2d has none
    bias = is_vgg(model) or config.layer.type != "Conv2d"
    layers = []
    for slot in places:
        cost = costs.layer(config, slot.in_channels, slot.out_channels, slot.side, bias=bias)
        looks = costs.neighbour_channels(config, slot.out_channels) > 0
        layers.append(
            LayerPlan(
                slot.name,
                slot.in_channels,
                slot.out_channels,
                slot.side,
                candidates(config, slot.side) if looks else None,
                config.layer.K if looks else None,
                cost.parameters,
                cost.flops,
            )
        )
    rest = _vgg_rest(places, width, num_classes) if is_vgg(model) else _resnet_rest(places, num_classes, in_channels)
    parameters = rest.parameters + sum(layer.parameters for layer in layers)
    flops = rest.flops + sum(layer.flops for layer in layers)
    largest = places[-1].out_channels * POOLED**2 * scaled(HIDDEN, width) if is_vgg(model) else 0
    largest = max(largest, *(layer.parameters for layer in layers))
    return Plan(parameters, flops, memory.training(config, places, parameters, largest), tuple(layers))


def _norm(channels: int) -> costs.Cost:
    return costs.Cost(2 * channels, 0)


def _vgg_rest(places: tuple[Slot, ...], width: float, num_classes: int) -> costs.Cost:
    hidden = scaled(HIDDEN, width)
    total = sum((_norm(slot.out_channels) for slot in places), costs.Cost(0, 0))
    sizes = [places[-1].out_channels * POOLED**2, hidden, hidden, num_classes]
    for before, after in pairwise(sizes):
        total += costs.convolution(before, after, 1, 1)
    return total


def _resnet_rest(places: tuple[Slot, ...], num_classes: int, in_channels: int) -> costs.Cost:
    positions = places[0].side[0] * places[0].side[1]
    stem = places[0].in_channels
    total = costs.convolution(in_channels, stem, 9, positions, bias=False) + _norm(stem)
    for slot in places:
        total += _norm(slot.out_channels)
        if slot.name.endswith("conv1") and slot.in_channels != slot.out_channels:
            total += costs.convolution(slot.in_channels, slot.out_channels, 1, positions, bias=False)  # the shortcut
    return total + costs.convolution(places[-1].out_channels, num_classes, 1, 1)
