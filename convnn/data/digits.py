"""Handwritten digits: 1,797 scans of 8x8 pixels that ship with the package, so that a first run needs no download.

`digits.csv.gz` is the file of `sklearn.datasets.load_digits` (scikit-learn, BSD-3-Clause): the test set of E. Alpaydin
and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998, CC BY 4.0,
https://archive.ics.uci.edu/dataset/80. A row holds 64 gray levels from 0 to 16 and the digit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convnn.data import DataOptions, LoadedDataset
from convnn.data.in_memory import load_in_memory, resize_images
from convnn.errors import Exit, UserError

FILE = Path(__file__).with_name("digits.csv.gz")
SIDE = 32  # pixels, unless resized
TEST_EVERY = 5  # every fifth image of a class is a test image


def open_digits(path: Path, options: DataOptions) -> LoadedDataset:
    """Open the digits as images of three equal channels; every fifth image of a class is a test image.

    `path` is not used.
    """
    scans, digits = _read_scans(FILE)
    side = options.resize or SIDE
    images = resize_images(torch.from_numpy(scans)[:, None], side)
    count: Counter[int] = Counter()
    indices: dict[str, list[int]] = {"train": [], "test": []}
    for index, digit in enumerate(digits):
        count[digit] += 1
        indices["train" if count[digit] % TEST_EVERY else "test"].append(index)
    splits = options.splits_to_read(measures_normalization=True)
    labels = {split: [digits[index] for index in indices[split]] for split in splits}

    def read_images(split: str, positions: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
        return images[[indices[split][position] for position in positions]].expand(-1, 3, -1, -1), positions

    classes = tuple(str(digit) for digit in range(10))
    # no flips: a mirrored digit is no digit
    return load_in_memory(options, classes, labels, read_images, size=(side, side), flip=False)


@lru_cache(maxsize=1)
def _read_scans(file: Path) -> tuple[np.ndarray, list[int]]:
    """Gray levels uint8 (N, 8, 8), scaled to 0..255, and the digits."""
    try:
        table = np.loadtxt(file, delimiter=",")
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"cannot read {file}, which is a part of the package: {error}", Exit.DATA) from error
    return np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8), table[:, -1].astype(int).tolist()
