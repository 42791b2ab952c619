"""Any tree of class folders of images: train/ and test/, or one tree of which a share of each class is test."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convnn.data import DataOptions, LoadedDataset
from convnn.data.class_folders import TEST_SHARE, Listing, first_size, listing, pair, unusable
from convnn.data.in_memory import in_memory
from convnn.data.splits import set_aside
from convnn.errors import Exit, Problem, UserError
from convnn.text import escaped

THREADS = min(8, os.cpu_count() or 1)  # PIL lets go of the interpreter while it decodes
SHARE = 64  # files that a thread takes at a time
MOST_PIXELS = 64_000_000  # a larger image is a mistake or a decompression bomb
UNREADABLE = 0.01  # share of the files of a split

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def open_set(path: Path, want: DataOptions) -> LoadedDataset:
    """Every image as RGB, resized to a square or all of the size of the first; only those that `limit` keeps."""
    notes: list[str] = []
    listings = splits(path, want.seed, notes)
    if links := listings["train"].links + listings["test"].links:
        notes.append(f"{links} links lead out of {escaped(path)} or to a folder, and were not followed")
    size = (want.resize, want.resize) if want.resize else first_size(listings["train"].files)

    def read(split: str, positions: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
        files = [listings[split].files[i] for i in positions]
        images, bad = decode(files, size, listings["train"].files[0] if not want.resize else None)
        if len(bad) > UNREADABLE * len(files):
            what = f"has {len(bad)} of {len(files)} images that cannot be read: {_named(files, bad)}"
            raise unusable(path, what, "replace or remove them")
        if bad:
            notes.append(f"{len(bad)} of {len(files)} images cannot be read and are left out: {_named(files, bad)}")
        good = [i for i in range(len(files)) if i not in bad]
        return images[good] if bad else images, [positions[i] for i in good]

    labels = {split: listings[split].labels for split in want.reads(measured=True)}
    return in_memory(want, listings["train"].classes, labels, read, size=size, notes=notes)


def splits(path: Path, seed: int, notes: list[str]) -> dict[str, Listing]:
    """The files of "train" and "test"; a tree without those folders is split with the seed."""
    if both := pair(path):
        return dict(zip(("train", "test"), both, strict=True))
    tree = listing(path, path)
    notes.append(f"{TEST_SHARE:.0%} of the images of each class, drawn with seed {seed}, are the test images")
    halves = set_aside(tree.labels, TEST_SHARE, seed)
    if not halves[1]:
        raise unusable(path, "has too few images in every class to set some aside", "add images, or make a test/")
    train, test = (
        Listing(tree.classes, [tree.files[i] for i in half], [tree.labels[i] for i in half], 0) for half in halves
    )
    return {"train": Listing(train.classes, train.files, train.labels, tree.links), "test": test}


def decode(files: Sequence[str], size: tuple[int, int], first: str | None) -> tuple[Tensor, dict[int, str]]:
    """Images uint8 (N, 3, H, W), and the positions that cannot be read with the reason.

    `first` is the file whose size all must have; None resizes them. Raises UserError for one of another size.
    """
    images = torch.empty((len(files), 3, *size), dtype=torch.uint8)
    rows = images.numpy()

    def some(start: int) -> dict[int, str]:
        found = {i: _decode(files[i], rows[i], first) for i in range(start, min(start + SHARE, len(files)))}
        return {i: reason for i, reason in found.items() if reason}

    pool = ThreadPoolExecutor(THREADS)
    try:
        bad: dict[int, str] = {}
        for found in pool.map(some, range(0, len(files), SHARE)):
            bad |= found
        return images, bad
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(file: str, out: np.ndarray, first: str | None) -> str | None:
    """Write one image into `out` (3, H, W); the reason if it cannot be read."""
    height, width = out.shape[1:]
    try:
        with Image.open(file) as image:
            if first and image.size != (width, height):
                raise _other_size(file, image.size, first, (width, height))
            out[:] = np.asarray(rgb(image, None if first else (width, height))).transpose(2, 0, 1)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a decoder may raise nearly anything on a damaged file, and the person is told of all
        return f"{type(error).__name__}: {error}"
    return None


def rgb(image: Image.Image, size: tuple[int, int] | None, box: Box | None = None) -> Image.Image:
    """An open image as RGB, resized to (width, height) if asked for. Raises ValueError if it is far too large."""
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels are more than {MOST_PIXELS:,}")
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip to white
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    image = image.convert("RGB")
    return image.resize(size, Image.Resampling.BILINEAR, box) if size else image


def _other_size(file: str, size: tuple[int, int], first: str, expected: tuple[int, int]) -> UserError:
    message = (
        f"{escaped(file)} is {size[0]}x{size[1]} pixels and {escaped(first)} is {expected[0]}x{expected[1]}: "
        "without data.resize all images must have one size"
    )
    side = max(expected)
    fix = f"set data.resize, to {side} for one"
    return UserError(Problem(message, key="data.resize", fix=fix, change={"data.resize": side}), Exit.DATA)


def _named(files: Sequence[str], bad: dict[int, str], most: int = 3) -> str:
    shown = "; ".join(f"{escaped(files[i])} ({escaped(bad[i])})" for i in sorted(bad)[:most])
    return shown + (f"; and {len(bad) - most} more" if len(bad) > most else "")
