"""The table of data sets, and what is known of one without decoding its images. Loads neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name

from convnn.errors import Problem, UserError
from convnn.text import escaped


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


def published_info(name: object) -> DatasetInfo:
    """The published sizes of a data set; all None for one that has none, or that this version does not know."""
    return DATASETS[name].published if isinstance(name, str) and name in DATASETS else DatasetInfo()


def dataset_info(name: str, path: str | Path, resize: int | None = None) -> DatasetInfo:
    """Return the sizes of the data set `name` at `path`.

    Files are counted where there are no published sizes, and at most one image header is read. An error becomes the
    `problem` of what is returned, and so does a download that is still to come.
    """
    dataset, path = DATASETS[name], Path(path)
    info = replace(dataset.published, image_size=(resize, resize)) if resize else dataset.published
    if dataset.download is not None:
        return replace(info, problem=_download_problem(path, dataset.download))
    if dataset.inspect is None:
        return info
    try:
        inspected: DatasetInfo = resolve_name(dataset.inspect)(path, info)
    except UserError as error:
        return replace(info, problem=error.problems[0])
    return inspected


def _download_problem(path: Path, download: Download) -> Problem | None:
    if (path / download.folder).is_dir() or (path / download.archive).is_file():
        return None
    message = (
        f"{escaped(path)} contains neither {download.folder}/ nor {download.archive}: "
        f"the run begins by downloading {download.megabytes} MB"
    )
    return Problem(message, key="data.path", value=str(path), fix=f"without a network, put {download.archive} there")
