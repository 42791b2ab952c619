"""Loader of a split, and those of one held in memory on the device: shuffled, augmented and normalized by the batch.

N images, B of them in a batch, C channels, H W height and width in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from convnn.data import PerChannel
from convnn.data.splits import seed_of

PAD = 4  # pixels on each side of an image that is cropped at random


class Loader(Protocol):
    """One split, handed out by the batch."""

    batch_size: int
    num_images: int

    def __len__(self) -> int:
        """Steps in an epoch; the last one may be smaller."""

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Loader from step `first_step` on: normalized float32 (B, C, H, W) and int64 labels (B,).

        The order of training images depends on (seed, epoch) alone. What else is random is drawn from torch's global
        generator inside next(), so that whoever seeds that before a step can repeat the step.
        """


class Normalize:
    """Pixels 0..255 to normalized float32, with Gaussian noise where asked for."""

    def __init__(self, normalization: tuple[PerChannel, PerChannel], noise: float, device: torch.device) -> None:
        mean, std = (torch.tensor(figures, dtype=torch.float64).view(-1, 1, 1) for figures in normalization)
        self.scale = (1 / (255 * std)).float().to(device)
        self.shift = (-mean / std).float().to(device)
        self.noise = noise

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> float32. Noise is drawn on the device: sending it would cost more than a step."""
        x = pixels.float().mul_(self.scale).add_(self.shift)  # in place: one big temporary, not three
        return x.add_(torch.randn_like(x), alpha=self.noise) if self.noise else x


def order_of(images: int, seed: int, epoch: int) -> Tensor:
    """The order of the training images in an epoch, from a generator of its own. (N,)"""
    return torch.randperm(images, generator=torch.Generator().manual_seed(seed_of("order", seed, epoch)))


def send(x: Tensor, device: torch.device) -> Tensor:
    """To the device, without waiting for it: from pinned memory a copy to cuda is only queued."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


class InMemoryLoader:
    """A split in memory: `images` uint8 (N, C, H, W), `labels` int64 (N,)."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        normalization: tuple[PerChannel, PerChannel],
        shuffle: bool = False,
        crop: bool = False,
        flip: bool = False,
        noise: float = 0.0,
    ) -> None:
        self.num_images, self.channels, self.height, self.width = images.shape
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.shuffle, self.crop, self.flip = shuffle, crop, flip
        self.normalize = Normalize(normalization, noise, device)
        images = images.to(device)
        self._pixels = F.pad(images, (PAD,) * 4) if crop else images.contiguous()
        self._labels = labels.to(device)

    def __len__(self) -> int:
        return math.ceil(self.num_images / self.batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = order_of(self.num_images, self.seed, epoch) if self.shuffle else torch.arange(self.num_images)
        order = send(order, self.device)
        for step in range(first_step, len(self)):
            at = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield self.normalize(self._augmented(at)), self._labels[at]

    def _augmented(self, at: Tensor) -> Tensor:
        """The images at these positions, cropped and flipped. (B,) -> (B, C, H, W) uint8"""
        if not (self.crop or self.flip):
            return self._pixels.index_select(0, at)
        dice = torch.randint(2 * PAD + 1, (2, len(at))), torch.randint(2, (1, len(at)))
        down, right, mirror = send(torch.cat(dice), self.device)  # drawn on the CPU: the same for every device
        x = self._cropped(at, down, right) if self.crop else self._pixels.index_select(0, at)
        if not self.flip:
            return x
        both = torch.cat((x, x.flip(3)))  # whole images are copied faster than pixels are chosen
        return both.index_select(0, torch.arange(len(x), device=self.device) + mirror * len(x))

    def _cropped(self, at: Tensor, down: Tensor, right: Tensor) -> Tensor:
        """A window of each padded image, copied row by row: (B,) three times -> (B, C, H, W)

        Every run of W neighbouring pixels is a row of one overlapping view, so that a crop is a choice of rows.
        """
        height, width = self._pixels.shape[2:]
        flat = self._pixels.view(-1)
        runs = flat.as_strided((flat.numel() - self.width + 1, self.width), (1, 1))
        channel = torch.arange(self.channels, device=self.device) * (height * width)
        row = torch.arange(self.height, device=self.device) * width
        corner = at * (self.channels * height * width) + down * width + right
        start = corner[:, None, None] + channel[:, None] + row  # (B, C, H)
        return runs.index_select(0, start.view(-1)).view(*start.shape, self.width)
