"""Decoding of one image file to 8-bit RGB, the way a person sees it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from convnn.data.class_folders import IMAGE_FORMATS, data_error

MAX_PIXELS = 178_956_970  # decoded at once; Pillow refuses larger images too, as decompression bombs
MAX_FILE_PIXELS = 400_000_000  # of a JPEG, which is decoded at a fraction of its size
LARGE_PIXELS = 32_000_000  # larger images are decoded one at a time, and a JPEG at a fraction where it is resized
ROTATED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
ORIENTATION = 0x0112
JPEG = ("JPEG", "MPO")  # a camera's JPEG that holds a preview as well is an MPO

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
Crop = Callable[[int, int], Box]  # (width, height) of an image -> the part of it that is used

_large_image = threading.Lock()


@contextmanager
def decoding() -> Iterator[None]:
    """Let Pillow open large images and ignore odd metadata silently; the limits of this module hold instead.

    Both settings belong to the process: one context around all threads that decode.
    """
    pillow_limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = pillow_limit


def open_image(file: str | PathLike[str]) -> Image.Image:
    """Open a file of one of the `IMAGE_FORMATS`. Others are not tried: Pillow hands some to an interpreter.

    Raises OSError and others for a damaged file, ValueError for one with too many pixels.
    """
    image = Image.open(file, formats=tuple(IMAGE_FORMATS))
    limit = MAX_FILE_PIXELS if image.format in JPEG else MAX_PIXELS
    if image.width * image.height > limit:
        image.close()
        raise ValueError(f"{image.width}x{image.height} pixels are more than {limit:,}")
    return image


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an open image as its EXIF orientation shows it."""
    if image.format not in JPEG:
        image.load()  # a PNG may hold its orientation at the end, and a TIFF is rotated when it is decoded
    return (image.height, image.width) if _orientation(image) in ROTATED else image.size


def first_image_size(files: Sequence[str]) -> tuple[int, int]:
    """Return height and width of the first file that can be opened. Raises UserError if there is none."""
    reason = ""
    with decoding():
        for file in files:
            try:
                with open_image(file) as image:
                    width, height = oriented_size(image)
                    return height, width
            except MemoryError:
                raise
            except Exception as error:  # on a damaged file a decoder may raise nearly anything
                reason = reason or f"{type(error).__name__}: {error}"
    fix = "use --data_path with a tree of images"
    raise data_error(Path(files[0]).parent, f"contains no file that is an image ({reason})", fix)


def read_rgb(file: str | PathLike[str], size: tuple[int, int] | None = None, crop: Crop | None = None) -> Image.Image:
    """Decode a file to RGB, upright, and resize it, or the part that `crop` chooses, to `size` (width, height).

    16-bit gray is scaled by its range and float data by the range from 0 to 1. Raises ValueError for data of no known
    range and for images that are too large, and nearly anything for damaged files.
    """
    with open_image(file) as image:
        is_large = image.width * image.height > LARGE_PIXELS
        with _large_image if is_large else nullcontext():
            width, height = oriented_size(image)
            box = crop(width, height) if crop else None
            if is_large and size is not None:
                _reduce(image, size, box or (0, 0, width, height))
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS:,}")
            image.load()
            if _orientation(image) != 1:
                ImageOps.exif_transpose(image, in_place=True)
            if box and image.size != (width, height):  # decoded at a fraction
                x, y = image.width / width, image.height / height
                box = box[0] * x, box[1] * y, box[2] * x, box[3] * y
            rgb = _rgb(image)
            return rgb.resize(size, Image.Resampling.BILINEAR, box) if size else rgb


def _reduce(image: Image.Image, size: tuple[int, int], box: Box) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, as long as `box` still has the pixels of `size`."""
    zoom = min((box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1])
    if zoom >= 2:
        image.draft(None, (int(image.width / zoom) or 1, int(image.height / zoom) or 1))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation from 1 to 8; 1 where there is none or it cannot be read."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata is no reason to lose the pixels
        return 1
    return orientation if orientation in range(1, 9) else 1


def _rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded image to RGB. Raises ValueError where the range of its values is not known."""
    is_16_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if is_16_bit:
        return _from_gray((np.asarray(image) // 256).clip(0, 255))
    if image.mode == "I":
        raise ValueError("32-bit integers have no known range from black to white: save it with 8 or 16 bits")
    if image.mode == "F":
        values = np.asarray(image)
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # NaN as well
            raise ValueError(f"float values from {low:g} to {high:g}: must lie between 0 (black) and 1 (white)")
        return _from_gray(np.rint(values * 255))
    return image.convert("RGB")


def _from_gray(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")
