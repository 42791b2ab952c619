"""Any tree of class folders of images: split folders, or one tree of which a share of each class is held out."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convnn.data import DataOptions, LoadedDataset
from convnn.data.class_folders import (
    TEST_SHARE,
    ClassFolders,
    ImageFolders,
    data_error,
    holdout_note,
    list_image_folders,
    too_few_to_split,
)
from convnn.data.images import decoding, first_image_size, read_rgb
from convnn.data.in_memory import load_in_memory
from convnn.data.splits import holdout_split
from convnn.errors import Exit, UserError
from convnn.hardware import available_cpus
from convnn.text import plural

THREADS = min(8, available_cpus())  # Pillow releases the interpreter lock while it decodes
FILES_PER_TASK = 64
MAX_UNREADABLE = 0.01  # share of the files of a split
MAX_ERRORS = 3  # that a message lists


def open_folder(path: Path, options: DataOptions) -> LoadedDataset:
    """Open the images of `path` as RGB, resized to a square, or else all of the size of the first.

    Raises UserError if the folders are unusable, an image has another size, or more than 1 % cannot be read.
    """
    folders = list_image_folders(path)
    notes, warnings = list(folders.notes), list[str]()
    splits = split_files(folders, options.split_seed, notes)
    first_file = splits["train"].files[0]
    size = (options.resize, options.resize) if options.resize else first_image_size(splits["train"].files)

    def read_images(split: str, positions: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
        files = [splits[split].files[position] for position in positions]
        images, errors = decode_images(files, size, None if options.resize else first_file)
        if not errors:
            return images, positions
        named_errors = {files[row]: error for row, error in errors.items()}
        if too_many_unreadable(len(errors), len(files)):
            raise unreadable_error(path, named_errors, len(files))
        warnings.append(unreadable_message(named_errors, len(files)))
        readable = [row for row in range(len(files)) if row not in errors]
        return images[readable], [positions[row] for row in readable]

    read_splits = [
        *options.splits_to_read(measures_normalization=True),
        *(["val"] if "train" in options.splits else []),
    ]
    labels = {split: listed.labels for split, listed in splits.items() if split in read_splits}
    data = load_in_memory(options, folders.classes, labels, read_images, size=size, notes=notes, warnings=warnings)
    return replace(data, draws_test="test" not in folders.splits)


def split_files(folders: ImageFolders, seed: int, notes: list[str]) -> dict[str, ClassFolders]:
    """Return the files of "train", "test" and, if any, "val"; a tree without split folders is split with the seed."""
    if "test" in folders.splits:
        return folders.splits
    tree = folders.splits["train"]
    notes.append(holdout_note(seed))
    train, test = holdout_split(tree.labels, TEST_SHARE, seed)
    if not test:
        raise too_few_to_split(folders.root)

    def subset(positions: list[int]) -> ClassFolders:
        return ClassFolders(tree.classes, [tree.files[i] for i in positions], [tree.labels[i] for i in positions])

    return {"train": subset(train), "test": subset(test)}


def decode_images(
    files: Sequence[str], size: tuple[int, int], size_file: str | None
) -> tuple[Tensor, Mapping[int, str]]:
    """Decode files to images uint8 (N, 3, H, W), and map the index of each unreadable one to the reason.

    `size_file` is the file that `size` is from, which all must have; None resizes them to it. Raises UserError for an
    image of another size.
    """
    images = torch.empty((len(files), 3, *size), dtype=torch.uint8)
    arrays = images.numpy()
    is_over = threading.Event()  # after a signal or an error of any file no further one is decoded

    def decode_some(start: int) -> dict[int, str]:
        errors: dict[int, str] = {}
        for index in range(start, min(start + FILES_PER_TASK, len(files))):
            if is_over.is_set():
                return errors
            error = _decode(files[index], arrays[index], size_file)
            if error is not None:
                errors[index] = error
        return errors

    pool = ThreadPoolExecutor(THREADS)
    try:
        errors: dict[int, str] = {}
        with decoding():
            for some_errors in pool.map(decode_some, range(0, len(files), FILES_PER_TASK)):
                errors |= some_errors
        return images, errors
    finally:
        is_over.set()
        pool.shutdown(cancel_futures=True)


def _decode(file: str, out: np.ndarray, size_file: str | None) -> str | None:
    """Decode a file into `out` (3, H, W). Returns the reason if it cannot be read."""
    height, width = out.shape[1:]
    try:
        image = read_rgb(file, None if size_file else (width, height))
        if image.size != (width, height):
            raise _size_error(file, image.size, size_file or "", (width, height))
        out[:] = np.asarray(image).transpose(2, 0, 1)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # on a damaged file a decoder may raise nearly anything
        return f"{type(error).__name__}: {error}"
    return None


def _size_error(file: str, size: tuple[int, int], size_file: str, expected: tuple[int, int]) -> UserError:
    message = (
        f"{file} is {size[0]}x{size[1]} pixels and {size_file} is {expected[0]}x{expected[1]}: "
        "without data.resize all images must have one size"
    )
    side = max(expected)
    fix = f"use --resize, for example --resize {side}"
    return UserError(message, Exit.DATA, key="data.resize", fix=fix, change={"data.resize": side})


def too_many_unreadable(unreadable: int, num_files: int) -> bool:
    """Return whether more than 1 % of the files of a split cannot be read."""
    return unreadable > MAX_UNREADABLE * num_files


def unreadable_error(path: Path | str, errors: Mapping[str, str], num_files: int) -> UserError:
    """Return the error that too many files cannot be read; `errors` by file."""
    reason = f"contains {len(errors)} of {plural(num_files, 'image')} that cannot be read: {_list_errors(errors)}"
    return data_error(path, reason, "replace or remove them")


def unreadable_message(errors: Mapping[str, str], num_files: int) -> str:
    """Return the warning that some files are left out."""
    verb = "is" if len(errors) == 1 else "are"
    return f"{len(errors)} of {plural(num_files, 'image')} cannot be read and {verb} left out: {_list_errors(errors)}"


def _list_errors(errors: Mapping[str, str]) -> str:
    words = [f"{file} ({errors[file]})" for file in sorted(errors)[:MAX_ERRORS]]
    if len(errors) > MAX_ERRORS:
        words.append(f"and {len(errors) - MAX_ERRORS} more")
    return "; ".join(words)
