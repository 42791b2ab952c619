"""Image data sets as normalized batches on the device; `open_data` opens any of them by name.

To add one, write `convnn/data/NAME.py` with a function `open_NAME(path, options) -> LoadedDataset` and add a row to
`convnn/data/catalog.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from convnn.data.catalog import DATASETS
from convnn.data.share import WHOLE_BATCH, BatchShare

if TYPE_CHECKING:
    import torch

    from convnn.data.loaders import Loader

PerChannel = tuple[float, ...]
Normalization = tuple[PerChannel, PerChannel]  # mean and standard deviation of pixels counted from 0 to 1


@dataclass(frozen=True)
class LoadedDataset:
    """The loaders of a data set's splits, its class names, and the normalization of its images."""

    train: Loader | None
    val: Loader | None
    test: Loader | None
    classes: tuple[str, ...]
    mean: PerChannel
    std: PerChannel
    image_size: tuple[int, int]  # height, width in pixels
    notes: tuple[str, ...] = ()  # for the person: how the images were split, what was passed over
    warnings: tuple[str, ...] = ()  # images that cannot be read
    digests: Mapping[str, str] = field(default_factory=dict)  # SHA-256 by split, of pixels and labels or of the files
    draws_test: bool = False  # the test images are a share of one tree, drawn by the split seed

    @property
    def splits(self) -> dict[str, Loader]:
        loaders = {"train": self.train, "val": self.val, "test": self.test}
        return {name: loader for name, loader in loaders.items() if loader is not None}


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How a data set is opened."""

    resize: int | None = None  # side of the square that images are resized to, in pixels
    limit: int | None = None  # images per split, drawn evenly over the classes
    val_share: float = 0.0  # of each class of the training images, held out for validation after `limit`
    augment: bool = False  # random crops and horizontal flips of the training images
    noise: float = 0.0  # standard deviation of Gaussian noise added to normalized training images
    batch_size: int
    seed: int  # of the order of every epoch
    split_seed: int  # of what is drawn: `limit`, the images held out, the test images of a tree without splits
    device: str | torch.device
    workers: int = 4  # processes that decode images, where they are decoded during training
    drop_last: bool = False  # leave out a smaller last training batch
    splits: tuple[str, ...] = ("train", "test")  # "train" includes the validation split
    normalization: Normalization | None = None  # to use instead of the published or the measured one
    share: BatchShare = WHOLE_BATCH  # of each training batch that this process reads

    @property
    def for_evaluation(self) -> DataOptions:
        """The options of images that are evaluated: whole batches, which have no micro-batches, as they are."""
        share = replace(self.share, micro_batches=1)
        return replace(self, augment=False, noise=0.0, drop_last=False, share=share)

    def splits_to_read(self, *, measures_normalization: bool) -> tuple[str, ...]:
        """Return the splits to read: "train" also where the normalization must be measured on the training images."""
        measure = measures_normalization and self.normalization is None
        return tuple(split for split in ("train", "test") if split in self.splits or (split == "train" and measure))


def open_data(name: str, path: str | Path, options: DataOptions) -> LoadedDataset:
    """Open the data set `name` at `path`; CIFAR is downloaded to it where it is missing.

    Raises UserError where the data is missing or damaged, does not fit into memory, holds too few images, or has a
    validation folder beside a `val_share`.
    """
    dataset: LoadedDataset = resolve_name(DATASETS[name].open)(Path(path).expanduser(), options)
    return dataset
