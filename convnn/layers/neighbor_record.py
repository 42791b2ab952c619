"""What the layers of a model choose in a forward pass: the neighbors, and the scores they have.

B  batch     N  queries: the positions of the map that a layer computes on     K  neighbors
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from convnn.layers.neighbor_layer import NeighborLayer


@dataclass(frozen=True)
class NeighborRecord:
    """The neighbors that a layer chose in its last forward pass."""

    sides: tuple[int, ...]  # of the map that the layer computes on: after any pixel unshuffle, before padding
    padding: int
    index: Tensor  # (B or 1, N, K) positions of the padded map, row-major; 1 where all images have the same
    scores: Tensor | None  # (B or 1, N, K) of the same neighbors, see `score_name`; None unless they are recorded


@contextmanager
def record_neighbors(model: nn.Module, *, scores: bool = False) -> Iterator[dict[str, NeighborRecord]]:
    """Record what every layer over neighbors in a model chooses, by the name of its module.

        with torch.inference_mode(), record_neighbors(model) as records:
            model(images)

    The layers compute what they do without it. A compiled model is not observed: record the one it was compiled from.
    """
    records: dict[str, NeighborRecord] = {}

    def record(
        name: str, padding: int, sides: Sequence[int], index: Tensor, compute_scores: Callable[[], Tensor]
    ) -> None:
        records[name] = NeighborRecord(tuple(sides), padding, index, compute_scores() if scores else None)

    layers = {name: module for name, module in model.named_modules() if isinstance(module, NeighborLayer)}
    try:
        for name, layer in layers.items():
            layer.on_neighbors = partial(record, name, layer.padding)
        yield records
    finally:
        for layer in layers.values():
            layer.on_neighbors = None
