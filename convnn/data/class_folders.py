"""Folders with one subfolder per class: which images and splits they hold."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from convnn.errors import Exit, Problem, UserError
from convnn.text import escaped

TEST_SHARE = 0.2  # of each class, in a tree that has no train/ and test/


@dataclass(frozen=True)
class Listing:
    """The files of one folder of class folders, class after class, in a fixed order."""

    classes: tuple[str, ...]  # as they may be shown: control characters escaped
    files: list[str]
    labels: list[int]
    links: int  # links that were not followed


def split_folders(path: Path, test: str = "test") -> tuple[Path, Path] | None:
    """The folders of the training and the test images, or None if `path` holds class folders itself.

    Raises UserError if `path` is no folder, or if it has one of the two without the other.
    """
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise unusable(
            path, what, f"set data.path to a folder that holds train/ and {test}/, or class folders of images"
        )
    train_folder, test_folder = path / "train", path / test
    found = [folder for folder in (train_folder, test_folder) if folder.is_dir()]
    if linked := next((folder for folder in found if folder.is_symlink()), None):
        raise unusable(linked, "is a link, and links to folders are not followed", "set data.path to where it points")
    if len(found) == 1:
        missing = ({"train", test} - {found[0].name}).pop()
        fix = f"add {missing}/, or set data.path to {escaped(found[0])}"
        raise unusable(path, f"has {found[0].name}/ and no {missing}/", fix)
    return (train_folder, test_folder) if found else None


def pair(path: Path, test: str = "test") -> tuple[Listing, Listing] | None:
    """The listings of train/ and test/ in `path`, of the same classes; None if `path` holds class folders itself."""
    folders = split_folders(path, test)
    if folders is None:
        return None
    training, testing = (listing(folder, path) for folder in folders)
    if training.classes != testing.classes:
        new, lacking = set(testing.classes) - set(training.classes), set(training.classes) - set(testing.classes)
        said = [f"has {_some(new)}, which train/ has not"] * bool(new) + [f"lacks {_some(lacking)}"] * bool(lacking)
        raise unusable(folders[1], " and ".join(said), "both need the same class folders")
    return training, testing


def listing(folder: Path, root: Path) -> Listing:
    """Every file of the class folders in `folder`, hidden ones left out. Raises UserError if a class has no file.

    Links to folders are not followed, and links to files only where they stay inside `root`.
    """
    inside = os.path.realpath(root)
    links: list[str] = []
    files: list[str] = []
    labels: list[int] = []
    classes = []
    for label, entry in enumerate(_class_folders(folder, links)):
        classes.append(escaped(entry.name))
        files += sorted(_files(entry.path, inside, links))
        labels += [label] * (len(files) - len(labels))
        if label not in labels[-1:]:
            raise unusable(entry.path, "holds no image", "add images, or remove the folder")
    if not classes:
        said = f" ({_some(links)}: links to folders are not followed)" if links else ""
        raise unusable(folder, f"holds no class folders{said}", "put the images of each class into a folder of its own")
    return Listing(tuple(classes), files, labels, len(links))


def first_size(files: Sequence[str]) -> tuple[int, int]:
    """Height and width of the first file that PIL knows, from its header. Raises UserError if there is none."""
    from PIL import Image

    for file in files:
        try:
            with Image.open(file) as image:
                return image.height, image.width
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue  # not an image: it is counted when the images are read
    raise unusable(Path(files[0]).parent, "holds no file that is an image", "set data.path to a tree of images")


def aside(count: int, share: float) -> int:
    """How many of a class are set aside: the nearest whole number, and never all of them."""
    return min(int(count * share + 0.5), max(count - 1, 0))


def unusable(path: str | Path, what: str, fix: str) -> UserError:
    """The error of data that is missing or damaged."""
    return UserError(Problem(f"{escaped(path)} {what}", key="data.path", value=str(path), fix=fix), Exit.DATA)


def _class_folders(folder: Path, links: list[str]) -> list[os.DirEntry[str]]:
    found = []
    for entry in _scan(folder):
        if entry.is_symlink():
            links.append(escaped(entry.name))
        elif entry.is_dir():
            found.append(entry)
    return sorted(found, key=lambda entry: entry.name)


def _files(folder: str, inside: str, links: list[str]) -> Iterator[str]:
    """Regular files at any depth: opening a pipe or a device could wait for ever."""
    for entry in _scan(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path, inside, links)
        elif entry.is_symlink() and not os.path.realpath(entry.path).startswith(inside + os.sep):
            links.append(escaped(entry.name))
        elif entry.is_file():
            yield entry.path
        elif entry.is_symlink():  # to a folder, or to nothing
            links.append(escaped(entry.name))


def _scan(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise unusable(folder, f"cannot be read: {error.strerror}", "check its permissions") from error


def _some(names: set[str] | list[str], most: int = 5) -> str:
    shown = sorted(names)[:most]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
