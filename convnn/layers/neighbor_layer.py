"""What the two neighbour layers share: their options, their candidates, and the errors about both."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from convnn.layers.ops.coordinates import padded
from convnn.layers.ops.similarity import METRICS
from convnn.layers.sampling import SAMPLING_TYPES, Sampling
from convnn.layers.shuffled_layer import Shuffled, size

AGGREGATION_TYPES = ("Col", "Loc_Col")


class NeighbourLayer(Shuffled):
    """A layer over the K positions nearest each position of a map padded with `padding` pixels of zeros.

    Raises ValueError for an option out of range and, when called, for a map whose pool holds fewer than K positions.
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
        counts = sampling.sampling_type == "all" or sampling.num_samples >= 1
        self.require(counts, f"num_samples is {sampling.num_samples}: must be at least 1 with {sampling.sampling_type}")
        self.require(sampling.sample_padding >= 0, f"sample_padding is {sampling.sample_padding}: must be at least 0")
        self.K, self.padding, self.sampling = K, padding, sampling
        self.magnitude_type, self.aggregation_type = magnitude_type, aggregation_type
        self.coords = aggregation_type == "Loc_Col"
        self.wide = self.inner_in + self.dims * self.coords

    def check(self, sides: Sequence[int]) -> None:
        """Raise ValueError when the pool of a map of these sides holds fewer than K positions."""
        count = self.sampling.size(sides, self.padding)
        if count < self.K:
            raise ValueError(
                f"{type(self).__name__}: K = {self.K} neighbours need at least {self.K} candidates, "
                f"got {count} ({self.sampling.sampling_type}) on a {size(sides)} map with padding {self.padding}"
            )

    def pool(self, sides: Sequence[int], device: torch.device) -> Tensor | None:
        """Candidates of a map: None for all, else padded positions (M,); random ones are fixed in evaluation."""
        return self.sampling.pool(sides, self.padding, not self.training, device)

    def slots(self, sides: Sequence[int]) -> int:
        """Slots that can hold anything but pad, when pad is compared and convolved as zeros.

        All pad ties, so once one of it is chosen it fills the rest, if there is enough of it.
        """
        inner, outer = prod(sides), prod(padded(sides, self.padding))
        enough = self.sampling.takes_all(sides, self.padding) and outer - inner >= self.K - 1
        return min(self.K, inner) if enough else self.K

    def extra_repr(self) -> str:
        named = ("K", "padding", "magnitude_type", "aggregation_type", "shuffle_pattern", "shuffle_scale")
        options = [f"{name}={getattr(self, name)!r}" for name in named]
        return ", ".join([f"{self.in_channels}, {self.out_channels}", *options, repr(self.sampling)])


def working_dtype(x: Tensor) -> torch.dtype:
    """Type in which products of x are computed here: autocast's, where it is on and applies."""
    if x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype
