"""Image files in class folders (`train/cat/1.png`): which classes, files and splits a directory tree contains.

Loads neither numpy nor Pillow before the size of an image is needed.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from convnn.data.catalog import DatasetInfo
from convnn.data.splits import holdout_count
from convnn.errors import Exit, Problem, UserError
from convnn.text import escaped, joined, plural

TEST_SHARE = 0.2  # of each class, in a tree without split folders
MAX_NAMES, MAX_SUFFIXES = 5, 4  # that a message lists
IMAGE_FORMATS = {  # by their names in Pillow, with the suffixes of their files
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
SUFFIXES = tuple(suffix for suffixes in IMAGE_FORMATS.values() for suffix in suffixes)
SPECIAL, FOLDER = "special", "folder"  # counted beside suffixes: pipes and sockets; folders named x.png
SPLIT_WORDS = {
    "train": ("train", "training", "trainset", "traindata"),
    "val": ("val", "valid", "validation", "valset", "validset"),
    "test": ("test", "testing", "testset", "testdata", "eval", "evaluation"),
}
_SPLIT_OF_WORD = {word: split for split, words in SPLIT_WORDS.items() for word in words}
FILLER = frozenset(("set", "data", "dataset", "images", "image", "imgs", "img", "split", "folder"))
NOT_CLASSES = frozenset(("__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information"))
IMAGE_WORDS = frozenset(("images", "image", "imgs", "img", "photos", "pictures"))
MASK_WORDS = frozenset(
    ("masks", "mask", "labels", "annotations", "segmentation", "segmentations", "groundtruth", "ground_truth", "gt")
)
DEEPEST_ROOT = 3  # levels below data.path at which split folders are recognized
IMAGENET_FIX = "put its class folders into train/ and val/, as torchvision.datasets.ImageNet unpacks the archives"


@dataclass(frozen=True)
class ClassFolders:
    """The image files of a folder of class folders, class by class, in a fixed order."""

    classes: tuple[str, ...]
    files: list[str]
    labels: list[int]
    skipped_links: int = 0
    skipped_files: Counter[str] = field(default_factory=Counter)  # suffix -> files of class folders that are no images
    stray_images: int = 0  # beside the class folders


@dataclass(frozen=True)
class ImageFolders:
    """The splits of a data set of class folders; "train" alone where the tree is one that is still to be split."""

    root: Path  # data.path, or the folder below it that contains the splits
    splits: dict[str, ClassFolders]
    notes: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, the same in every split."""
        return self.splits["train"].classes


def inspect_folder(path: Path, published: DatasetInfo, visited: list[str]) -> DatasetInfo:
    """Count the images of a `folder` data set. Raises UserError if it is unusable. `visited` gets its folders."""
    from convnn.data.images import first_image_size

    folders = list_image_folders(path, visited)
    train = folders.splits["train"]
    counts = {split: len(listed.files) for split, listed in folders.splits.items()}
    notes = folders.notes
    if "test" not in folders.splits:
        counts["test"] = sum(holdout_count(count, TEST_SHARE) for count in Counter(train.labels).values())
        if not counts["test"]:
            raise too_few_to_split(path)
        counts["train"] -= counts["test"]
        notes = (*notes, holdout_note())
    image_size = published.image_size or first_image_size(train.files)
    return DatasetInfo(
        image_size,
        len(folders.classes),
        counts["train"],
        counts["test"],
        val_images=counts.get("val"),
        classes=folders.classes,
        notes=notes,
    )


def inspect_imagenet(path: Path, published: DatasetInfo, visited: list[str]) -> DatasetInfo:
    """Count the images of an `imagenet` data set, unless it has ImageNet's 1,000 classes. Raises UserError."""
    tree = FolderTree(visited)
    layout = find_layout(path, tree)
    if layout is None:
        raise data_error(path, "contains no train/ and val/", IMAGENET_FIX)
    if len(tree.listing(layout.folders["train"]).folders) == published.num_classes:
        return published  # counting 1.3 million files takes too long to check an option
    folders = _list_layout(layout, tree)
    splits = folders.splits
    return replace(
        published,
        num_classes=len(folders.classes),
        train_images=len(splits["train"].files),
        test_images=len(splits["test"].files),
        val_images=len(splits["val"].files) if "val" in splits else None,
        classes=folders.classes,
        notes=folders.notes,
    )


