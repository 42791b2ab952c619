"""What can be known of a data set without decoding an image: its sizes, its classes and whether it is there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from convnn.data.class_folders import (
    TEST_SHARE,
    _class_folders,
    aside,
    first_size,
    listing,
    pair,
    split_folders,
    unusable,
)
from convnn.errors import Problem, UserError
from convnn.text import escaped


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set beforehand; None is what is not known, and `problem` says why."""

    image_size: tuple[int, int] | None  # height, width in pixels
    num_classes: int | None
    train_images: int | None  # before data.limit and data.val_share
    test_images: int | None
    problem: Problem | None = None


KNOWN = {
    "digits": DatasetInfo((32, 32), 10, 1442, 355),
    "cifar10": DatasetInfo((32, 32), 10, 50_000, 10_000),
    "cifar100": DatasetInfo((32, 32), 100, 50_000, 10_000),
    "imagenet": DatasetInfo((224, 224), 1000, 1_281_167, 50_000),
}
# the folder that the archive holds, the archive, and its size in MB
CIFAR = {
    "cifar10": ("cifar-10-batches-py", "cifar-10-python.tar.gz", 170),
    "cifar100": ("cifar-100-python", "cifar-100-python.tar.gz", 169),
}


IMAGENET_FIX = "put its class folders into train/ and val/, as torchvision.datasets.ImageNet unpacks the archives"


def dataset_info(name: str, path: str | Path, resize: int | None = None) -> DatasetInfo:
    """What is known of the data set `name` at `path`; at most one image header is read, and nothing is raised."""
    path = Path(path)
    known = KNOWN.get(name, DatasetInfo(None, None, None, None))
    if resize:
        known = replace(known, image_size=(resize, resize))
    try:
        if name == "folder":
            return _folder(path, known)
        if name in CIFAR:
            return replace(known, problem=_to_download(path, *CIFAR[name]))
        return _imagenet(path, known) if name == "imagenet" else known
    except UserError as error:
        return replace(known, problem=error.problems[0])


def _folder(path: Path, known: DatasetInfo) -> DatasetInfo:
    both = pair(path)
    if both is None:
        tree = listing(path, path)
        test = sum(aside(count, TEST_SHARE) for count in Counter(tree.labels).values())
        train, first = len(tree.files) - test, tree
    else:
        first = both[0]
        train, test = len(first.files), len(both[1].files)
    return DatasetInfo(known.image_size or first_size(first.files), len(first.classes), train, test)


def _imagenet(path: Path, known: DatasetInfo) -> DatasetInfo:
    folders = split_folders(path, "val")
    if folders is None:
        raise unusable(path, "holds no train/ and val/", IMAGENET_FIX)
    if len(_class_folders(folders[0], [])) == known.num_classes:
        return known  # counting 1.3 million files is no way to check an option
    both = pair(path, "val")
    assert both is not None
    return replace(
        known, num_classes=len(both[0].classes), train_images=len(both[0].files), test_images=len(both[1].files)
    )


def _to_download(path: Path, folder: str, archive: str, megabytes: int) -> Problem | None:
    if (path / folder).is_dir() or (path / archive).is_file():
        return None
    message = f"{escaped(path)} holds neither {folder}/ nor {archive}: the run begins by downloading {megabytes} MB"
    fix = f"without a network, put {archive} there first"
    return Problem(message, key="data.path", value=str(path), fix=fix)
