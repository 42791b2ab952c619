"""What is written of the neighbors of one query: a figure, a JSON document, or the file of all layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convnn.events import SCHEMA
from convnn.files import write_atomic
from convnn.json_values import json_text
from convnn.neighbors.inspection import Inspection, Point, dumps, layer_json, neighbor_changes, shared_share

FORMATS = (".png", ".svg", ".json", ".safetensors")  # endings of the files


def write(path: Path, inspection: Inspection, slot: str, pixel: Point, against: Inspection | None = None) -> None:
    """Write the neighbors of the query at a pixel in the format of the path's ending.

    `against` is a second checkpoint, whose layer in the slot has a map of the same size.
    """
    about = f"convnn inspect: {slot} of {inspection.run}, {inspection.checkpoint_text}, pixel {pixel.y},{pixel.x}"
    match path.suffix.lower():
        case ".json":
            values = {"schema": SCHEMA, **document(inspection, slot, pixel, against)}
            data = (json_text(values, indent=2) + "\n").encode()
        case ".safetensors":
            data = dumps(inspection, against)
        case suffix:
            from convnn.neighbors.figure import neighbor_figure  # loads Pillow

            figure = neighbor_figure(inspection, slot, pixel, against)
            data = figure.svg(about).encode() if suffix == ".svg" else figure.png(about)
    write_atomic(path, data)


def document(inspection: Inspection, slot: str, pixel: Point, against: Inspection | None = None) -> dict[str, Any]:
    """Return the neighbors of the query at a pixel, and what a second checkpoint changes, as JSON values."""
    layer = inspection.layers[slot]
    query = layer.position(pixel)
    values = {**_about(inspection), "pixel": list(pixel), "layer": layer_json(layer, query), "against": None}
    if against is not None:
        second = against.layers[slot]
        changes = neighbor_changes(layer.neighbors(query), second.neighbors(query))
        values["against"] = {
            **_about(against),
            "layer": layer_json(second, query),
            "shared": [first.slot for first, _ in changes.shared],
            "lost": [neighbor.slot for neighbor in changes.lost],
            "gained": [neighbor.slot for neighbor in changes.gained],
            "shared_over_map": shared_share(layer, second),
        }
    return values


def _about(inspection: Inspection) -> dict[str, Any]:
    names = ("run", "checkpoint", "epoch", "step", "split", "image", "label", "prediction", "probability", "notes")
    height, width, _ = inspection.pixels.shape
    slots = {"slots": inspection.slots, "layers_with_neighbors": list(inspection.layers)}
    return {name: getattr(inspection, name) for name in names} | {"image_size": [height, width], **slots}
