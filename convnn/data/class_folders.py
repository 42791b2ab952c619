"""Image files in class folders (`train/cat/1.png`): which classes, files and splits a directory tree contains."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from convnn.data.catalog import DatasetInfo
from convnn.data.splits import holdout_count
from convnn.errors import Exit, Problem, UserError
from convnn.text import escaped, plural

TEST_SHARE = 0.2  # of each class, in a tree without train/ and test/
IMAGENET_FIX = "put its class folders into train/ and val/, as torchvision.datasets.ImageNet unpacks the archives"


@dataclass(frozen=True)
class ClassFolders:
    """The files of a folder of class folders, class by class, in a fixed order."""

    classes: tuple[str, ...]
    files: list[str]
    labels: list[int]
    skipped_links: int


def inspect_folder(path: Path, published: DatasetInfo) -> DatasetInfo:
    """Count the images of a `folder` data set. Raises UserError if it is unusable."""
    splits = list_splits(path)
    if splits is not None:
        train, test = splits
        num_train, num_test = len(train.files), len(test.files)
    else:
        train = list_class_folders(path, path)
        num_test = sum(holdout_count(count, TEST_SHARE) for count in Counter(train.labels).values())
        num_train = len(train.files) - num_test
    image_size = published.image_size or first_image_size(train.files)
    return DatasetInfo(image_size, len(train.classes), num_train, num_test)


def inspect_imagenet(path: Path, published: DatasetInfo) -> DatasetInfo:
    """Count the images of an `imagenet` data set, unless it has ImageNet's 1,000 classes. Raises UserError."""
    folders = split_folders(path, "val")
    if folders is None:
        raise data_error(path, "contains no train/ and val/", IMAGENET_FIX)
    if len(_class_entries(folders[0], [])) == published.num_classes:
        return published  # counting 1.3 million files takes too long to check an option
    train, test = _list_both(folders, path)
    return replace(
        published, num_classes=len(train.classes), train_images=len(train.files), test_images=len(test.files)
    )


def split_folders(path: Path, test: str = "test") -> tuple[Path, Path] | None:
    """Return the folders of the training and of the test images, or None if `path` contains class folders itself.

    Raises UserError if `path` is not a folder, or if it contains only one of the two.
    """
    if not path.is_dir():
        reason = "is not a folder" if path.exists() else "does not exist"
        fix = f"set data.path to a folder that contains train/ and {test}/, or class folders of images"
        raise data_error(path, reason, fix)
    folders = path / "train", path / test
    existing = [folder for folder in folders if folder.is_dir()]
    for folder in existing:
        if folder.is_symlink():
            raise data_error(
                folder, "is a link, and links to folders are not followed", "set data.path to its destination"
            )
    if len(existing) == 1:
        (missing,) = {"train", test} - {existing[0].name}
        fix = f"add {missing}/, or set data.path to {existing[0]}"
        raise data_error(path, f"contains {existing[0].name}/ but no {missing}/", fix)
    return folders if existing else None


def list_splits(path: Path, test: str = "test") -> tuple[ClassFolders, ClassFolders] | None:
    """List train/ and test/ in `path`; None if `path` contains class folders itself.

    Raises UserError as `split_folders` and `list_class_folders` do, or if the two have different classes.
    """
    folders = split_folders(path, test)
    return _list_both(folders, path) if folders else None


def _list_both(folders: tuple[Path, Path], root: Path) -> tuple[ClassFolders, ClassFolders]:
    train, test = (list_class_folders(folder, root) for folder in folders)
    if train.classes != test.classes:
        added, missing = set(test.classes) - set(train.classes), set(train.classes) - set(test.classes)
        reasons = []
        if added:
            reasons.append(f"contains {_join(added)}, which train/ does not")
        if missing:
            reasons.append(f"lacks {_join(missing)}")
        raise data_error(folders[1], " and ".join(reasons), "both need the same class folders")
    return train, test


def list_class_folders(folder: Path, root: Path) -> ClassFolders:
    """List every file of the class folders in `folder`, without hidden ones. Raises UserError if a class is empty.

    Links to folders are not followed, and links to files only if their destination is inside `root`.
    """
    real_root = os.path.realpath(root)
    links: list[str] = []
    files: list[str] = []
    labels: list[int] = []
    classes = []
    for label, entry in enumerate(_class_entries(folder, links)):
        class_files = sorted(_walk_files(entry.path, real_root, links))
        if not class_files:
            raise data_error(entry.path, "contains no image", "add images, or remove the folder")
        classes.append(escaped(entry.name))  # recorded with the run
        files += class_files
        labels += [label] * len(class_files)
    if not classes:
        reason = "contains no class folders"
        if links:
            reason += f" ({_join(links)}: links to folders are not followed)"
        raise data_error(folder, reason, "put the images of each class into a folder of its own")
    return ClassFolders(tuple(classes), files, labels, len(links))


def first_image_size(files: Sequence[str]) -> tuple[int, int]:
    """Return height and width, from the header, of the first file that PIL can open. Raises UserError if none is."""
    from PIL import Image

    for file in files:
        try:
            with Image.open(file) as image:
                return image.height, image.width
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue  # reported when the images are read
    raise data_error(Path(files[0]).parent, "contains no file that is an image", "set data.path to a tree of images")


def links_note(path: Path, count: int) -> list[str]:
    """Return the note about links that were skipped; empty without any."""
    return [f"not followed: {plural(count, 'link')} out of {path} or to a folder"] if count else []


def data_error(path: str | Path, reason: str, fix: str) -> UserError:
    """Return the error about data that is missing or damaged: "PATH REASON"."""
    return UserError(Problem(f"{path} {reason}", key="data.path", value=str(path), fix=fix), Exit.DATA)


def _class_entries(folder: Path, links: list[str]) -> list[os.DirEntry[str]]:
    """Return the class folders of `folder` by name. Names of links are appended to `links`."""
    entries = []
    for entry in _scan(folder):
        if entry.is_symlink():
            links.append(entry.name)
        elif entry.is_dir():
            entries.append(entry)
    return sorted(entries, key=lambda entry: entry.name)


def _walk_files(folder: str, root: str, links: list[str]) -> Iterator[str]:
    """Yield regular files at any depth: opening a pipe or a device could block forever."""
    for entry in _scan(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk_files(entry.path, root, links)
        elif entry.is_symlink() and not os.path.realpath(entry.path).startswith(root + os.sep):
            links.append(entry.name)
        elif entry.is_file():
            yield entry.path
        elif entry.is_symlink():  # to a folder, or dangling
            links.append(entry.name)


def _scan(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise data_error(folder, f"cannot be read: {error.strerror}", "check its permissions") from error


def _join(names: set[str] | list[str], limit: int = 5) -> str:
    text = ", ".join(sorted(names)[:limit])
    return f"{text} and {len(names) - limit} more" if len(names) > limit else text
