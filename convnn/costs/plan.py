"""What a configuration costs, slot by slot, known without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convnn.costs import memory, slot_cost
from convnn.layer_table import Cost
from convnn.models import architectures

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig


BACKWARD_COST = 2  # a backward pass costs about twice its forward pass: the gradients of inputs and of weights


@dataclass(frozen=True)
class LayerPlan:
    """A slot filled with the configured layer; `candidates` and `K` are None where no neighbors are searched."""

    slot: str
    in_channels: int
    out_channels: int
    map: tuple[int, int]
    candidates: int | None
    K: int | None
    parameters: int  # of the layer alone, without the normalization after it
    flops: int  # of one image

    def json(self) -> dict[str, Any]:
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
    search_flops: int  # those of `flops` that have no backward pass
    trained_numbers: int  # with a gradient and a state of the optimizer: weights that share both count once

    @property
    def training_flops(self) -> int:
        """FLOPs of one image forward and backward."""
        return self.flops + BACKWARD_COST * (self.flops - self.search_flops)

    def json(self) -> dict[str, Any]:
        """Return the plan as `convnn summary --json` writes it."""
        return {
            "parameters": self.parameters,
            "flops": self.flops,
            "memory_bytes": self.memory_bytes,
            "layers": [layer.json() for layer in self.layers],
        }


def plan(config: RunConfig, image_size: tuple[int, int], num_classes: int, in_channels: int = 3) -> Plan:
    """Return what a configuration costs on images of (H, W) pixels, by arithmetic alone.

    FLOPs count a multiply-add as two, of the model as defined and not of the way it is computed: convolutions, linear
    layers, projections, scores and aggregation. Selection, normalization and pooling are not counted.
    """
    model, width = config.model.name, config.model.width
    slots = architectures.slots(model, width, image_size, in_channels)
    layer_costs = [slot_cost.slot_cost(config, slot) for slot in slots]
    rest = architectures.architecture(model).family.rest(slots, width, num_classes, in_channels)
    costs = [*layer_costs, *rest]
    total = sum(costs, Cost())
    shares = memory.shares_updates(config)
    gradients = [cost.parameters - (cost.repeated if shares else 0) for cost in costs]
    memory_bytes = memory.training_bytes(config, slots, total.parameters, gradients)
    layers = tuple(_layer_plan(config, slot, cost) for slot, cost in zip(slots, layer_costs, strict=True))
    return Plan(total.parameters, total.flops, memory_bytes, layers, total.search_flops, sum(gradients))


def _layer_plan(config: RunConfig, slot: architectures.Slot, cost: Cost) -> LayerPlan:
    candidates = slot_cost.candidates(config, slot)
    return LayerPlan(
        slot=slot.name,
        in_channels=slot.in_channels,
        out_channels=slot.out_channels,
        map=slot.side,
        candidates=candidates,
        K=None if candidates is None else config.layer.K,
        parameters=cost.parameters,
        flops=cost.flops,
    )
