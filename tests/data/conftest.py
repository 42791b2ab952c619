from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnn.data import DataOptions, LoadedDataset, open_data

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes class folders of small random images: tree({"train/cat": 5, "test/cat": 2}, size=(8, 6)) -> the root."""

    def write(counts: dict[str, int], size: tuple[int, int] = (8, 6), suffix: str = "png") -> Path:
        pixels = np.random.default_rng(0)
        for folder, count in counts.items():
            (tmp_path / folder).mkdir(parents=True)
            for i in range(count):
                image = pixels.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / folder / f"{i:03}.{suffix}")
        return tmp_path

    return write


@pytest.fixture
def opened() -> Callable[..., LoadedDataset]:
    """open_data with the arguments that a test does not care about."""

    def call(name: str, path: Path | str = ".", **options: object) -> LoadedDataset:
        seed = options.get("seed", 0)
        defaults = {"batch_size": 16, "seed": seed, "split_seed": seed, "device": "cpu"}
        return open_data(name, path, DataOptions(**(defaults | options)))

    return call
