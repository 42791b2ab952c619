"""ImageNet, or any data set too large for memory: split folders of class folders, decoded by worker processes."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from convnn.data import DataOptions, LoadedDataset
from convnn.data.class_folders import IMAGENET_FIX, ClassFolders, data_error, list_image_folders
from convnn.data.folder import too_many_unreadable, unreadable_error, unreadable_message
from convnn.data.images import Box, decoding, read_rgb
from convnn.data.in_memory import check_batches
from convnn.data.loaders import Normalize, epoch_order
from convnn.data.share import BatchShare
from convnn.data.splits import balanced_subset, derive_seed, num_batches, val_share_problem, validation_split
from convnn.data.worker_processes import POLL_SECONDS, poll_batches, prepare_worker, start_server
from convnn.errors import Exit, UserError

SIDE = 224  # pixels, unless resized
CENTER_CROP = 224 / 256  # share of the shorter side
NORMALIZATION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BatchKey = tuple[int, list[int]]  # an epoch, and indices of images
DecodedBatch = tuple[Tensor, Tensor, dict[int, str]]  # images, labels, and why an index cannot be read


def open_imagenet(path: Path, options: DataOptions) -> LoadedDataset:
    """Open the split folders in `path`: random crops and flips of the training images with `augment`, else the center.

    Raises UserError if the folders are unusable; a loader raises it where more than 1 % of its images cannot be read.
    """
    folders = list_image_folders(path)
    if "test" not in folders.splits:
        raise data_error(path, "contains no train/ and val/", IMAGENET_FIX)
    if "val" in folders.splits and (problem := val_share_problem(options.val_share)):
        raise UserError(problem)
    normalization = options.normalization or NORMALIZATION
    side = options.resize or SIDE
    device = torch.device(options.device)
    digests: dict[str, str] = {}

    def loader(split: str, listed: ClassFolders, indices: list[int]) -> StreamingLoader:
        is_train = split == "train"
        split_options = options if is_train else options.for_evaluation
        files, labels = [listed.files[i] for i in indices], [listed.labels[i] for i in indices]
        digests[split] = file_digest(files, labels, folders.root)
        images = ImageBatches(files, labels, side=side, seed=options.seed, augment=split_options.augment)
        normalize = Normalize(normalization, split_options.noise, device)
        return StreamingLoader(
            images,
            options.batch_size,
            normalize,
            device,
            workers=options.workers,
            shuffle=is_train,
            drop_last=split_options.drop_last,
            share=split_options.share,
            path=path,
        )

    loaders: dict[str, StreamingLoader] = {}
    for split, listed in folders.splits.items():
        if ("test" if split == "test" else "train") not in options.splits:
            continue
        subset = balanced_subset(listed.labels, options.limit, options.split_seed)
        if split == "train":
            subset_labels = [listed.labels[i] for i in subset]
            remaining, held_out = validation_split(subset_labels, options.val_share, options.split_seed)
            if held_out:
                loaders["val"] = loader("val", listed, [subset[i] for i in held_out])
            subset = [subset[i] for i in remaining]
            check_batches(len(subset), options)
        loaders[split] = loader(split, listed, subset)
    return LoadedDataset(
        loaders.get("train"),
        loaders.get("val"),
        loaders.get("test"),
        folders.classes,
        *normalization,
        (side, side),
        notes=folders.notes,
        digests=digests,
    )


def file_digest(files: Sequence[str], labels: Sequence[int], root: Path) -> str:
    """Return the SHA-256 of the files' paths below `root`, their sizes and labels: the images are not read."""
    digest = hashlib.sha256()
    prefix = len(os.fspath(root)) + 1
    for file, label in zip(files, labels, strict=True):
        try:
            size = os.stat(file).st_size  # noqa: PTH116
        except OSError:
            size = -1  # gone since it was listed: reported when it is read
        digest.update(b"%b\0%d %d\n" % (os.fsencode(file[prefix:]), size, label))
    return digest.hexdigest()


class ImageBatches(Dataset[DecodedBatch]):
    """Batches of decoded images by (epoch, indices). It is copied to the workers, and therefore kept compact."""

    def __init__(self, files: Sequence[str], labels: Sequence[int], *, side: int, seed: int, augment: bool) -> None:
        self.files = np.array([os.fsencode(file) for file in files])  # one block: a list would be a million objects
        self.labels = torch.tensor(labels)
        self.side, self.seed, self.augment = side, seed, augment

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: BatchKey) -> DecodedBatch:
        """Images uint8 (B, 3, S, S) and labels (B,) of the files that can be read, and the reason for each other."""
        epoch, indices = key
        images = torch.empty((len(indices), 3, self.side, self.side), dtype=torch.uint8)
        readable: list[int] = []
        errors: dict[int, str] = {}
        with decoding():
            for index in indices:
                try:
                    pixels = np.asarray(self._read(self.file(index), epoch, index)).transpose(2, 0, 1)
                except MemoryError:
                    raise
                except Exception as error:  # on a damaged file a decoder may raise nearly anything
                    errors[index] = f"{type(error).__name__}: {error}"
                    continue
                images[len(readable)] = torch.from_numpy(pixels)
                readable.append(index)
        return images[: len(readable)], self.labels[readable], errors

    def file(self, index: int) -> str:
        return os.fsdecode(self.files[index])

    def _read(self, file: str, epoch: int, index: int) -> Image.Image:
        size = (self.side, self.side)
        if not self.augment:
            return read_rgb(file, size, center_box)
        random = Random(derive_seed(self.seed, epoch, index))  # one image can be repeated without the others
        crop = read_rgb(file, size, lambda width, height: random_box(width, height, random))
        return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else crop


