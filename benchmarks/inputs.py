"""Images/s of the input path with crops, flips and normalization, beside PIL images and torchvision."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks import plain
from benchmarks.measure import BenchOptions, Contender, Work, measure_interleaved
from benchmarks.table import Row
from convnn.data.cifar import CIFAR10_NORMALIZATION
from convnn.data.loaders import InMemoryLoader

IMAGES = 4096
BATCH = 64
TARGET = "20"


def work(device: torch.device, ours: bool, workers: int) -> Work:
    """An epoch of batches of random pixels, on the device."""
    pixels = torch.randint(256, (IMAGES, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(IMAGES) % 10
    mean, std = CIFAR10_NORMALIZATION
    if not ours:
        loader = DataLoader(
            plain.Images(pixels, labels, mean, std),
            BATCH,
            shuffle=True,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )
        return Work(lambda: [(x.to(device), y.to(device)) for x, y in loader])
    arguments: dict[str, Any] = {"batch_size": BATCH, "seed": 0, "normalization": (mean, std)}
    batches = InMemoryLoader(pixels, labels, device=device, shuffle=True, crop=True, flip=True, **arguments)
    epochs = count(1)

    def run() -> None:
        for _ in batches.epoch(next(epochs)):
            pass

    return Work(run)


def rows(bench: BenchOptions) -> Iterator[Row]:
    """A row for each number of worker processes of the plain loader."""
    for workers in (0, 2):
        contenders = [Contender(work, (False, workers), keeps_memory=False), Contender(work, (True, workers))]
        theirs, ours = measure_interleaved(contenders, bench)
        yield {
            "input path, 32x32 with augmentation": f"plain with {workers} workers",
            "plain images/s": IMAGES / theirs.seconds,
            "ours images/s": IMAGES / ours.seconds,
            "ours / plain": theirs.seconds / ours.seconds,
            "target": TARGET,
        }
