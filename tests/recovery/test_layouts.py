"""Folders and image files as people have them: read as they are meant, or refused with the reason and the fix."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from convnn.config.options import BY_KEY
from convnn.data import DataOptions
from convnn.data.catalog import DatasetInfo, dataset_info
from convnn.data.class_folders import list_image_folders
from convnn.data.folder import open_folder
from convnn.errors import Exit, UserError

SEEDS = [seed if seed < 20 else pytest.param(seed, marks=pytest.mark.torture) for seed in range(400)]
CLASS_NAMES = [
    "daisy",
    "tulip",
    "Gänseblümchen",
    "チューリップ",
    "class with space",
    "a,b=c",
    "[bold]x",
    "-dash",
    "7",
    "train",
]
STYLES: list[Callable[[str], str]] = [
    str.lower, str.upper, str.title, "{}_set".format, "seg_{}".format, "{}2017".format, "{} images".format,
]  # fmt: skip
SPLIT_NAMES = {"train": ["train", "training"], "val": ["val", "valid", "validation"], "test": ["test", "testing"]}
JUNK = ["Thumbs.db", ".DS_Store", "desktop.ini", "._000.png", "labels.csv", "000.xml", "notes"]

_buffer = BytesIO()
Image.new("RGB", (8, 8), "gray").save(_buffer, "PNG")
PNG = _buffer.getvalue()


def write(root: Path, counts: dict[str, int]) -> Path:
    """Write class folders of one image each time: write(root, {"train/cat": 3})."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (root / folder / f"{index:03}.png").write_bytes(PNG)
    return root


def generate(root: Path, random: Random) -> tuple[tuple[str, ...], dict[str, int]]:
    """Write a data set in some layout; return its classes and the images of each split that a run has."""
    style = random.choice(STYLES)
    splits = random.choice([("train", "test"), ("train", "val"), ("train", "val", "test")])
    classes = tuple(sorted(random.sample(CLASS_NAMES, random.randint(2, 5))))
    level = root.joinpath(*(f"level{index}" for index in range(random.randint(0, 2))))
    counts = {}
    for split in splits:
        folder = level / style(random.choice(SPLIT_NAMES[split]))
        if random.random() < 0.2:
            folder /= folder.name  # as some archives unpack
        sizes = {name: random.randint(1, 4) for name in classes}
        write(folder, sizes)
        counts[split] = sum(sizes.values())
        for junk in random.sample(JUNK, random.randint(0, 3)):
            (folder / random.choice(classes) / junk).write_text("no image")
        if random.random() < 0.3:
            (folder / ".ipynb_checkpoints").mkdir()
    if random.random() < 0.3:
        write(level, {"__MACOSX/train/daisy": 1})
    if random.random() < 0.3:
        (level / "README.txt").write_text("hello")
    if random.random() < 0.3 and level == root:
        write(root, {"predict": 2})
    if "test" not in counts:
        counts["test"] = counts.pop("val")
    return classes, counts


def sizes(info: DatasetInfo) -> dict[str, int | None]:
    counts = {"train": info.train_images, "val": info.val_images, "test": info.test_images}
    return {split: count for split, count in counts.items() if count is not None}


@pytest.mark.parametrize("seed", SEEDS)
def test_layouts_with_splits_are_read_as_they_are_meant(tmp_path, seed):
    classes, counts = generate(tmp_path, Random(seed))
    info = dataset_info("folder", tmp_path)
    assert info.problem is None
    assert (info.classes, sizes(info)) == (classes, counts)
    folders = list_image_folders(tmp_path)
    assert {split: len(listed.files) for split, listed in folders.splits.items()} == counts
    assert all(Path(file).suffix == ".png" for listed in folders.splits.values() for file in listed.files)


