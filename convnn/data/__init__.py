"""Data sets as batches on the device: one call opens any of them by name.

To add one, write `convnn/data/NAME.py` with `open_set(path, want) -> LoadedDataset` and name it in the schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from convnn.data.loaders import Loader

PerChannel = tuple[float, ...]  # a figure for each of the three channels


@dataclass(frozen=True)
class LoadedDataset:
    """A data set that is open: its splits, its classes and what its figures were normalized with."""

    train: Loader | None
    val: Loader | None
    test: Loader | None
    classes: tuple[str, ...]
    mean: PerChannel
    std: PerChannel
    image_size: tuple[int, int]  # height, width in pixels
    notes: tuple[str, ...] = ()  # what a person should know about how it was read


@dataclass(frozen=True)
class DataOptions:
    """What is asked of a data set: the arguments of `open_data`, as its modules get them."""

    resize: int | None
    limit: int | None
    val_share: float
    augment: bool
    noise: float
    batch_size: int
    seed: int
    device: str | torch.device
    workers: int
    splits: Sequence[str]
    normalization: tuple[PerChannel, PerChannel] | None

    def reads(self, *, measured: bool) -> tuple[str, ...]:
        """The splits that must be read: train also where the normalization is measured on it and not given."""
        train = "train" in self.splits or (measured and self.normalization is None)
        return ("train",) * train + ("test",) * ("test" in self.splits)


def open_data(
    name: str,
    path: str | Path,
    *,
    resize: int | None = None,
    limit: int | None = None,
    val_share: float = 0.0,
    augment: bool = False,
    noise: float = 0.0,
    batch_size: int,
    seed: int,
    device: str | torch.device,
    workers: int = 4,
    splits: Sequence[str] = ("train", "test"),
    normalization: tuple[PerChannel, PerChannel] | None = None,
) -> LoadedDataset:
    """Open the data set `name` that is, or goes, at `path`.

    `limit` is images per split, drawn evenly over the classes with the seed; `val_share` is then set aside from the
    training images, the same share of each class. Both pick the same images for the same seed. `splits` leaves out
    what is not needed ("train" brings the validation split with it), and `normalization` (mean, std) takes the place of
    figures that would be measured. Raises UserError where a person can do something about it.
    """
    want = DataOptions(
        resize, limit, val_share, augment, noise, batch_size, seed, device, workers, tuple(splits), normalization
    )
    opened: LoadedDataset = import_module(f"convnn.data.{name}").open_set(Path(path), want)
    return opened
