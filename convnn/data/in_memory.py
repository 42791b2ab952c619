"""From images that can be read by position to a data set in memory: limit, validation split, normalization."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from convnn.data import DataOptions, LoadedDataset, PerChannel
from convnn.data.loaders import InMemoryLoader, Loader
from convnn.data.splits import evenly, validation
from convnn.errors import Exit, Problem, UserError

# (split, positions) -> images uint8 (N, C, H, W) and the positions that they are of
Reader = Callable[[str, Sequence[int]], tuple[Tensor, Sequence[int]]]
CHUNK = 1024  # images at a time where a step needs wider numbers than the pixels


def in_memory(
    want: DataOptions,
    classes: tuple[str, ...],
    labels: Mapping[str, Sequence[int]],
    read: Reader,
    *,
    size: tuple[int, int],
    normalization: tuple[PerChannel, PerChannel] | None = None,
    flip: bool = True,
    notes: list[str] | None = None,
) -> LoadedDataset:
    """Read the splits in `labels`, measure the normalization on the training images unless given, and batch them.

    `read` may add to `notes`. Raises UserError, with the exit code for memory, if the images cannot fit.
    """
    wanted: dict[str, tuple[str, list[int]]] = {}  # our split -> the split it is read from and where
    for split, every in labels.items():
        chosen = evenly(every, want.limit, want.seed)
        if split == "train" and want.val_share > 0:
            stay, out = validation([every[i] for i in chosen], want.val_share, want.seed)
            if "train" in want.splits:
                wanted["val"] = split, [chosen[i] for i in out]
            chosen = [chosen[i] for i in stay]
        wanted[split] = split, chosen
    check_memory(sum(len(positions) for _, positions in wanted.values()), size)

    images: dict[str, Tensor] = {}
    targets: dict[str, Tensor] = {}
    for split, (source, positions) in wanted.items():
        images[split], kept = read(source, positions)
        targets[split] = torch.tensor([labels[source][i] for i in kept])
    normalization = want.normalization or normalization or measured(images["train"])

    def batches(split: str) -> Loader | None:
        if split not in images or (split == "train" and "train" not in want.splits):
            return None
        train = split == "train"
        return InMemoryLoader(
            images.pop(split),
            targets[split],
            batch_size=want.batch_size,
            seed=want.seed,
            device=torch.device(want.device),
            normalization=normalization,
            shuffle=train,
            crop=train and want.augment,
            flip=train and want.augment and flip,
            noise=want.noise if train else 0.0,
        )

    train, val, test = batches("train"), batches("val"), batches("test")
    return LoadedDataset(train, val, test, classes, *normalization, size, tuple(notes or ()))


def measured(images: Tensor) -> tuple[PerChannel, PerChannel]:
    """Mean and standard deviation of each channel, pixels counted as 0..1: exact, from counts of the 256 values."""
    values = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in images.unbind(1):
        chunks = (torch.bincount(chunk.reshape(-1), minlength=256) for chunk in channel.split(CHUNK))
        share = torch.stack(list(chunks)).sum(0).double() / channel.numel()
        middle = float(share @ values)
        mean.append(middle)
        std.append(float(share @ (values - middle) ** 2) ** 0.5 or 1.0)  # a channel of one value divides by 1
    return tuple(mean), tuple(std)


def resized(images: Tensor, side: int | None) -> Tensor:
    """Bilinear, with antialiasing, to side x side pixels. (N, C, H, W) uint8 -> (N, C, side, side) uint8"""
    if side is None or images.shape[2:] == (side, side):
        return images
    out = images.new_empty((*images.shape[:2], side, side))
    for into, chunk in zip(out.split(CHUNK), images.split(CHUNK), strict=True):
        into.copy_(F.interpolate(chunk, size=(side, side), mode="bilinear", antialias=True))
    return out


def check_memory(images: int, size: tuple[int, int]) -> None:
    """Raises UserError if the images alone are larger than the machine's memory."""
    need = images * 3 * size[0] * size[1]
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > have:
        message = (
            f"{images:,} images of {size[1]}x{size[0]} pixels need {need / 1e9:,.1f} GB, "
            f"and the machine has {have / 1e9:,.1f} GB of memory"
        )
        raise UserError(Problem(message, key="data.resize", fix="set data.resize smaller, or data.limit"), Exit.MEMORY)
