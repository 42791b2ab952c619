"""Base of the two layers over nearest neighbors: their options, their candidates, and the errors about both."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from convnn.layers.ops.attend import pair_scores
from convnn.layers.ops.coordinates import padded_sides
from convnn.layers.ops.similarity import METRICS
from convnn.layers.sampling import SAMPLING_TYPES, Sampling
from convnn.layers.shuffled_layer import ShuffledLayer, format_sides

AGGREGATION_TYPES = ("Col", "Loc_Col")

OnNeighbors = Callable[[Sequence[int], Tensor, Callable[[], Tensor]], None]
"""(sides of the map, index (B or 1, N, K), a function that computes the scores of the index (B or 1, N, K))."""


class NeighborLayer(ShuffledLayer):
    """A layer over the K positions nearest to each position of a map that is padded with `padding` pixels of zeros.

    Raises ValueError for an option out of range and, when called, for a map with fewer than K candidates.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        K: int,
        padding: int,
        magnitude_type: str,
        aggregation_type: str,
        shuffle_pattern: str,
        shuffle_scale: int,
        sampling: Sampling,
    ) -> None:
        super().__init__(in_channels, out_channels, shuffle_pattern, shuffle_scale)
        self.require(K >= 1, f"K is {K}: must be at least 1")
        self.require(padding >= 0, f"padding is {padding}: must be at least 0")
        self.require_choice("magnitude_type", magnitude_type, METRICS)
        self.require_choice("aggregation_type", aggregation_type, AGGREGATION_TYPES)
        self.require_choice("sampling_type", sampling.sampling_type, SAMPLING_TYPES)
        has_samples = sampling.sampling_type == "all" or sampling.num_samples >= 1
        message = f"num_samples is {sampling.num_samples}: must be at least 1 with {sampling.sampling_type}"
        self.require(has_samples, message)
        self.require(sampling.sample_padding >= 0, f"sample_padding is {sampling.sample_padding}: must be at least 0")
        self.K, self.padding, self.sampling = K, padding, sampling
        self.magnitude_type, self.aggregation_type = magnitude_type, aggregation_type
        self.coords = aggregation_type == "Loc_Col"
        self.gathered_channels = self.inner_in + self.dims * self.coords
        self.on_neighbors: OnNeighbors | None = None  # called with what is chosen, see `record_neighbors`

    def check_candidates(self, sides: Sequence[int]) -> None:
        """Raise ValueError if a map of these sides has fewer than K candidates."""
        candidates = self.sampling.pool_size(sides, self.padding)
        if candidates < self.K:
            raise ValueError(
                f"{type(self).__name__}: K = {self.K} neighbors need at least {self.K} candidates, got {candidates} "
                f"({self.sampling.sampling_type}) on a {format_sides(sides)} map with padding {self.padding}"
            )

    def pool(self, sides: Sequence[int], device: torch.device) -> Tensor | None:
        """The candidates of a map: None for all, else padded positions (M,); random ones are fixed in evaluation."""
        return self.sampling.pool(sides, self.padding, not self.training, device)

    def num_slots(self, sides: Sequence[int]) -> int:
        """Return the number of slots that can hold anything but padding, where padding is zero.

        All padding has the same score: once a position of it is among the K, padding fills the slots after it, if
        there is enough.
        """
        inner, outer = prod(sides), prod(padded_sides(sides, self.padding))
        padding_suffices = self.sampling.includes_all(sides, self.padding) and outer - inner >= self.K - 1
        return min(self.K, inner) if padding_suffices else self.K

    def report_neighbors(self, sides: Sequence[int], index: Tensor, scores: Callable[[Tensor], Tensor]) -> None:
        """Hand the chosen neighbors, and a function that computes their scores, to whoever records them."""
        if self.on_neighbors is not None:
            index = F.pad(index, (0, self.K - index.shape[2]))  # slots that could only hold padding, as position 0 is
            self.on_neighbors(sides, index, lambda: scores(index))

    def neighbor_scores(self, queries: Tensor, keys: Tensor, sides: Sequence[int], index: Tensor) -> Tensor:
        """Return cosines, or squared distances, of queries and neighbors. (B, N, d), (B, N or N', d) -> (B, N, K)"""
        scores = pair_scores(queries, keys, index, sides, self.padding, self.magnitude_type)
        return scores if self.magnitude_type == "cosine" else -scores

    @property
    def score_name(self) -> str:
        """What the recorded scores are: "cosine", "squared distance" or "distance in positions"."""
        return {"cosine": "cosine", "euclidean": "squared distance"}[self.magnitude_type]

    def extra_repr(self) -> str:
        names = ("K", "padding", "magnitude_type", "aggregation_type", "shuffle_pattern", "shuffle_scale")
        options = [f"{name}={getattr(self, name)!r}" for name in names]
        return ", ".join([f"{self.in_channels}, {self.out_channels}", *options, repr(self.sampling)])