def list_image_folders(path: Path, visited: list[str] | None = None) -> ImageFolders:
    """List the images of `path`: of its split folders, or else of its class folders as "train" alone.

    Raises UserError where the folders are no data set, with the path or the name that would make them one.
    """
    tree = FolderTree([] if visited is None else visited)
    layout = find_layout(path, tree)
    if layout is not None:
        return _list_layout(layout, tree)
    _check_tree(path, tree)
    listed = list_class_folders(path, path, tree)
    return ImageFolders(path, {"train": listed}, tuple(_skip_notes(path, [listed])))


# -- which folders are the splits --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    """What a folder contains, without hidden entries: names in order."""

    folders: tuple[str, ...]
    links: tuple[str, ...]  # to folders, which are not followed
    images: int


class FolderTree:
    """Lists folders, each once, and remembers which in `visited`."""

    def __init__(self, visited: list[str]) -> None:
        self.visited = visited
        self._listings: dict[Path, Listing] = {}

    def listing(self, folder: Path) -> Listing:
        """Return what a folder contains. Raises UserError where it cannot be read."""
        if folder not in self._listings:
            self._listings[folder] = self._list(folder)
        return self._listings[folder]

    def entries(self, folder: str | Path) -> list[os.DirEntry[str]]:
        """Return the entries of a folder that are not hidden. Raises UserError where it cannot be read."""
        self.visited.append(str(folder))
        try:
            with os.scandir(folder) as entries:
                return [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise data_error(folder, f"cannot be read: {error.strerror}", "check its permissions") from error

    def _list(self, folder: Path) -> Listing:
        folders: list[str] = []
        links: list[str] = []
        images = 0
        for entry in self.entries(folder):
            if entry.is_dir():
                if entry.name.lower() not in NOT_CLASSES:
                    (links if entry.is_symlink() else folders).append(entry.name)
            else:
                images += is_image_name(entry.name)
        return Listing(tuple(sorted(folders)), tuple(sorted(links)), images)


@dataclass(frozen=True)
class Layout:
    """The folder of class folders of "train", of "test" and, if any, of "val"."""

    root: Path
    folders: dict[str, Path]
    notes: tuple[str, ...] = ()


def find_layout(path: Path, tree: FolderTree) -> Layout | None:
    """Return the split folders of `path`, also where it is a level too high; None if it contains class folders itself.

    Names are compared without case: train/ and test/, Training/ and Testing/, train/ and valid/, seg_train/ and
    seg_test/. Without a test folder the validation folder holds the test images. Raises UserError if `path` is no
    folder, or if its split folders are incomplete or ambiguous.
    """
    if not path.is_dir():
        reason = "is not a folder" if path.exists() else "does not exist"
        fix = "use --data_path with a folder that contains train/ and test/, or class folders of images"
        raise data_error(path, reason, fix)
    root = path
    for _ in range(DEEPEST_ROOT):
        names = _split_names(root, tree)
        if names is not None:
            return _layout(root, names, tree)
        listing = tree.listing(root)
        if len(listing.folders) != 1 or listing.images:
            break
        root /= listing.folders[0]
    _check_split_names(path, tree)
    return None


def split_of(name: str) -> tuple[str, str] | None:
    """Return the split that a folder's name stands for and the rest of the name: "seg_train" -> ("train", "seg")."""
    words = [word for word in re.findall(r"[^\W\d_]+", name.lower()) if word not in FILLER]
    splits = [word for word in words if word in _SPLIT_OF_WORD]
    if len(splits) != 1:
        return None
    return _SPLIT_OF_WORD[splits[0]], " ".join(word for word in words if word != splits[0])


def _split_names(folder: Path, tree: FolderTree) -> dict[str, list[str]] | None:
    """Return the names of a folder's split folders by split, if it has one to train and one to test with, else None.

    Their names agree in what is not the split's: seg_train/ and seg_test/.
    """
    listing = tree.listing(folder)
    groups: dict[str, dict[str, list[str]]] = {}
    for name in (*listing.folders, *listing.links):
        if (split := split_of(name)) is not None:
            groups.setdefault(split[1], {}).setdefault(split[0], []).append(name)
    complete = [group for _, group in sorted(groups.items()) if "train" in group and len(group) > 1]
    return complete[0] if complete else None


def _layout(root: Path, names: dict[str, list[str]], tree: FolderTree) -> Layout:
    for split, alternatives in names.items():
        if len(alternatives) > 1:
            fix = "leave one of them, or put the images into one folder"
            raise data_error(root, f"contains {_join([f'{name}/' for name in alternatives])} for {split}", fix)
    folders = {split: root / names[split][0] for split in SPLIT_WORDS if split in names}
    for folder in folders.values():
        if folder.is_symlink():
            fix = "use --data_path with its destination"
            raise data_error(folder, "is a link, and links to folders are not followed", fix)
    notes = []
    if "test" in folders and "val" in folders and not tree.listing(folders["test"]).folders:
        notes.append(f"{folders.pop('test').name}/ has no class folders: its images have no labels and are not used")
    if "test" not in folders:
        folders["test"] = folders.pop("val")
        notes.append(f"there is no test folder with labels: the images of {folders['test'].name}/ are the test images")
    used = {name for alternatives in names.values() for name in alternatives}
    if unused := [f"{name}/" for name in tree.listing(root).folders if name not in used]:
        notes.append(f"not used: {_join(unused)} in {root}")
    return Layout(root, {split: _inner(folder, tree) for split, folder in folders.items()}, tuple(notes))


def _inner(folder: Path, tree: FolderTree) -> Path:
    """Return the folder of class folders of a split: seg_train/seg_train, as some archives unpack, or the folder."""
    listing = tree.listing(folder)
    if len(listing.folders) == 1 and not listing.images:
        split, inner_split = split_of(folder.name), split_of(listing.folders[0])
        if split and inner_split and split[0] == inner_split[0]:
            return folder / listing.folders[0]
    return folder


def _check_split_names(path: Path, tree: FolderTree) -> None:
    """Raise UserError if `path` contains some split folder and no complete set of them: it is no class."""
    names = {name: split[0] for name in tree.listing(path).folders if (split := split_of(name)) and not split[1]}
    if not names:
        return
    name, first_split = next(iter(names.items()))
    missing = "train/" if first_split != "train" else "test/ or val/"
    fix = f"add {missing}, use --data_path {shlex.quote(str(path / name))}, or rename {name}/ if it is a class"
    raise data_error(path, f"contains {_join([f'{name}/' for name in names])} but no {missing}", fix)


def _check_tree(path: Path, tree: FolderTree) -> None:
    """Raise UserError if the subfolders of `path` are no classes: it is a level too high, or there is one alone."""
    listing = tree.listing(path)
    split_roots: list[str] = []
    split_classes: list[str] = []
    for name in listing.folders:
        names = _split_names(path / name, tree)
        if names is not None:
            inner = (path / name / folders[0] for folders in names.values())
            (split_roots if all(tree.listing(folder).folders for folder in inner) else split_classes).append(name)
    if split_roots:
        raise _level_error(path, split_roots, "the split folders are in")
    if split_classes:
        reason = f"contains split folders within its class folders ({_join([f'{name}/' for name in split_classes])})"
        raise data_error(path, reason, "put the class folders into the split folders: train/CLASS/, test/CLASS/")
    if len(listing.folders) == 1 and len(tree.listing(path / listing.folders[0]).folders) > 1:
        raise _level_error(path, list(listing.folders), "if the classes are in it:")


def _level_error(path: Path, names: list[str], reason: str, other_fix: str = "") -> UserError:
    """Return the error that `path` is a level too high, with the path below it as the fix."""
    below = [str(path / name) for name in names]
    fix = f"use --data_path {' or '.join(map(shlex.quote, below[:3]))}"
    problem = Problem(
        f"{path} is a level too high: {reason} {_join([f'{name}/' for name in names])}",
        key="data.path",
        value=str(path),
        fix=f"{fix}, or {other_fix}" if other_fix else fix,
        change={"data.path": below[0]} if len(below) == 1 else None,
    )
    return UserError(problem, Exit.DATA)


# -- the files ---------------------------------------------------------------------------------------------------------


def _list_layout(layout: Layout, tree: FolderTree) -> ImageFolders:
    """List the images of every split. Raises UserError as `list_class_folders` does, or if the classes differ."""
    splits = {split: list_class_folders(folder, layout.root, tree) for split, folder in layout.folders.items()}
    classes = splits["train"].classes
    for split, listed in splits.items():
        if listed.classes == classes:
            continue
        added, missing = set(listed.classes) - set(classes), set(classes) - set(listed.classes)
        reasons = []
        if added:
            reasons.append(f"contains {_join(added)}, which {layout.folders['train'].name}/ does not")
        if missing:
            reasons.append(f"lacks {_join(missing)}")
        fix = "all splits need the same class folders"
        raise data_error(layout.folders[split], " and ".join(reasons), fix)
    return ImageFolders(layout.root, splits, (*layout.notes, *_skip_notes(layout.root, splits.values())))


def list_class_folders(folder: Path, root: Path, tree: FolderTree) -> ClassFolders:
    """List the image files of the class folders in `folder`, without hidden ones.

    Links to folders are not followed, and links to files only if their destination is inside `root`. Raises UserError
    if a class is empty or alone, or if classes have the names of splits.
    """
    real_root = os.path.realpath(root)
    listing = tree.listing(folder)
    if not listing.folders:
        reason = "contains no class folders"
        if listing.links:
            reason += f" ({_join(listing.links)}: links to folders are not followed)"
        elif listing.images:
            reason += f", and {plural(listing.images, 'image')} of no class"
        raise data_error(folder, reason, "put the images of each class into a folder of its own")
    _check_masks(folder, listing.folders)
    _check_class_names(folder, tree)
    _check_depth(folder, tree)
    links = [*listing.links]
    skipped = Counter[str]()
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(listing.folders):
        skipped_before, links_before = skipped.copy(), len(links)
        class_files = sorted(_walk_images(str(folder / name), real_root, tree, links, skipped))
        if not class_files:
            skipped_words = _file_counts(skipped - skipped_before)
            if len(links) > links_before:
                skipped_words = f"{plural(len(links) - links_before, 'link')} out of {root}, which are not followed"
            reason = f"contains no image{f' ({skipped_words})' if skipped_words else ''}"
            fix = f"add images ({', '.join(SUFFIXES[:2])}, ...), or remove the folder"
            raise data_error(folder / name, reason, fix)
        files += class_files
        labels += [label] * len(class_files)
    classes = tuple(escaped(name) for name in listing.folders)  # recorded with the run
    return ClassFolders(classes, files, labels, len(links), skipped, listing.images)


def _check_class_names(folder: Path, tree: FolderTree) -> None:
    """Raise UserError if there is one class alone, or if class folders are split folders.

    One class of many may be called "train", as in CIFAR-100: its images lie directly in its folder.
    """
    names = tree.listing(folder).folders
    split_names = [name for name in names if (split := split_of(name)) and not split[1]]
    nested = [name for name in split_names if not tree.listing(folder / name).images]
    if len(split_names) > 1 or nested or (split_names and len(names) == 1):
        listed = _join([f"{name}/" for name in split_names])
        fix = "put the split folders into data.path itself, with the class folders in them, or rename the class"
        raise data_error(folder, f"has class folders with the names of splits ({listed})", fix)
    if len(names) == 1:
        reason = f"contains one class alone ({names[0]}/): classification needs at least two"
        raise data_error(folder, reason, "put the images of each class into a folder of its own")


def _check_masks(folder: str | Path, subfolders: Iterable[str]) -> None:
    """Raise UserError where images and masks lie side by side in the subfolders of a folder, as for segmentation."""
    names = {name.lower(): name for name in subfolders}
    images, masks = names.keys() & IMAGE_WORDS, names.keys() & MASK_WORDS
    if images and masks:
        pair = f"{names[min(images)]}/ and {names[min(masks)]}/"
        fix = "a folder for each class is needed, with its images alone: move the masks out of it"
        raise data_error(Path(folder), f"contains {pair}, as for segmentation, which are no classes", fix)


def _check_depth(folder: Path, tree: FolderTree) -> None:
    """Raise UserError where the folders are folds, years or magnifications, with the classes in each of them.

    They contain no image themselves, and at least half of their subfolders have the name of one in another of them.
    A class may have a subfolder, such as images/, and superclasses contain classes of different names.
    """
    subfolders: dict[str, tuple[str, ...]] = {}
    for name in tree.listing(folder).folders:
        listing = tree.listing(folder / name)
        _check_masks(folder / name, listing.folders)
        if listing.images or not listing.folders:
            return
        subfolders[name] = listing.folders
    counts = Counter(name for names in subfolders.values() for name in names)
    shared = sum(count for count in counts.values() if count > 1)
    if len(counts) > 1 and 2 * shared >= counts.total():
        reason = f"the classes ({_join(f'{name}/' for name in counts)}) are in"
        raise _level_error(folder, list(subfolders), reason, "put the images of each class into one folder")


def _walk_images(folder: str, root: str, tree: FolderTree, links: list[str], skipped: Counter[str]) -> Iterator[str]:
    """Yield the image files at any depth; names of links are appended to `links`, other files counted in `skipped`.

    Only regular files count: opening a pipe or a device could block forever. Raises UserError as `_check_masks` does.
    """
    subfolders: list[str] = []
    for entry in tree.entries(folder):
        if entry.is_dir(follow_symlinks=False):
            subfolders.append(entry.name)
            if entry.name.lower() not in NOT_CLASSES:
                is_empty = True
                for file in _walk_images(entry.path, root, tree, links, skipped):
                    is_empty = False
                    yield file
                if is_empty and is_image_name(entry.name):
                    skipped[FOLDER] += 1
        elif entry.is_symlink() and not os.path.realpath(entry.path).startswith(root + os.sep):
            links.append(entry.name)
        elif not entry.is_file():
            if entry.is_symlink():  # to a folder, or dangling
                links.append(entry.name)
            else:
                skipped[SPECIAL] += 1
        elif is_image_name(entry.name):
            yield entry.path
        else:
            skipped[Path(entry.name).suffix.lower()] += 1
    _check_masks(folder, subfolders)


def is_image_name(name: str) -> bool:
    """Return whether a file has the suffix of an image, in any case."""
    return name.lower().endswith(SUFFIXES)


# -- words -------------------------------------------------------------------------------------------------------------


def holdout_note(seed: int | None = None) -> str:
    """Return the note that a share of a tree without split folders is drawn as the test images."""
    drawn = "the seed" if seed is None else f"seed {seed}"
    return f"{TEST_SHARE:.0%} of the images of each class, drawn with {drawn}, are the test images"


def too_few_to_split(path: Path) -> UserError:
    """Return the error that no class has enough images for the share of `TEST_SHARE` to be one of them."""
    reason = "contains too few images in every class to hold some out for testing"
    return data_error(path, reason, "add images, or add test/")


def _skip_notes(root: Path, splits: Iterable[ClassFolders]) -> Iterator[str]:
    """Yield what was left out, in words."""
    links = stray = 0
    skipped = Counter[str]()
    for split in splits:
        links += split.skipped_links
        stray += split.stray_images
        skipped += split.skipped_files
    if links:
        yield f"not followed: {plural(links, 'link')} out of {root} or to a folder"
    if skipped:
        yield f"passed over: {_file_counts(skipped)}"
    if stray:
        yield f"passed over: {plural(stray, 'image')} beside the class folders"


def _file_counts(suffixes: Counter[str]) -> str:
    """Return "30 .xml files, 2 files without suffix"; "" for none."""
    counts = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))
    words = []
    for suffix, count in counts[:MAX_SUFFIXES]:
        if suffix == FOLDER:
            words.append(plural(count, "folder named as an image", "folders named as images"))
        elif suffix:
            words.append(plural(count, f"{escaped(suffix)} file"))
        else:
            words.append(f"{plural(count, 'file')} without suffix")
    if rest := sum(count for _, count in counts[MAX_SUFFIXES:]):
        words.append(plural(rest, "other file"))
    return ", ".join(words)


def data_error(path: str | Path, reason: str, fix: str) -> UserError:
    """Return the error about data that is missing or damaged: "PATH REASON"."""
    return UserError(f"{path} {reason}", Exit.DATA, key="data.path", value=str(path), fix=fix)


def _join(names: Iterable[str]) -> str:
    return joined(sorted(names), MAX_NAMES)
