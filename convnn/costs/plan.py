"""The models as plain data: their convolution slots, and what a configuration costs, known without torch.

A slot is a place in a model that any layer can fill. H W are the sides of its map in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from convnn.costs import flops as costs_flops
from convnn.costs import memory
from convnn.models.architectures import HIDDEN, POOLED, Slot, is_vgg, scaled, slots

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig


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


def candidates(config: RunConfig, side: tuple[int, int]) -> int:
    """Positions in the pool of a ConvNN layer on a map of (H, W) pixels.

    The pool counts the query's own position where it is among them, so K neighbours, the query included, need a pool
    of at least K. The map is the slot's; any unshuffling is taken into account here.
    """
    return costs_flops.pool(config, side)


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
        cost = costs_flops.layer(config, slot.in_channels, slot.out_channels, slot.side, bias=bias)
        looks = costs_flops.neighbour_channels(config, slot.out_channels) > 0
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


def _norm(channels: int) -> costs_flops.Cost:
    return costs_flops.Cost(2 * channels, 0)


def _vgg_rest(places: tuple[Slot, ...], width: float, num_classes: int) -> costs_flops.Cost:
    hidden = scaled(HIDDEN, width)
    total = sum((_norm(slot.out_channels) for slot in places), costs_flops.Cost(0, 0))
    sizes = [places[-1].out_channels * POOLED**2, hidden, hidden, num_classes]
    for before, after in pairwise(sizes):
        total += costs_flops.convolution(before, after, 1, 1)
    return total


def _resnet_rest(places: tuple[Slot, ...], num_classes: int, in_channels: int) -> costs_flops.Cost:
    positions = places[0].side[0] * places[0].side[1]
    stem = places[0].in_channels
    total = costs_flops.convolution(in_channels, stem, 9, positions, bias=False) + _norm(stem)
    for slot in places:
        total += _norm(slot.out_channels)
        if slot.name.endswith("conv1") and slot.in_channels != slot.out_channels:
            total += costs_flops.convolution(
                slot.in_channels, slot.out_channels, 1, positions, bias=False
            )  # the shortcut
    return total + costs_flops.convolution(places[-1].out_channels, num_classes, 1, 1)
