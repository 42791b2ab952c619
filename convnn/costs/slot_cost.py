"""What a slot costs when the configured layer fills it, by the layer table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convnn import layer_table
from convnn.layer_table import Cost, Side, layer_kind
from convnn.models.architectures import Slot, architecture

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig


def slot_cost(config: RunConfig, slot: Slot) -> Cost:
    """Return the parameters and the FLOPs of one image of the configured layer in a slot."""
    layer, slot_bias = layer_kind(config.layer.type), architecture(config.model.name).family.slot_bias
    total = Cost()
    for kind, channels in layer.parts(config, slot.out_channels):
        values = kind.option_values(config, bias=slot_bias or kind is not layer)
        total += kind.cost(slot.in_channels, channels, slot.side, **values)
    return total


def candidates(config: RunConfig, slot: Slot) -> int | None:
    """Return the number of positions that each query of a slot chooses its K neighbors from; None without a search.

    The query's own position counts where it is among them, so K neighbors, the query included, need at least K.
    """
    for kind, _ in layer_kind(config.layer.type).parts(config, slot.out_channels):
        if kind.candidates is not None:
            return kind.candidates(slot.side, **kind.option_values(config))
    return None


def inner_side(config: RunConfig, side: Side) -> Side:
    """Return the (H, W) of the map that neighbors are searched in: after the unshuffle, before padding."""
    return layer_table.inner_side(side, config.layer.shuffle_pattern, config.layer.shuffle_scale)
