"""ImageNet, or any data set too large for memory: train/ and val/ class folders, decoded by worker processes."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from convnn.data import DataOptions, LoadedDataset
from convnn.data.class_folders import IMAGENET_FIX, ClassFolders, data_error, links_note, list_splits
from convnn.data.folder import Box, to_rgb
from convnn.data.loaders import Normalize, epoch_order
from convnn.data.splits import balanced_subset, derive_seed, validation_split
from convnn.errors import Exit, Problem, UserError

SIDE = 224  # pixels, unless resized
CENTER_CROP = 224 / 256  # share of the shorter side
NORMALIZATION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BatchKey = tuple[int, list[int]]  # an epoch, and indices of images


def open_imagenet(path: Path, options: DataOptions) -> LoadedDataset:
    """Open train/ and val/ in `path`: random crops and flips of the training images with `augment`, else the center.

    Raises UserError if the folders are unusable; a loader raises it for an image that cannot be read.
    """
    splits = list_splits(path, "val")
    if splits is None:
        raise data_error(path, "contains no train/ and val/", IMAGENET_FIX)
    train_files, test_files = splits
    normalization = options.normalization or NORMALIZATION
    side = options.resize or SIDE
    device = torch.device(options.device)

    def loader(folders: ClassFolders, indices: list[int], *, is_train: bool = False) -> StreamingLoader:
        images = ImageBatches(
            [folders.files[i] for i in indices],
            [folders.labels[i] for i in indices],
            side=side,
            seed=options.seed,
            augment=is_train and options.augment,
        )
        normalize = Normalize(normalization, options.noise if is_train else 0.0, device)
        return StreamingLoader(images, options.batch_size, normalize, device, workers=options.workers, shuffle=is_train)

    train = val = test = None
    if "train" in options.splits:
        subset = balanced_subset(train_files.labels, options.limit, options.seed)
        subset_labels = [train_files.labels[i] for i in subset]
        remaining, held_out = validation_split(subset_labels, options.val_share, options.seed)
        train = loader(train_files, [subset[i] for i in remaining], is_train=True)
        val = loader(train_files, [subset[i] for i in held_out]) if held_out else None
    if "test" in options.splits:
        test = loader(test_files, balanced_subset(test_files.labels, options.limit, options.seed))
    notes = links_note(path, train_files.skipped_links + test_files.skipped_links)
    return LoadedDataset(train, val, test, train_files.classes, *normalization, (side, side), tuple(notes))


class ImageBatches(Dataset[tuple[Tensor, Tensor] | str]):
    """Batches of decoded images by (epoch, indices). It is copied to the workers, and therefore kept compact."""

    def __init__(self, files: Sequence[str], labels: Sequence[int], *, side: int, seed: int, augment: bool) -> None:
        self.files = np.array([os.fsencode(file) for file in files])  # one block: a list would be a million objects
        self.labels = torch.tensor(labels)
        self.side, self.seed, self.augment = side, seed, augment

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: BatchKey) -> tuple[Tensor, Tensor] | str:
        """Images uint8 (B, 3, S, S) and labels (B,), or the error as text: exceptions of a worker lose their type."""
        epoch, indices = key
        images = torch.empty((len(indices), 3, self.side, self.side), dtype=torch.uint8)
        for out, index in zip(images.numpy(), indices, strict=True):
            file = os.fsdecode(self.files[index])
            try:
                out[:] = np.asarray(self._load(file, epoch, index)).transpose(2, 0, 1)
            except Exception as error:  # on a damaged file a decoder may raise nearly anything
                return f"{file} cannot be read: {type(error).__name__}: {error}"
        return images, self.labels[indices]

    def _load(self, file: str, epoch: int, index: int) -> Image.Image:
        size = (self.side, self.side)
        with Image.open(file) as image:
            if not self.augment:
                return to_rgb(image, size, center_box(*image.size))
            random = Random(derive_seed(self.seed, epoch, index))  # one image can be repeated without the others
            crop = to_rgb(image, size, random_box(*image.size, random))
            return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else crop


class _BatchSampler(Sampler[BatchKey]):
    """The batches of one epoch from a step on; in file order if `seed` is None."""

    def __init__(self, num_images: int, batch_size: int, seed: int | None) -> None:
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self.epoch = self.first_step = 0

    def __iter__(self) -> Iterator[BatchKey]:
        if self.seed is None:
            order = list(range(self.num_images))
        else:
            order = epoch_order(self.num_images, self.seed, self.epoch).tolist()
        for start in range(self.first_step * self.batch_size, self.num_images, self.batch_size):
            yield self.epoch, order[start : start + self.batch_size]


class StreamingLoader:
    """A split that is decoded during the epoch, by workers that live as long as the epoch; one epoch at a time."""

    def __init__(
        self,
        images: ImageBatches,
        batch_size: int,
        normalize: Normalize,
        device: torch.device,
        *,
        workers: int,
        shuffle: bool,
    ) -> None:
        self.num_images, self.batch_size, self.device, self.normalize = len(images), batch_size, device, normalize
        self._sampler = _BatchSampler(self.num_images, batch_size, images.seed if shuffle else None)
        context = None
        if workers:
            context = multiprocessing.get_context("forkserver")  # fork would copy a process that has threads
            context.set_forkserver_preload([__name__])  # torch is imported once, not by every worker
        self._loader = DataLoader(
            images,
            batch_size=None,  # an item is a batch
            sampler=self._sampler,
            num_workers=workers,
            multiprocessing_context=context,
            worker_init_fn=_ignore_terminal_signals,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else it draws from the global one when an epoch begins
        )

    def __len__(self) -> int:
        return math.ceil(self.num_images / self.batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        self._sampler.epoch, self._sampler.first_step = epoch, first_step
        for batch in self._loader:
            if isinstance(batch, str):
                raise UserError(Problem(batch, key="data.path", fix="replace or remove the file"), Exit.DATA)
            pixels, labels = (x.to(self.device, non_blocking=True) for x in batch)
            yield self.normalize(pixels), labels


def random_box(width: int, height: int, random: Random) -> Box:
    """A box of 8 to 100 % of the image's area, with an aspect ratio of 3:4 to 4:3 (Szegedy et al., 2015, section 6)."""
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            x, y = random.uniform(0, width - w), random.uniform(0, height - h)
            return x, y, x + w, y + h
    return center_box(width, height, share=1)


def center_box(width: int, height: int, share: float = CENTER_CROP) -> Box:
    """Return the centered square whose side is `share` of the image's shorter side."""
    side = min(width, height) * share
    x, y = (width - side) / 2, (height - side) / 2
    return x, y, x + side, y + side


def _ignore_terminal_signals(worker_id: int) -> None:
    """Ctrl-C reaches the whole process group: a worker that obeyed it would fail the run that is being stopped."""
    for number in (signal.SIGINT, signal.SIGHUP):  # the parent ends a worker with SIGTERM
        signal.signal(number, signal.SIG_IGN)
