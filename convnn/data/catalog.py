"""The table of data sets, and what is known of one without decoding its images. Loads neither torch nor numpy."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name

from convnn.data.splits import holdout_count
from convnn.errors import Problem, UserError
from convnn.text import joined, plural


@dataclass(frozen=True)
class DatasetInfo:
    """Sizes of a data set. What is not known is None, and `problem` says why."""

    image_size: tuple[int, int] | None = None  # height, width in pixels
    num_classes: int | None = None
    train_images: int | None = None  # before data.limit and data.val_share
    test_images: int | None = None
    problem: Problem | None = None
    val_images: int | None = None  # of a validation folder
    classes: tuple[str, ...] = ()  # their names, where folders have them
    download: Download | None = None  # that the run begins with
    notes: tuple[str, ...] = ()  # how the folders are read, and what is passed over


@dataclass(frozen=True)
class Download:
    """What a data set is downloaded as."""

    folder: str  # that the archive unpacks to
    archive: str
    bytes: int

    @property
    def megabytes(self) -> int:
        return round(self.bytes / 1e6)


@dataclass(frozen=True)
class Dataset:
    """A row of the table. Functions are named as "module:function", so that the table loads none of them."""

    open: str  # (path, DataOptions) -> LoadedDataset
    published: DatasetInfo = DatasetInfo()
    inspect: str | None = None  # (path, published, visited) -> DatasetInfo: counts files without torch; UserError
    download: Download | None = None


DATASETS = {
    "cifar10": Dataset(
        open="convnn.data.cifar:open_cifar10",
        published=DatasetInfo((32, 32), 10, 50_000, 10_000),
        download=Download("cifar-10-batches-py", "cifar-10-python.tar.gz", 170_498_071),
    ),
    "cifar100": Dataset(
        open="convnn.data.cifar:open_cifar100",
        published=DatasetInfo((32, 32), 100, 50_000, 10_000),
        download=Download("cifar-100-python", "cifar-100-python.tar.gz", 169_001_437),
    ),
    "imagenet": Dataset(
        open="convnn.data.imagenet:open_imagenet",
        published=DatasetInfo((224, 224), 1000, 1_281_167, 50_000),
        inspect="convnn.data.class_folders:inspect_imagenet",
    ),
    "digits": Dataset(open="convnn.data.digits:open_digits", published=DatasetInfo((32, 32), 10, 1442, 355)),
    "folder": Dataset(open="convnn.data.folder:open_folder", inspect="convnn.data.class_folders:inspect_folder"),
}


SETTLED = 1.0  # seconds after which a later change of a folder is certain to show in its modification time
MOST_INSPECTIONS = 16  # that are remembered
MOST_CLASS_NAMES = 5  # in a summary
Stamps = tuple[tuple[str, int], ...]  # folders with their modification times in ns

_inspections: dict[tuple[str, str, int | None], tuple[Stamps, DatasetInfo]] = {}


def published_info(name: object, resize: int | None = None) -> DatasetInfo:
    """Return the published sizes of a data set; all None for one that has none, or that this version does not know."""
    info = DATASETS[name].published if isinstance(name, str) and name in DATASETS else DatasetInfo()
    return replace(info, image_size=(resize, resize)) if resize else info


def dataset_info(name: str, path: str | Path, resize: int | None = None) -> DatasetInfo:
    """Return the sizes of the data set `name` at `path`, and whether it must be downloaded first.

    Files are counted where there are no published sizes, once and again when a folder changes; at most one image is
    opened. An error becomes the `problem` of what is returned.
    """
    dataset, info, root = DATASETS[name], published_info(name, resize), Path(path).expanduser()
    if dataset.download is not None:
        return _with_download(info, root, dataset.download)
    if dataset.inspect is None:
        return info
    key = name, str(root.absolute()), resize
    if key in _inspections and _stamps([folder for folder, _ in _inspections[key][0]]) == _inspections[key][0]:
        return _inspections[key][1]
    visited: list[str] = []
    info = _inspect(dataset.inspect, root, info, visited)
    stamps = _stamps(visited)
    if stamps and max(changed for _, changed in stamps) <= time.time_ns() - SETTLED * 1e9:
        while len(_inspections) >= MOST_INSPECTIONS:
            _inspections.pop(next(iter(_inspections)), None)
        _inspections[key] = stamps, info
    return info


def data_summary(
    name: str, path: str | Path, info: DatasetInfo, *, limit: int | None = None, val_share: float = 0.0
) -> str:
    """Return in a line what is known of a data set, for `--dry-run` and the form; nothing is read.

    "2 classes (cat, dog): 48 train, 12 test images, no val", or what is missing or will be downloaded, and its size.
    `info` is what `dataset_info` returned for it.
    """
    if info.problem is not None:
        return f"not usable: {info.problem.message}"
    if info.num_classes is None:
        return "the images are not counted yet"
    images = images_text(info.num_classes, split_sizes(info, limit, val_share), info.classes)
    if info.download is not None:
        return f"{name} is not in {path}: {info.download.megabytes} MB will be downloaded ({images})"
    return images


def split_sizes(info: DatasetInfo, limit: int | None = None, val_share: float = 0.0) -> dict[str, int]:
    """Return the images of each split that a run has, as far as they are known.

    Those held out by `val_share` are counted as if the classes were equally large.
    """
    counts = {"train": info.train_images, "val": info.val_images, "test": info.test_images}
    sizes = {split: min(count, limit or count) for split, count in counts.items() if count is not None}
    if val_share > 0 and "train" in sizes and "val" not in sizes and info.num_classes:
        per_class, larger = divmod(sizes["train"], info.num_classes)
        held_out = larger * holdout_count(per_class + 1, val_share)
        held_out += (info.num_classes - larger) * holdout_count(per_class, val_share)
        sizes |= {"train": sizes["train"] - held_out, "val": held_out}
    return sizes


def images_text(num_classes: int, images: Mapping[str, int], classes: Sequence[str] = ()) -> str:
    """Return "2 classes (cat, dog): 48 train, 12 test images, no val" for the images of each split."""
    text = plural(num_classes, "class", "classes")
    if classes:
        text += f" ({joined(classes, MOST_CLASS_NAMES)})"
    counts = ", ".join(f"{images[split]:,} {split}" for split in ("train", "val", "test") if split in images)
    if counts:
        text += f": {counts} images"
    return text if "val" in images else f"{text}, no val"


def _stamps(folders: Iterable[str]) -> Stamps:
    """Return the folders with their modification times; () where one is gone.

    The time of a class folder tells when an image was added or removed; the images are not listed.
    """
    try:
        return tuple((folder, Path(folder).stat().st_mtime_ns) for folder in sorted(set(folders)))
    except OSError:
        return ()


def _inspect(function: str, path: Path, info: DatasetInfo, visited: list[str]) -> DatasetInfo:
    try:
        inspected: DatasetInfo = resolve_name(function)(path, info, visited)
    except UserError as error:
        return replace(info, problem=error.problems[0])
    return inspected


def _with_download(info: DatasetInfo, path: Path, download: Download) -> DatasetInfo:
    """Return what is known of a data set that can be downloaded: is it there, and is its archive whole?"""
    archive = path / download.archive
    if (path / download.folder).is_dir():
        return info
    try:
        size = archive.stat().st_size
    except OSError:
        return replace(info, download=download)
    if size == download.bytes:
        return info
    message = f"{archive} is damaged or incomplete: it has {size:,} bytes, not {download.bytes:,}"
    problem = Problem(message, key="data.path", value=str(path), fix="remove it, so that it is downloaded again")
    return replace(info, problem=problem)
