"""Handwritten digits: the 1,797 scans of 8x8 pixels that scikit-learn ships, so they need no download."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convnn.data import Data, Wanted
from convnn.data.in_memory import in_memory, resized
from convnn.errors import Exit, UserError

SIDE = 32  # pixels, unless resized


def open_set(path: Path, want: Wanted) -> Data:
    """The digits as images of three equal channels; every fifth image of each class is test. `path` is not used."""
    scans, digits = _scans()
    side = want.resize or SIDE
    images = resized(torch.from_numpy(scans)[:, None], side)
    seen: Counter[int] = Counter()
    where: dict[str, list[int]] = {"train": [], "test": []}
    for position, digit in enumerate(digits):
        seen[digit] += 1
        where["train" if seen[digit] % 5 else "test"].append(position)
    labels = {split: [digits[i] for i in where[split]] for split in want.reads(measured=True)}

    def read(split: str, positions: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
        return images[[where[split][i] for i in positions]].expand(-1, 3, -1, -1), positions

    classes = tuple(str(digit) for digit in range(10))
    return in_memory(want, classes, labels, read, size=(side, side), flip=False)  # a mirrored digit is no digit


def _scans() -> tuple[np.ndarray, list[int]]:
    """uint8 (N, 8, 8) and labels, from the file: importing scikit-learn takes a second and a second OpenMP pool."""
    package = find_spec("sklearn")
    folder = package.submodule_search_locations[0] if package and package.submodule_search_locations else "sklearn"
    file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
    try:
        table = np.loadtxt(file, delimiter=",")
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"the digits that scikit-learn ships cannot be read: {error}", Exit.DATA) from error
    return np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8), table[:, -1].astype(int).tolist()
