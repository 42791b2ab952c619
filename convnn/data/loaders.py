"""Loaders of one split, and the one whose images lie in memory on the device.

N  images of the split         C     channels
B  images of a batch           H, W  height and width in pixels
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from convnn.data import Normalization
from convnn.data.share import WHOLE_BATCH, BatchShare
from convnn.data.splits import derive_seed, num_batches

ALL = slice(None)  # rows of a batch
PAD = 4  # pixels on each side of an image that is cropped at random


class Loader(Protocol):
    """One split in batches."""

    batch_size: int
    num_images: int
    warnings: list[str]  # that reading the images has raised; who reports them clears the list

    def __len__(self) -> int:
        """Batches per epoch; the last may be smaller, unless it is dropped."""

    def image(self, index: int) -> tuple[Tensor, int]:
        """Return an image uint8 (C, H, W), by its position before any shuffling, and its label.

        It is as the loader reads it, without the augmentation in memory. Raises UserError where it cannot be read.
        """

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches from step `first_step` on: normalized images float32 (B, C, H, W) and labels int64 (B,).

        Of each batch they hold the rows of this process's share; all random numbers are drawn for the whole batch.
        The order of the training images depends on (seed, epoch) alone. Augmentation and noise draw from torch's
        global generators inside next(): seeding those before a step repeats the step.
        """

    def poll_epoch(self, epoch: int, first_step: int = 0) -> Generator[tuple[Tensor, Tensor] | None]:
        """Batches as `epoch` yields them, and None several times a second while one is not ready."""


class Normalize:
    """Convert pixels from 0..255 to normalized float32, and add Gaussian noise."""

    def __init__(self, normalization: Normalization, noise: float, device: torch.device) -> None:
        mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in normalization)
        self.scale = (1 / (255 * std)).float().to(device)
        self.shift = (-mean / std).float().to(device)
        self.noise = noise

    def __call__(self, pixels: Tensor, batch_size: int | None = None, rows: slice | Tensor = ALL) -> Tensor:
        """Normalize images, which are the `rows` of a batch of `batch_size`. uint8 (B, C, H, W) -> float32 (B, C, H, W)

        Noise is drawn on the device: copying it would cost a step.
        """
        x = pixels.float().mul_(self.scale).add_(self.shift)  # in place: one large temporary, not three
        if not self.noise:
            return x
        noise = torch.randn((batch_size or len(x), *x.shape[1:]), device=x.device)[rows]
        return x.add_(noise[: len(x)], alpha=self.noise)  # fewer where images of a row cannot be read


def epoch_order(num_images: int, seed: int, epoch: int) -> Tensor:
    """Return the order of the training images in an epoch, from a generator of its own. -> (N,)"""
    return torch.randperm(num_images, generator=torch.Generator().manual_seed(derive_seed("order", seed, epoch)))


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to the device; to cuda from pinned memory, so that the copy is queued and not waited for."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


class InMemoryLoader:
    """A split held on the device: `images` uint8 (N, C, H, W), `labels` int64 (N,)."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        normalization: Normalization,
        shuffle: bool = False,
        crop: bool = False,
        flip: bool = False,
        noise: float = 0.0,
        drop_last: bool = False,
        share: BatchShare = WHOLE_BATCH,
    ) -> None:
        self.share = share
        self.warnings: list[str] = []
        self.num_images, self.channels, self.height, self.width = images.shape
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.shuffle, self.crop, self.flip, self.drop_last = shuffle, crop, flip, drop_last
        self.normalize = Normalize(normalization, noise, device)
        images = images.to(device)
        self._images = F.pad(images, (PAD,) * 4) if crop else images.contiguous()
        self._labels = labels.to(device)

    def __len__(self) -> int:
        return num_batches(self.num_images, self.batch_size, drop_last=self.drop_last)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = epoch_order(self.num_images, self.seed, epoch) if self.shuffle else torch.arange(self.num_images)
        order = to_device(order, self.device)
        for step in range(first_step, len(self)):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            rows = self.share.rows(len(indices))
            pixels = self._augment(indices, rows)
            yield self.normalize(pixels, len(indices), rows), self._labels[indices[rows]]

    def poll_epoch(self, epoch: int, first_step: int = 0) -> Generator[tuple[Tensor, Tensor] | None]:
        yield from self.epoch(epoch, first_step)

    def image(self, index: int) -> tuple[Tensor, int]:
        margin = PAD if self.crop else 0
        pixels = self._images[index, :, margin : margin + self.height, margin : margin + self.width]
        return pixels.cpu(), int(self._labels[index])

    def _augment(self, indices: Tensor, rows: slice | Tensor) -> Tensor:
        """Return these rows of the batch of images at `indices`, cropped and flipped. (B,) -> uint8 (rows, C, H, W)"""
        if not (self.crop or self.flip):
            return self._images.index_select(0, indices[rows])
        offsets = torch.randint(2 * PAD + 1, (2, len(indices)))
        flips = torch.randint(2, (1, len(indices)))
        # drawn on the CPU, the same for every device, and copied in one piece
        down, right, flipped = to_device(torch.cat((offsets, flips))[:, rows], self.device)
        indices = indices[rows]
        x = self._crop(indices, down, right) if self.crop else self._images.index_select(0, indices)
        if not self.flip:
            return x
        both = torch.cat((x, x.flip(3)))  # (2B, C, H, W); whole images are copied faster than pixels are chosen
        return both.index_select(0, torch.arange(len(x), device=self.device) + flipped * len(x))

    def _crop(self, indices: Tensor, down: Tensor, right: Tensor) -> Tensor:
        """Return a window of each padded image. (B,) three times -> (B, C, H, W)

        Every W consecutive pixels are a row of one overlapping view, so that a window is a choice of C * H rows.
        """
        height, width = self._images.shape[2:]
        pixels = self._images.view(-1)
        rows = pixels.as_strided((pixels.numel() - self.width + 1, self.width), (1, 1))
        channel = torch.arange(self.channels, device=self.device) * (height * width)  # (C,)
        row = torch.arange(self.height, device=self.device) * width  # (H,)
        corner = indices * (self.channels * height * width) + down * width + right  # (B,)
        start = corner[:, None, None] + channel[:, None] + row  # (B, C, H)
        return rows.index_select(0, start.view(-1)).view(*start.shape, self.width)
