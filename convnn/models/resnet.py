"""ResNet 18 and 34 with any layer in the convolution slots, on one map size throughout.

K. He et al., Deep Residual Learning for Image Recognition, arXiv 1512.03385; without strides, so that a layer sees
the whole map at every depth. B batch, C channels, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from convnn.models import architectures

Conv = Callable[[int, int], nn.Module]


class ResNet(nn.Sequential):
    """A 3x3 stem, four stages of residual blocks, average pool, dropout and a linear layer.

    `conv(in_channels, out_channels)` makes the layer of a slot. Images (B, in_channels, H, W) give logits
    (B, num_classes).
    """

    def __init__(self, name: str, conv: Conv, *, num_classes: int, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        stem = architectures.scaled(architectures.STEM, width)
        self.stem = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        for number, channels in enumerate(architectures.stages(name, width, in_channels), start=1):
            stage = nn.Sequential()
            for i, (before, after) in enumerate(channels[::2], start=1):  # a block's second slot keeps the width
                stage.add_module(f"block{i}", Block(before, after, conv))
            self.add_module(f"stage{number}", stage)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(after, num_classes)


class Block(nn.Module):
    """Two slots around which the input is added back. (B, in, H, W) -> (B, out, H, W)"""

    def __init__(self, in_channels: int, out_channels: int, conv: Conv) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv(out_channels, out_channels)
        self.norm2 = nn.BatchNorm2d(out_channels)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        y += self.shortcut(x)
        return F.relu(y, inplace=True)
