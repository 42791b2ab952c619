"""The neighbors that the layers of a trained model choose on one image: read, written, compared. Loads no torch.

H, W  height and width of a map in positions      N  positions, H * W      K  neighbors
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convnn.errors import Exit, UserError
from convnn.files import read_regular
from convnn.layer_table import window_reach

if TYPE_CHECKING:
    import numpy as np

METADATA, SECOND = "inspection", "against"  # keys of the JSON texts in the metadata of a file
IMAGE = "image"  # name of the tensor of pixels
MOST_BYTES = 1 << 30  # of a file that is read
BY_LOCATION = "distance in positions"  # the score of similarity by location
SCORE_ERROR = 1e-6  # of rounding, relative and absolute


class Point(NamedTuple):
    """A position of a map or a pixel of an image, counted from 0."""

    y: int
    x: int


class Neighbor(NamedTuple):
    """What a slot of a layer holds at one query."""

    slot: int  # from 1 to K
    point: Point  # of the layer's map; outside of it in the padding
    score: float
    is_query: bool
    is_padding: bool
    in_window: bool  # on the map, in the window of the ordinary convolution around the query


@dataclass(frozen=True, eq=False)
class LayerNeighbors:
    """The neighbors of every position of one layer's map."""

    slot: str  # the slot's name in the model, such as stage1.conv1
    layer: str  # the kind of layer that chose, such as ConvNN
    sides: tuple[int, int]  # (H, W) of the map that the layer computes on: after any pixel unshuffle, before padding
    padding: int
    patch: int  # pixels of the image that a position covers along each side
    window: int  # kernel size of the ordinary convolution that the neighbors are compared with
    score: str  # what the scores are: cosine, squared distance, distance in positions
    candidates: int  # positions that a query chooses from
    sampling: str  # all, random or spatial
    index: np.ndarray  # (N, K) positions of the padded map, row-major, by slot
    scores: np.ndarray  # (N, K) float32

    @property
    def K(self) -> int:
        """Neighbors of a query, itself included."""
        return int(self.index.shape[1])

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of all neighbors in the map without padding; outside of it in the padding. (N, K) twice"""
        import numpy as np

        rows, columns = np.divmod(self.index.astype(np.int64), self.sides[1] + 2 * self.padding)
        return rows - self.padding, columns - self.padding

    def neighbors(self, query: Point) -> list[Neighbor]:
        """Return what the slots hold at a query, a position of the map, in their order."""
        row = query.y * self.sides[1] + query.x
        window_rows, window_columns = self.window_lines(query.y), self.window_lines(query.x)
        result = []
        for slot, (position, score) in enumerate(zip(self.index[row], self.scores[row], strict=True), 1):
            y, x = divmod(int(position), self.sides[1] + 2 * self.padding)
            point = Point(y - self.padding, x - self.padding)
            is_on_map = self.contains(point)
            in_window = is_on_map and point.y in window_rows and point.x in window_columns
            result.append(Neighbor(slot, point, float(score), point == query, not is_on_map, in_window))
        return result

    def ties(self, query: Point) -> list[Neighbor]:
        """Return the last neighbors of a query that have equal scores, itself left out; none where it is only one.

        Which candidates of that score are chosen, and their order, is arbitrary. Similarity by location has its own
        order of equal distances: there it returns none.
        """
        neighbors = [neighbor for neighbor in self.neighbors(query) if not neighbor.is_query]
        if self.score == BY_LOCATION or not neighbors:
            return []
        last = neighbors[-1].score
        equal = [n for n in neighbors if math.isclose(n.score, last, rel_tol=SCORE_ERROR, abs_tol=SCORE_ERROR)]
        return equal if len(equal) > 1 else []

    def contains(self, point: Point) -> bool:
        """Return whether a position lies on the map, which is without its padding."""
        return 0 <= point.y < self.sides[0] and 0 <= point.x < self.sides[1]

    def window_lines(self, center: int) -> range:
        """Return the rows, or the columns, of the ordinary window around one."""
        before, after = window_reach(self.window)
        return range(center - before, center + after + 1)

    def position(self, pixel: Point) -> Point:
        """Return the position of the map that covers a pixel; of a border that no position covers, the nearest."""
        return Point(min(pixel.y // self.patch, self.sides[0] - 1), min(pixel.x // self.patch, self.sides[1] - 1))


@dataclass(frozen=True, eq=False)
class Inspection:
    """A checkpoint of a run on one image: the neighbors that its layers choose, and its prediction."""

    run: str
    checkpoint: str  # best, last or an epoch, as it was typed
    epoch: int | None  # of the checkpoint; None between two epochs
    step: int
    split: str | None  # None for a file
    image: str  # the number of the image in its split, or the path of a file
    label: str | None  # the name of its class; None for a file
    prediction: str
    probability: float  # of the predicted class
    pixels: np.ndarray  # (H, W, 3) uint8, as the model gets the image before normalization
    slots: tuple[str, ...]  # of the model, those without neighbors included
    layers: Mapping[str, LayerNeighbors]  # by slot
    notes: tuple[str, ...] = field(default=())  # how the image was made to fit

    @property
    def checkpoint_text(self) -> str:
        """The checkpoint in words: "best (epoch 12)", "epoch 6", "last (step 70)"."""
        if self.checkpoint.isdecimal():
            return f"epoch {self.checkpoint}"
        position = f"step {self.step}" if self.epoch is None else f"epoch {self.epoch}"
        return f"{self.checkpoint} ({position})"

    @property
    def image_text(self) -> str:
        """The image, its label and the model's prediction in words."""
        name = self.image if self.split is None else f"{self.split} image {self.image}"
        label = f"label {self.label}, " if self.label is not None else ""
        return f"{name}: {label}predicted {self.prediction_text}"

    @property
    def prediction_text(self) -> str:
        """The predicted class with its probability."""
        return f"{self.prediction} ({self.probability:.1%})"


