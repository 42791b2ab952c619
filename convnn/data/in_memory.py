"""Data sets held in memory: read the images that are needed, measure the normalization, make the loaders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from convnn.data import DataOptions, LoadedDataset, Normalization
from convnn.data.loaders import InMemoryLoader
from convnn.data.splits import balanced_subset, drop_last_problem, val_share_problem, validation_split
from convnn.errors import Exit, UserError
from convnn.text import memory

# (split, positions) -> images uint8 (N, C, H, W), and their positions: fewer where an image could not be read
ReadImages = Callable[[str, Sequence[int]], tuple[Tensor, Sequence[int]]]
CHUNK = 1024  # images at a time where a step needs wider numbers than the pixels


def load_in_memory(
    options: DataOptions,
    classes: tuple[str, ...],
    labels: Mapping[str, Sequence[int]],
    read_images: ReadImages,
    *,
    size: tuple[int, int],
    normalization: Normalization | None = None,
    flip: bool = True,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> LoadedDataset:
    """Read the splits in `labels` ("train", "test" and, if the data set has one, "val") and make their loaders.

    Args:
        labels: the labels of all images of a split, before `options.limit` and `options.val_share`.
        read_images: reads images of one size by their positions in `labels`; it may append to `warnings`.
        size: height and width of an image in pixels.
        normalization: the published one; None measures it on the training images.
        flip: whether augmentation includes horizontal flips.

    Raises:
        UserError: the images do not fit into memory, or the options do not fit the splits.
    """
    if "val" in labels and (problem := val_share_problem(options.val_share)):
        raise UserError(problem)
    sources: dict[str, tuple[str, list[int]]] = {}  # split -> the split it is read from, and positions there
    for split, split_labels in labels.items():
        positions = balanced_subset(split_labels, options.limit, options.split_seed)
        if split == "train" and options.val_share > 0:
            subset_labels = [split_labels[position] for position in positions]
            train, val = validation_split(subset_labels, options.val_share, options.split_seed)
            if "train" in options.splits:
                sources["val"] = split, [positions[i] for i in val]
            positions = [positions[i] for i in train]
        sources[split] = split, positions
    if "train" in options.splits:
        check_batches(len(sources["train"][1]), options)
    check_memory(sum(len(positions) for _, positions in sources.values()), size)

    images: dict[str, Tensor] = {}
    targets: dict[str, Tensor] = {}
    digests: dict[str, str] = {}
    for split, (source, positions) in sources.items():
        images[split], read_positions = read_images(source, positions)
        targets[split] = torch.tensor([labels[source][position] for position in read_positions])
        if split in options.splits or split == "val":
            digests[split] = image_digest(images[split], targets[split])
    normalization = options.normalization or normalization or measure_normalization(images["train"])
    if "train" not in options.splits:
        images.pop("train", None)  # read for its normalization alone

    def loader(split: str) -> InMemoryLoader | None:
        if split not in images:
            return None
        is_train = split == "train"
        split_options = options if is_train else options.for_evaluation
        return InMemoryLoader(
            images.pop(split),
            targets[split],
            batch_size=options.batch_size,
            seed=options.seed,
            device=torch.device(options.device),
            normalization=normalization,
            shuffle=is_train,
            crop=split_options.augment,
            flip=split_options.augment and flip,
            noise=split_options.noise,
            drop_last=split_options.drop_last,
            share=split_options.share,
        )

    train_loader, val_loader, test_loader = loader("train"), loader("val"), loader("test")
    return LoadedDataset(
        train_loader,
        val_loader,
        test_loader,
        classes,
        *normalization,
        size,
        notes=tuple(notes),
        warnings=tuple(warnings),
        digests=digests,
    )


def check_batches(num_images: int, options: DataOptions) -> None:
    """Raise UserError if no training batch is left without a smaller last one."""
    if problem := drop_last_problem(num_images, options.batch_size, drop_last=options.drop_last):
        raise UserError(problem)


def image_digest(images: Tensor, labels: Tensor) -> str:
    """Return the SHA-256 of the pixels and labels of a split, in their order. uint8 (N, C, H, W), int64 (N,)"""
    digest = hashlib.sha256(repr(tuple(images.shape)).encode())
    for chunk in images.split(CHUNK):
        digest.update(chunk.contiguous().numpy().data)
    digest.update(labels.contiguous().numpy().data)
    return digest.hexdigest()


def measure_normalization(images: Tensor) -> Normalization:
    """Return mean and standard deviation of each channel, pixels counted from 0 to 1. uint8 (N, C, H, W) -> (C,) twice

    Computed exactly, in float64, from the counts of the 256 values.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        counts = [torch.bincount(chunk.reshape(-1), minlength=256) for chunk in channel.split(CHUNK)]
        frequencies = torch.stack(counts).sum(0).double() / channel.numel()
        mean = float(frequencies @ values)
        std = float(frequencies @ (values - mean) ** 2) ** 0.5
        means.append(mean)
        stds.append(std or 1.0)  # a channel of one value
    return tuple(means), tuple(stds)


def resize_images(images: Tensor, side: int | None) -> Tensor:
    """Resize bilinearly, with antialiasing. uint8 (N, C, H, W) -> uint8 (N, C, side, side)"""
    if side is None or images.shape[2:] == (side, side):
        return images
    resized = images.new_empty((*images.shape[:2], side, side))
    for out, chunk in zip(resized.split(CHUNK), images.split(CHUNK), strict=True):
        out.copy_(F.interpolate(chunk, size=(side, side), mode="bilinear", antialias=True))
    return resized


def check_memory(num_images: int, size: tuple[int, int]) -> None:
    """Raise UserError if the images alone are larger than the machine's memory."""
    needed = num_images * 3 * size[0] * size[1]
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        message = (
            f"{num_images:,} images of {size[1]}x{size[0]} pixels need {memory(needed)}, "
            f"and the machine has {memory(available)} of memory"
        )
        raise UserError(message, Exit.MEMORY, key="data.resize", fix="use a smaller --resize or --limit")