REFUSED = {
    "one class": ({"train/cat": 2, "test/cat": 2}, "one class alone (cat/)"),
    "one class in one tree": ({"cat": 9}, "one class alone (cat/)"),
    "classes that are splits": (
        {"data/train/train": 2, "data/train/test": 2, "data/test/train": 1, "data/test/test": 1},
        "class folders with the names of splits (test/, train/)",
    ),
    "splits within a split": (
        {f"{outer}/{inner}/cat": 2 for outer in ("train", "test") for inner in ("train", "val")},
        "the names of splits",
    ),
    "a class called test": ({"control": 9, "test": 9}, "contains test/ but no train/"),
    "train alone": ({"train/cat": 9, "train/dog": 9}, "contains train/ but no test/ or val/"),
    "val alone": ({"valid/cat": 9, "valid/dog": 9}, "contains valid/ but no train/"),
    "two folders to train with": (
        {f"{split}/{name}": 2 for split in ("train", "Training", "test") for name in ("cat", "dog")},
        "contains Training/, train/ for train",
    ),
    "splits within classes": (
        {f"{name}/{split}": 2 for split in ("train", "test") for name in ("cat", "dog")},
        "split folders within its class folders (cat/, dog/)",
    ),
    "a level too high beside others": (
        {f"{name}/{split}/{label}": 2 for name in ("a", "b") for split in ("train", "test") for label in ("x", "y")},
        "is a level too high: the split folders are in a/, b/",
    ),
    "a level too high": ({"flowers/daisy": 9, "flowers/tulip": 9}, "is a level too high: if the classes are in it"),
    "a class without images": (
        {"train/cat": 2, "train/dog": 0, "test/cat": 2, "test/dog": 2},
        "train/dog contains no image",
    ),
    "classes of one split alone": ({"train/cat": 2, "train/dog": 2, "test/cat": 2}, "one class alone (cat/)"),
    "classes that differ": (
        {"train/cat": 2, "train/dog": 2, "val/cat": 1, "val/cow": 1, "test/cat": 2, "test/dog": 2},
        "val contains cow, which train/ does not and lacks dog",
    ),
    "images of no class": ({".": 5}, "contains no class folders, and 5 images of no class"),
    "images of no class in splits": (
        {"train": 5, "test": 5},
        "train contains no class folders, and 5 images of no class",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_folders_that_are_no_data_set_are_refused_with_the_fix(tmp_path, kind):
    counts, reason = REFUSED[kind]
    problem = dataset_info("folder", write(tmp_path, counts)).problem
    assert problem is not None and reason in problem.message
    assert problem.fix and problem.key == "data.path"
    with pytest.raises(UserError) as caught:
        list_image_folders(tmp_path)
    assert caught.value.code == Exit.DATA
    if problem.change:
        path = problem.change["data.path"]
        assert BY_KEY["data.path"].validate(path) == path and path in problem.fix
        assert dataset_info("folder", path).problem is None


# -- images ------------------------------------------------------------------------------------------------------------

SHADES = np.linspace(0, 255, 12 * 8).reshape(8, 12).round().astype(np.uint8)  # darkest at the top left


def shades(mode: str) -> Image.Image:
    return Image.fromarray(SHADES).convert(mode)


def rotated(orientation: int) -> tuple[Image.Image, Image.Exif]:
    """The shades as a camera held that way would store them."""
    store = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    image = shades("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    return (image if store is None else image.transpose(store)), exif


READ: dict[str, Callable[[Path], object]] = {
    "rgb.png": lambda path: shades("RGB").save(path),
    "gray.png": lambda path: shades("L").save(path),
    "gray with alpha.png": lambda path: shades("LA").save(path),
    "rgba.png": lambda path: shades("RGBA").save(path),
    "palette.png": lambda path: shades("P").save(path),
    "palette with alpha.png": lambda path: shades("P").save(path, transparency=bytes(range(256))),
    "16 bits.png": lambda path: Image.fromarray(SHADES.astype(np.uint16) * 257).save(path),
    "16 bits.tif": lambda path: Image.fromarray(SHADES.astype(np.uint16) * 257).save(path),
    "float.tiff": lambda path: Image.fromarray(SHADES.astype(np.float32) / 255).save(path),
    "cmyk.tif": lambda path: shades("RGB").convert("CMYK").save(path),
    "rgb.bmp": lambda path: shades("RGB").save(path),
    "gray.pgm": lambda path: shades("L").save(path),
    "lossless.webp": lambda path: shades("RGB").save(path, lossless=True),
    "animated.webp": lambda path: shades("RGB").save(
        path, lossless=True, save_all=True, append_images=[Image.new("RGB", (12, 8))]
    ),
    "animated.gif": lambda path: shades("L").save(path, save_all=True, append_images=[Image.new("L", (12, 8))]),
    "UPPER.JPG": lambda path: shades("RGB").save(path, "JPEG", quality=100),
    "progressive.jpeg": lambda path: shades("RGB").save(path, quality=100, progressive=True),
    "cmyk.jpg": lambda path: shades("RGB").convert("CMYK").save(path, quality=100),
    "two pictures.jpg": lambda path: shades("RGB").save(
        path, "MPO", quality=100, save_all=True, append_images=[Image.new("RGB", (12, 8))]
    ),
    "a png named.jpg": lambda path: shades("RGB").save(path, "PNG"),
    "broken metadata.jpg": lambda path: shades("RGB").save(path, quality=100, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    **{
        f"orientation {number}.{suffix}": lambda path, number=number: rotated(number)[0].save(
            path, exif=rotated(number)[1], **({"quality": 100} if path.suffix == ".jpg" else {})
        )
        for number in range(1, 9)
        for suffix in ("jpg", "png", "tif")
    },
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data set of which the first image is missing."""
    counts = {"train/a": 2, "train/b": 1, "test/a": 1, "test/b": 1}
    for name, count in counts.items():
        (tmp_path / name).mkdir(parents=True)
        for index in range(count):
            shades("RGB").save(tmp_path / name / f"{index}x.png")
    return tmp_path


LOADING = {"batch_size": 8, "seed": 0, "split_seed": 0, "device": "cpu"}


def first_image(folder: Path, **options: object) -> np.ndarray:
    """The pixels of the first training image as the trainer gets them, in [0, 255]. -> (3, H, W)"""
    data = open_folder(folder, DataOptions(**LOADING, **options))
    assert data.train is not None
    images = data.train._images  # of the loader: in the order of the files
    return images[0].numpy()


@pytest.mark.parametrize("name", READ)
def test_every_kind_of_image_keeps_its_shades_and_stands_upright(folder, name):
    path = folder / "train/a" / f"0 {name}"
    READ[name](path)
    assert dataset_info("folder", folder).image_size == (8, 12)
    expected = np.broadcast_to(SHADES, (3, 8, 12)).astype(int)
    tolerance = 8 if path.suffix.lower() in (".jpg", ".jpeg") or "palette" in name else 1  # of the formats
    assert abs(first_image(folder).astype(int) - expected).max() <= tolerance
    assert abs(first_image(folder, resize=8).astype(int)[:, 0, 0]).max() <= 16  # black at the top left, resized too


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "32-bit integers.tif": lambda path: Image.fromarray(SHADES.astype(np.int32)).save(path),
    "float beyond 1.tif": lambda path: Image.fromarray(SHADES.astype(np.float32)).save(path),
    "not a number.tif": lambda path: Image.fromarray(np.full((8, 12), np.nan, np.float32)).save(path),
    "empty.png": lambda path: path.write_bytes(b""),
    "cut off.png": lambda path: path.write_bytes(PNG[:50]),
    "web page.jpg": lambda path: path.write_text("<!DOCTYPE html><html>404</html>"),
    "postscript.png": lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 8\nshowpage\n"),
    "vector.png": lambda path: path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "document.png": lambda path: path.write_bytes(b"%PDF-1.4\n"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_as_an_image_is_named(folder, name, monkeypatch):
    interpreter, canary = folder / "bin" / "gs", folder / "canary"
    interpreter.parent.mkdir()
    interpreter.write_text(f"#!/bin/sh\ntouch {canary}\n")
    interpreter.chmod(0o755)
    monkeypatch.setenv("PATH", str(interpreter.parent), prepend=os.pathsep)
    path = folder / "train/a" / f"1 {name}"
    UNREADABLE[name](path)
    with pytest.raises(UserError, match="contains 1 of 4 images that cannot be read") as caught:
        open_folder(folder, DataOptions(resize=8, **LOADING))
    assert str(path) in str(caught.value) and caught.value.code == Exit.DATA
    assert not canary.exists()
