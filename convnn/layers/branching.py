"""Two layers side by side over the same input, mixed by a 1x1 convolution."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class _Branching(nn.Module):
    """See `Branching2d`; `dims` is the number of sides of a map."""

    dims: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        first: Callable[[int, int], nn.Module],
        second: Callable[[int, int], nn.Module],
        *,
        branch_ratio: float = 0.5,
    ) -> None:
        super().__init__()
        if not 0 <= branch_ratio <= 1:
            raise ValueError(f"{type(self).__name__}: branch_ratio is {branch_ratio}: must be from 0 to 1")
        share = round(out_channels * branch_ratio)
        self.first = first(in_channels, share) if share else None
        self.second = second(in_channels, out_channels - share) if share < out_channels else None
        self.mix = (nn.Conv1d if self.dims == 1 else nn.Conv2d)(out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, *sides) -> (B, out, *sides)"""
        branches = [branch(x) for branch in (self.first, self.second) if branch is not None]
        return self.mix(torch.cat(branches, dim=1) if len(branches) > 1 else branches[0])


class Branching1d(_Branching):
    """Two layers' channels side by side, then a 1x1 convolution. (B, in, L) -> (B, out, L). See `Branching2d`."""

    dims = 1


class Branching2d(_Branching):
    """Two layers' channels side by side, then a 1x1 convolution. (B, in, H, W) -> (B, out, H, W)

    `first` and `second` make a layer from (in, out) channels; the first gets round(out * branch_ratio) of the output
    channels, the second the rest, and one without channels is left out (the 1x1 convolution stays, so even ratio 0 is
    not the plain second layer). Raises ValueError for a ratio outside 0 to 1.
    """

    dims = 2