_TENSORS = ("index", "scores")


def dumps(inspection: Inspection, against: Inspection | None = None) -> bytes:
    """Return a safetensors file with the tensors `image`, `SLOT/index` and `SLOT/scores`, the rest as JSON metadata.

    Those of a second checkpoint on the same image are `against/SLOT/index` and so on.
    """
    import numpy as np
    from safetensors.numpy import save

    tensors = {IMAGE: inspection.pixels}
    metadata = {}
    for key, prefix, part in ((METADATA, "", inspection), (SECOND, f"{SECOND}/", against)):
        if part is None:
            continue
        layers = []
        for slot, layer in part.layers.items():
            tensors |= {f"{prefix}{slot}/{name}": getattr(layer, name) for name in _TENSORS}
            layers.append({name: value for name, value in vars(layer).items() if name not in _TENSORS})
        own = {name: value for name, value in vars(part).items() if name not in ("pixels", "layers")}
        metadata[key] = json.dumps(own | {"layers": layers})
    return save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata)


def read(path: Path) -> tuple[Inspection, Inspection | None]:
    """Read a file that `dumps` made: the inspection, and the one of a second checkpoint.

    Raises UserError (data) where it is damaged or something else.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = read_regular(path, MOST_BYTES)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        tensors = load(data)
        second = _inspection(metadata[SECOND], tensors, f"{SECOND}/") if SECOND in metadata else None
        return _inspection(metadata[METADATA], tensors, ""), second
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        message = f"{path} is no file of inspected neighbors: {type(error).__name__}: {error}"
        raise UserError(message, Exit.DATA) from error


def _inspection(text: str, tensors: Mapping[str, np.ndarray], prefix: str) -> Inspection:
    own = json.loads(text)
    layers = {
        layer["slot"]: LayerNeighbors(
            **(layer | {"sides": tuple(layer["sides"])}),
            index=tensors[f"{prefix}{layer['slot']}/index"],
            scores=tensors[f"{prefix}{layer['slot']}/scores"],
        )
        for layer in own.pop("layers")
    }
    own |= {"slots": tuple(own["slots"]), "notes": tuple(own["notes"])}
    return Inspection(**own, pixels=tensors[IMAGE], layers=layers)


# -- two checkpoints ---------------------------------------------------------------------------------------------------


class NeighborChanges(NamedTuple):
    """What differs between the neighbors of two checkpoints at one query; the query itself is left out."""

    shared: list[tuple[Neighbor, Neighbor]]
    lost: list[Neighbor]  # only of the first
    gained: list[Neighbor]  # only of the second


def neighbor_changes(first: Sequence[Neighbor], second: Sequence[Neighbor]) -> NeighborChanges:
    """Return the neighbors that two layers share at a query, and those that only one has.

    All positions of the padding count as equal.
    """
    remaining = [neighbor for neighbor in second if not neighbor.is_query]
    shared, lost = [], []
    for neighbor in first:
        if neighbor.is_query:
            continue
        match = next((candidate for candidate in remaining if _is_same(neighbor, candidate)), None)
        if match is None:
            lost.append(neighbor)
        else:
            remaining.remove(match)
            shared.append((neighbor, match))
    return NeighborChanges(shared, lost, remaining)


def _is_same(first: Neighbor, second: Neighbor) -> bool:
    return first.is_padding == second.is_padding and (first.is_padding or first.point == second.point)


def shared_share(first: LayerNeighbors, second: LayerNeighbors) -> float | None:
    """Return the fraction of neighbors that two layers share over the whole map, 0 to 1, counted as `neighbor_changes`.

    None where no query has a neighbor beside itself. Raises ValueError for maps of different sizes.
    """
    import numpy as np

    if first.sides != second.sides:
        raise ValueError(f"maps of {first.sides[0]}x{first.sides[1]} and {second.sides[0]}x{second.sides[1]} positions")
    others = max(first.K, second.K) - 1
    if not others:
        return None
    (first_codes, first_padding), (second_codes, second_padding) = map(_codes, (first, second))
    shared = np.minimum(first_padding, second_padding).sum()
    for slot in first_codes.T:  # a column at a time: all pairs of slots at once would take K times the memory
        shared += ((slot[:, None] == second_codes) & (slot[:, None] >= 0)).sum()
    return float(shared / (len(first_codes) * others))


def _codes(layer: LayerNeighbors) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the neighbors in the map without padding, -1 for queries and padding; padding slots. (N, K), (N,)"""
    import numpy as np

    rows, columns = layer.points
    is_padding = (rows < 0) | (columns < 0) | (rows >= layer.sides[0]) | (columns >= layer.sides[1])
    codes = rows * layer.sides[1] + columns
    is_query = ~is_padding & (codes == np.arange(len(codes))[:, None])
    return np.where(is_padding | is_query, -1, codes), is_padding.sum(1)


def layer_json(layer: LayerNeighbors, query: Point) -> dict[str, Any]:
    values = {name: value for name, value in vars(layer).items() if name not in _TENSORS}
    neighbors = [
        {
            "slot": neighbor.slot,
            "position": None if neighbor.is_padding else list(neighbor.point),
            "score": neighbor.score,
            "query": neighbor.is_query,
            "padding": neighbor.is_padding,
            "in_window": neighbor.in_window,
        }
        for neighbor in layer.neighbors(query)
    ]
    return values | {"K": layer.K, "query": list(query), "neighbors": neighbors}
