"""The table of data sets, and what is known of one without decoding its images. Loads neither torch nor numpy."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from pkgutil import resolve_name

from convnn.errors import Problem, UserError


@dataclass(frozen=True)
class DatasetInfo:
    """Sizes of a data set. What is not known is None, and `problem` says why."""

    image_size: tuple[int, int] | None = None  # height, width in pixels
    num_classes: int | None = None
    train_images: int | None = None  # before data.limit and data.val_share
    test_images: int | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class Download:
    """What a data set is downloaded as."""

    folder: str  # that the archive unpacks to
    archive: str
    megabytes: int


@dataclass(frozen=True)
class Dataset:
    """A row of the table. Functions are named as "module:function", so that the table loads none of them."""

    open: str  # (path, DataOptions) -> LoadedDataset
    published: DatasetInfo = DatasetInfo()
    inspect: str | None = None  # (path, published) -> DatasetInfo: counts files, loads no torch, may raise UserError
    download: Download | None = None


DATASETS = {
    "cifar10": Dataset(
        open="convnn.data.cifar:open_cifar10",
        published=DatasetInfo((32, 32), 10, 50_000, 10_000),
        download=Download("cifar-10-batches-py", "cifar-10-python.tar.gz", 170),
    ),
    "cifar100": Dataset(
        open="convnn.data.cifar:open_cifar100",
        published=DatasetInfo((32, 32), 100, 50_000, 10_000),
        download=Download("cifar-100-python", "cifar-100-python.tar.gz", 169),
    ),
    "imagenet": Dataset(
        open="convnn.data.imagenet:open_imagenet",
        published=DatasetInfo((224, 224), 1000, 1_281_167, 50_000),
        inspect="convnn.data.class_folders:inspect_imagenet",
    ),
    "digits": Dataset(
        open="convnn.data.digits:open_digits",
        published=DatasetInfo((32, 32), 10, 1442, 355),
    ),
    "folder": Dataset(
        open="convnn.data.folder:open_folder",
        inspect="convnn.data.class_folders:inspect_folder",
    ),
}


SETTLED = 1.0  # seconds after which a later change of a folder is certain to show in its modification time
SPLITS = ("train", "val", "test")  # folders that hold class folders
Stamps = tuple[tuple[str, int], ...]


def published_info(name: object, resize: int | None = None) -> DatasetInfo:
    """Return the published sizes of a data set; all None for one that has none, or that this version does not know."""
    info = DATASETS[name].published if isinstance(name, str) and name in DATASETS else DatasetInfo()
    return replace(info, image_size=(resize, resize)) if resize else info


def dataset_info(name: str, path: str | Path, resize: int | None = None) -> DatasetInfo:
    """Return the sizes of the data set `name` at `path`.

    Files are counted where there are no published sizes, once and again when a folder changes; at most one image
    header is read. An error becomes the `problem` of what is returned, and so does a download that is still to come.
    """
    dataset, info = DATASETS[name], published_info(name, resize)
    if dataset.download is not None:
        return replace(info, problem=_download_problem(Path(path), dataset.download))
    if dataset.inspect is None:
        return info
    stamps = _stamps(path)
    if max((changed for _, changed in stamps), default=0) > time.time_ns() - SETTLED * 1e9:
        return _inspect(name, str(path), resize)
    return _inspect_once(name, str(path), resize, stamps)


def _stamps(path: str | Path) -> Stamps:
    """The folder, its split folders and the class folders, with their modification times in ns; () without a folder.

    The time of a class folder tells when an image was added or removed; the images are not listed.
    """
    try:
        root = os.path.realpath(path)
        folders = _subfolders(root)
        classes = [folder for split in folders if Path(split).name in SPLITS for folder in _subfolders(split)]
        return tuple((folder, Path(folder).stat().st_mtime_ns) for folder in (root, *folders, *classes))
    except OSError:
        return ()


def _subfolders(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))


def _inspect(name: str, path: str, resize: int | None) -> DatasetInfo:
    inspect, info = DATASETS[name].inspect, published_info(name, resize)
    assert inspect is not None
    try:
        inspected: DatasetInfo = resolve_name(inspect)(Path(path), info)
    except UserError as error:
        return replace(info, problem=error.problems[0])
    return inspected


@lru_cache(maxsize=16)
def _inspect_once(name: str, path: str, resize: int | None, stamps: Stamps) -> DatasetInfo:
    return _inspect(name, path, resize)


def _download_problem(path: Path, download: Download) -> Problem | None:
    if (path / download.folder).is_dir() or (path / download.archive).is_file():
        return None
    message = (
        f"{path} contains neither {download.folder}/ nor {download.archive}: "
        f"the run begins by downloading {download.megabytes} MB"
    )
    return Problem(message, key="data.path", value=str(path), fix=f"without a network, put {download.archive} there")
