"""VGG 11, 13, 16 and 19 with any layer in the convolution slots.

K. Simonyan and A. Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv 1409.1556.
B batch, C channels, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnn.models import architectures
from convnn.models.architectures import POOLED


class VGG(nn.Sequential):
    """Stages of convolution, BatchNorm and ReLU, each ending in a max-pool, and a head of three linear layers.

    `conv(in_channels, out_channels)` makes the layer of a slot. Images (B, in_channels, H, W) of 32 pixels or more a
    side give logits (B, num_classes).
    """

    def __init__(
        self,
        name: str,
        conv: Callable[[int, int], nn.Module],
        *,
        num_classes: int,
        in_channels: int = 3,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        for number, channels in enumerate(architectures.stages(name, width, in_channels), start=1):
            stage = nn.Sequential()
            for i, (before, after) in enumerate(channels, start=1):
                stage.add_module(f"conv{i}", conv(before, after))
                stage.add_module(f"norm{i}", nn.BatchNorm2d(after))
                stage.add_module(f"relu{i}", nn.ReLU(inplace=True))
            stage.add_module("pool", nn.MaxPool2d(2))
            self.add_module(f"stage{number}", stage)
        hidden = architectures.scaled(architectures.HIDDEN, width)
        self.head = nn.Sequential(
            PooledLinear(after, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(hidden, num_classes),
        )


class PooledLinear(nn.Linear):
    """Adaptive average pool to 7x7, then a linear layer over all of it. (B, C, H, W) -> (B, out)

    The pool is a product with a constant matrix: torch's own has no deterministic backward pass on CUDA. A map of one
    position is repeated 49 times by the pool, so there the weight is summed over the 49 instead: the same result for a
    49th of the multiplications, and each of the 49 gets the one gradient. With a `shared_update` it gets that gradient
    in place of the 49.
    """

    shared_update: Tensor | None = None  # (out, C), zero between steps: see `training.shared_update`

    def __init__(self, channels: int, out_features: int) -> None:
        super().__init__(channels * POOLED**2, out_features)

    def forward(self, x: Tensor) -> Tensor:
        sides = x.shape[2:]
        if sides == (POOLED, POOLED):
            return F.linear(x.flatten(1), self.weight, self.bias)
        if sides == (1, 1):
            parts, update = self.weight.unflatten(1, (-1, POOLED**2)), self.shared_update
            weight = parts.sum(2) if update is None else parts.detach().sum(2) + update  # (out, C)
            return F.linear(x.flatten(1), weight, self.bias)
        windows, areas = pool_windows(x.shape[2], x.shape[3], x)
        pooled = x.flatten(2) @ windows.mT / areas  # (B, C, 49)
        return F.linear(pooled.flatten(1), self.weight, self.bias)


def pool_windows(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return which positions of a map lie in the windows of the pool, as 0 and 1, and how many. -> (49, H * W), (49,)

    Type and device are those of `like`.
    """
    vertical, horizontal = (_line_windows(side, like.device) for side in (height, width))
    windows = (vertical[:, None, :, None] & horizontal[None, :, None, :]).reshape(POOLED**2, height * width)
    return windows.to(like.dtype), windows.sum(1).to(like.dtype)


def _line_windows(side: int, device: torch.device) -> Tensor:
    """Return which pixels of a line lie in each of its 7 windows, whose ends are those of torch's pool. -> (7, side)"""
    index = torch.arange(POOLED, device=device)[:, None]
    first, end = index * side // POOLED, ((index + 1) * side + POOLED - 1) // POOLED  # (7, 1)
    pixels = torch.arange(side, device=device)
    return (pixels >= first) & (pixels < end)
