"""Any tree of class folders of images: train/ and test/, or one tree of which a share of each class is held out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convnn.data import DataOptions, LoadedDataset
from convnn.data.class_folders import (
    TEST_SHARE,
    ClassFolders,
    data_error,
    first_image_size,
    links_note,
    list_class_folders,
    list_splits,
)
from convnn.data.in_memory import load_in_memory
from convnn.data.splits import holdout_split
from convnn.errors import Exit, Problem, UserError

THREADS = min(8, os.cpu_count() or 1)  # PIL releases the interpreter lock while it decodes
FILES_PER_TASK = 64
MAX_PIXELS = 64_000_000  # a larger image is a mistake or a decompression bomb
MAX_UNREADABLE = 0.01  # share of the files of a split

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def open_folder(path: Path, options: DataOptions) -> LoadedDataset:
    """Open the images of `path` as RGB, resized to a square, or else all of the size of the first.

    Raises UserError if the folders are unusable, an image has another size, or more than 1 % cannot be read.
    """
    notes: list[str] = []
    splits = split_files(path, options.seed, notes)
    notes += links_note(path, sum(split.skipped_links for split in splits.values()))
    first_file = splits["train"].files[0]
    size = (options.resize, options.resize) if options.resize else first_image_size(splits["train"].files)

    def read_images(split: str, positions: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
        files = [splits[split].files[position] for position in positions]
        images, errors = decode_images(files, size, None if options.resize else first_file)
        if not errors:
            return images, positions
        if len(errors) > MAX_UNREADABLE * len(files):
            reason = f"contains {len(errors)} of {len(files)} images that cannot be read: {_list_errors(files, errors)}"
            raise data_error(path, reason, "replace or remove them")
        notes.append(
            f"{len(errors)} of {len(files)} images cannot be read and are left out: {_list_errors(files, errors)}"
        )
        readable = [row for row in range(len(files)) if row not in errors]
        return images[readable], [positions[row] for row in readable]

    labels = {split: splits[split].labels for split in options.splits_to_read(measures_normalization=True)}
    return load_in_memory(options, splits["train"].classes, labels, read_images, size=size, notes=notes)


def split_files(path: Path, seed: int, notes: list[str]) -> dict[str, ClassFolders]:
    """List the files of "train" and "test"; a tree without those folders is split at random with the seed."""
    splits = list_splits(path)
    if splits is not None:
        return {"train": splits[0], "test": splits[1]}
    tree = list_class_folders(path, path)
    notes.append(f"{TEST_SHARE:.0%} of the images of each class, drawn with seed {seed}, are the test images")
    train, test = holdout_split(tree.labels, TEST_SHARE, seed)
    if not test:
        reason = "contains too few images in every class to hold some out for testing"
        raise data_error(path, reason, "add images, or add test/")

    def subset(positions: list[int], skipped_links: int) -> ClassFolders:
        files, labels = [tree.files[i] for i in positions], [tree.labels[i] for i in positions]
        return ClassFolders(tree.classes, files, labels, skipped_links)

    return {"train": subset(train, tree.skipped_links), "test": subset(test, 0)}


def decode_images(
    files: Sequence[str], size: tuple[int, int], size_file: str | None
) -> tuple[Tensor, Mapping[int, str]]:
    """Decode files to images uint8 (N, 3, H, W), and map the index of each unreadable one to the reason.

    `size_file` is the file that `size` is from, which all must have; None resizes them to it. Raises UserError for an
    image of another size.
    """
    images = torch.empty((len(files), 3, *size), dtype=torch.uint8)
    arrays = images.numpy()

    def decode_some(start: int) -> dict[int, str]:
        errors = {}
        for index in range(start, min(start + FILES_PER_TASK, len(files))):
            error = _decode(files[index], arrays[index], size_file)
            if error is not None:
                errors[index] = error
        return errors

    pool = ThreadPoolExecutor(THREADS)
    try:
        errors: dict[int, str] = {}
        for some_errors in pool.map(decode_some, range(0, len(files), FILES_PER_TASK)):
            errors |= some_errors
        return images, errors
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(file: str, out: np.ndarray, size_file: str | None) -> str | None:
    """Decode a file into `out` (3, H, W). Returns the reason if it cannot be read."""
    height, width = out.shape[1:]
    try:
        with Image.open(file) as image:
            if size_file and image.size != (width, height):
                raise _size_error(file, image.size, size_file, (width, height))
            out[:] = np.asarray(to_rgb(image, None if size_file else (width, height))).transpose(2, 0, 1)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # on a damaged file a decoder may raise nearly anything
        return f"{type(error).__name__}: {error}"
    return None


def to_rgb(image: Image.Image, size: tuple[int, int] | None, box: Box | None = None) -> Image.Image:
    """Convert an open image to RGB, and resize its `box` to (width, height). Raises ValueError if it is too large."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS:,}")
    if image.mode.startswith("I"):  # 16-bit gray, which convert() would clip to white
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    image = image.convert("RGB")
    return image.resize(size, Image.Resampling.BILINEAR, box) if size else image


def _size_error(file: str, size: tuple[int, int], size_file: str, expected: tuple[int, int]) -> UserError:
    message = (
        f"{file} is {size[0]}x{size[1]} pixels and {size_file} is {expected[0]}x{expected[1]}: "
        "without data.resize all images must have one size"
    )
    side = max(expected)
    fix = f"set data.resize, for example to {side}"
    return UserError(Problem(message, key="data.resize", fix=fix, change={"data.resize": side}), Exit.DATA)


def _list_errors(files: Sequence[str], errors: Mapping[int, str], limit: int = 3) -> str:
    text = "; ".join(f"{files[i]} ({errors[i]})" for i in sorted(errors)[:limit])
    return f"{text}; and {len(errors) - limit} more" if len(errors) > limit else text
