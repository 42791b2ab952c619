"""Two layers over the same input, their channels concatenated and mixed by a 1x1 convolution."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class _Branching(nn.Module):
    """See `Branching2d`; `dims` is the number of spatial dimensions."""

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
        self.first_channels = first_channels = round(out_channels * branch_ratio)
        second_channels = out_channels - first_channels
        self.first = first(in_channels, first_channels) if first_channels else None
        self.second = second(in_channels, second_channels) if second_channels else None
        conv_class = nn.Conv1d if self.dims == 1 else nn.Conv2d
        self.mix = conv_class(out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, *sides) -> (B, out, *sides)"""
        outputs = [branch(x) for branch in (self.first, self.second) if branch is not None]
        return self.mix(torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0])


class Branching1d(_Branching):
    """Two layers' channels side by side, then a 1x1 convolution. (B, in, L) -> (B, out, L). See `Branching2d`."""

    dims = 1


class Branching2d(_Branching):
    """Two layers' channels side by side, then a 1x1 convolution. (B, in, H, W) -> (B, out, H, W)

    Args:
        first, second: make a layer from (in_channels, out_channels).
        branch_ratio: share of the output channels that `first` computes, rounded to whole channels. A branch without
            channels is left out; the 1x1 convolution stays, so ratio 0 is not the plain second layer.

    Raises:
        ValueError: the ratio is not from 0 to 1.
    """

    dims = 2