class _BatchSampler(Sampler[BatchKey]):
    """A share of `num_batches` batches of one epoch from a step on; in file order if `seed` is None."""

    def __init__(self, num_images: int, batch_size: int, num_batches: int, seed: int | None, share: BatchShare) -> None:
        self.num_images, self.batch_size, self.num_batches, self.seed = num_images, batch_size, num_batches, seed
        self.share = share
        self.epoch = self.first_step = 0

    def __iter__(self) -> Iterator[BatchKey]:
        order = torch.arange(self.num_images)
        if self.seed is not None:
            order = epoch_order(self.num_images, self.seed, self.epoch)
        for step in range(self.first_step, self.num_batches):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield self.epoch, indices[self.share.rows(len(indices))].tolist()


class StreamingLoader:
    """A split that is decoded during the epoch, by workers that live as long as the epoch; one epoch at a time.

    Images that cannot be read are left out of their batch and reported once in `warnings`, up to 1 % of the split.
    """

    def __init__(
        self,
        images: ImageBatches,
        batch_size: int,
        normalize: Normalize,
        device: torch.device,
        *,
        workers: int,
        shuffle: bool,
        drop_last: bool,
        share: BatchShare,
        path: Path,
    ) -> None:
        self.num_images, self.batch_size, self.device, self.normalize = len(images), batch_size, device, normalize
        self.path, self.warnings = path, list[str]()
        self._num_batches = num_batches(self.num_images, batch_size, drop_last=drop_last)
        self._images, self._unreadable = images, dict[int, str]()
        seed = images.seed if shuffle else None
        self._sampler = _BatchSampler(self.num_images, batch_size, self._num_batches, seed, share)
        self._loader = DataLoader(
            images,
            batch_size=None,  # an item is a batch
            sampler=self._sampler,
            num_workers=workers,
            multiprocessing_context=start_server(preload=__name__) if workers else None,
            worker_init_fn=prepare_worker,
            timeout=POLL_SECONDS if workers else 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else it draws from the global one when an epoch begins
        )

    def __len__(self) -> int:
        return self._num_batches

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        return (batch for batch in self.poll_epoch(epoch, first_step) if batch is not None)

    def poll_epoch(self, epoch: int, first_step: int = 0) -> Generator[tuple[Tensor, Tensor] | None]:
        self._sampler.epoch, self._sampler.first_step = epoch, first_step
        share, step = self._sampler.share, first_step
        with closing(self._batches()) as batches:
            for batch in batches:
                if batch is None:
                    yield None
                    continue
                images, labels, errors = batch
                if errors:
                    self._report(errors)
                images = images.to(self.device, non_blocking=True)
                batch_size = len(images)  # fewer where some cannot be read
                if share.processes > 1:
                    batch_size = min(self.batch_size, self.num_images - step * self.batch_size)
                x = self.normalize(images, batch_size, share.rows(batch_size))
                yield x, labels.to(self.device, non_blocking=True)
                step += 1

    def image(self, index: int) -> tuple[Tensor, int]:
        images, labels, errors = self._images[(0, [index])]
        if errors:
            raise UserError(f"{self._images.file(index)} cannot be read: {errors[index]}", Exit.DATA)
        return images[0], int(labels[0])

    def _batches(self) -> Generator[DecodedBatch | None]:
        if self._loader.num_workers:
            return poll_batches(self._loader, self.batch_size * 3 * self._images.side**2)
        return (batch for batch in self._loader)

    def _report(self, errors: dict[int, str]) -> None:
        """Add a warning about images that could not be read. Raises UserError where they are too many."""
        new_errors = {index: error for index, error in errors.items() if index not in self._unreadable}
        self._unreadable |= new_errors
        if too_many_unreadable(len(self._unreadable), self.num_images):
            raise unreadable_error(self.path, self._by_file(self._unreadable), self.num_images)
        if new_errors:
            self.warnings.append(unreadable_message(self._by_file(new_errors), self.num_images))

    def _by_file(self, errors: dict[int, str]) -> dict[str, str]:
        return {self._images.file(index): error for index, error in errors.items()}


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
