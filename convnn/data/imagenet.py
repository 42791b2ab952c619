"""ImageNet, or any set too large for memory: train/ and val/ class folders, decoded by worker processes as it goes."""

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
from convnn.data.catalog import IMAGENET_FIX
from convnn.data.class_folders import Listing, pair, unusable
from convnn.data.folder import Box, rgb
from convnn.data.loaders import Normalize, order_of
from convnn.data.splits import evenly, seed_of, validation
from convnn.errors import Exit, Problem, UserError
from convnn.text import escaped

SIDE = 224  # pixels, unless resized
CENTRE = 224 / 256  # share of the shorter side that is kept where nothing is drawn
NORMALISATION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Ask = tuple[int, list[int]]  # an epoch, and positions of images


def open_set(path: Path, want: DataOptions) -> LoadedDataset:
    """The images of train/ and val/; with `augment` a random area of the image, mirrored or not, else its centre."""
    both = pair(path, "val")
    if both is None:
        raise unusable(path, "holds no train/ and val/", IMAGENET_FIX)
    normalization = want.normalization or NORMALISATION
    device = torch.device(want.device)

    def batches(listing: Listing, positions: list[int], *, train: bool = False) -> StreamingLoader:
        images = Images(
            [listing.files[i] for i in positions],
            [listing.labels[i] for i in positions],
            side=want.resize or SIDE,
            seed=want.seed,
            augment=train and want.augment,
        )
        normalize = Normalize(normalization, want.noise if train else 0.0, device)
        return StreamingLoader(images, want.batch_size, normalize, device, workers=want.workers, shuffle=train)

    training, testing = both
    train = val = test = None
    if "train" in want.splits:
        chosen = evenly(training.labels, want.limit, want.seed)
        kept, out = validation([training.labels[i] for i in chosen], want.val_share, want.seed)
        train = batches(training, [chosen[i] for i in kept], train=True)
        val = batches(training, [chosen[i] for i in out]) if out else None
    if "test" in want.splits:
        test = batches(testing, evenly(testing.labels, want.limit, want.seed))
    side = want.resize or SIDE
    links = training.links + testing.links
    notes = (f"{links} links lead out of {escaped(path)} or to a folder, and were not followed",) if links else ()
    return LoadedDataset(train, val, test, training.classes, *normalization, (side, side), notes)


class Images(Dataset[tuple[Tensor, Tensor] | str]):
    """Images by epoch and position, decoded, cut and mirrored; it travels to the workers, so it is kept compact."""

    def __init__(self, files: Sequence[str], labels: Sequence[int], *, side: int, seed: int, augment: bool) -> None:
        self.files = np.array([os.fsencode(file) for file in files])  # one block, where a list is a million objects
        self.labels = torch.tensor(labels)
        self.side, self.seed, self.augment = side, seed, augment

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, ask: Ask) -> tuple[Tensor, Tensor] | str:
        """Images uint8 (B, 3, S, S) and labels (B,); or what is wrong, in words, since errors lose their type here."""
        epoch, positions = ask
        out = torch.empty((len(positions), 3, self.side, self.side), dtype=torch.uint8)
        for row, position in zip(out.numpy(), positions, strict=True):
            file = os.fsdecode(self.files[position])
            try:
                row[:] = np.asarray(self._image(file, epoch, position)).transpose(2, 0, 1)
            except Exception as error:  # a decoder may raise nearly anything on a damaged file
                return f"{escaped(file)} cannot be read: {type(error).__name__}: {escaped(error)}"
        return out, self.labels[positions]

    def _image(self, file: str, epoch: int, position: int) -> Image.Image:
        side = (self.side, self.side)
        with Image.open(file) as image:
            if not self.augment:
                return rgb(image, side, centre(*image.size))
            draw = Random(seed_of(self.seed, epoch, position))  # one image can be repeated without the others
            cut = rgb(image, side, random_area(*image.size, draw))
            return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else cut


class _Order(Sampler[Ask]):
    """What the workers are asked for: the batches of one epoch from a step on."""

    def __init__(self, num_images: int, batch_size: int, seed: int | None) -> None:
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self.epoch = self.first_step = 0

    def __iter__(self) -> Iterator[Ask]:
        if self.seed is None:
            order = list(range(self.num_images))
        else:
            order = order_of(self.num_images, self.seed, self.epoch).tolist()
        for start in range(self.first_step * self.batch_size, self.num_images, self.batch_size):
            yield self.epoch, order[start : start + self.batch_size]


class StreamingLoader:
    """A split that is read as it goes, by workers that live as long as an epoch is under way; one at a time."""

    def __init__(
        self,
        images: Images,
        batch_size: int,
        normalize: Normalize,
        device: torch.device,
        *,
        workers: int,
        shuffle: bool,
    ) -> None:
        self.num_images, self.batch_size, self.device, self.normalize = len(images), batch_size, device, normalize
        self._order = _Order(self.num_images, batch_size, images.seed if shuffle else None)
        processes = None
        if workers:
            processes = multiprocessing.get_context("forkserver")  # fork would copy a process with threads
            processes.set_forkserver_preload([__name__])  # torch is imported once, not by every worker
        self._loader = DataLoader(
            images,
            batch_size=None,  # an item is a batch
            sampler=self._order,
            num_workers=workers,
            multiprocessing_context=processes,
            worker_init_fn=_leave_signals_to_the_parent,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else it draws from the global one when an epoch begins
        )

    def __len__(self) -> int:
        return math.ceil(self.num_images / self.batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        self._order.epoch, self._order.first_step = epoch, first_step
        for batch in self._loader:
            if isinstance(batch, str):
                raise UserError(Problem(batch, key="data.path", fix="replace or remove the file"), Exit.DATA)
            pixels, labels = (x.to(self.device, non_blocking=True) for x in batch)
            yield self.normalize(pixels), labels


def random_area(width: int, height: int, draw: Random) -> Box:
    """A box of 8 to 100 % of the image and a shape from 3:4 to 4:3 (Szegedy et al., 2015, section 6)."""
    for _ in range(10):
        area = width * height * draw.uniform(0.08, 1)
        ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            x, y = draw.uniform(0, width - w), draw.uniform(0, height - h)
            return x, y, x + w, y + h
    return centre(width, height, share=1)


def centre(width: int, height: int, share: float = CENTRE) -> Box:
    """The square in the middle, of this share of the shorter side."""
    side = min(width, height) * share
    x, y = (width - side) / 2, (height - side) / 2
    return x, y, x + side, y + side


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches a whole group of processes: a worker that obeys would fail the run that is being stopped."""
    for name in (signal.SIGINT, signal.SIGHUP):  # SIGTERM is how the parent ends a worker
        signal.signal(name, signal.SIG_IGN)
