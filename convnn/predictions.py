"""What a model answers on the images of a split, as a run keeps it: `predictions.safetensors`. Loads no torch.

N  images      C  classes      K  top classes: 5, or C where there are fewer, or 1 for very many images
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnn.errors import Exit, UserError
from convnn.files import read_regular, write_atomic

if TYPE_CHECKING:
    import numpy as np

NAME = "predictions.safetensors"
METADATA, VERSION = "predictions", 1  # key of the JSON text in the metadata of the file, and its format
MOST_BYTES = 5_000_000  # of a file
HEADER_BYTES = 4096  # more than its header takes
TOP = 5
MOST_CLASSES = 100_000  # of a file that is read
WEIGHTS = ("model", "ema")
_COUNTS = ("step", "bn_recalibrate", "num_classes", "images")


@dataclass(frozen=True, eq=False)
class Predictions:
    """The images of a split in its order: labels, the most probable classes, and probabilities by softmax.

    Raises ValueError where the arrays do not fit together or hold values that no model gives.
    """

    split: str
    weights: str  # of WEIGHTS: "model", or "ema" for their moving average
    epoch: int | None  # of the weights; None between two epochs
    step: int
    bn_recalibrate: int  # training batches that BatchNorm's running statistics were taken from; 0: those of training
    digest: str | None  # SHA-256 of the images and labels; None where the data set has none
    num_classes: int
    labels: np.ndarray  # (N,) uint32
    top_classes: np.ndarray  # (N, K) uint32, the most probable first
    top_probabilities: np.ndarray  # (N, K) float16
    label_probabilities: np.ndarray  # (N,) float16
    probabilities: np.ndarray | None = None  # (N, C) float16; None where they are too many for the file

    def __post_init__(self) -> None:
        import numpy as np

        count, classes = len(self.labels), self.num_classes
        K = self.top_classes.shape[1] if self.top_classes.ndim == 2 else 0
        shapes = {"labels": (count,), "top_classes": (count, K), "top_probabilities": (count, K)}
        shapes |= {"label_probabilities": (count,), "probabilities": (count, classes)}
        if not (count and 1 <= K <= classes):
            raise ValueError(f"{count} images with {K} top classes of {classes}")
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array is None and name == "probabilities":
                continue
            is_class = "probabilities" not in name
            if array.shape != shape or array.dtype != (np.uint32 if is_class else np.float16):
                raise ValueError(f"{name} is {array.shape} {array.dtype}")
            if is_class and array.max() >= classes:
                raise ValueError(f"{name} holds class {array.max()} of {classes}")
            if not is_class and not ((array >= 0) & (array <= 1)).all():
                raise ValueError(f"{name} holds values that are no probabilities")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def answers(self) -> np.ndarray:
        """The most probable class of each image. (N,)"""
        answers: np.ndarray = self.top_classes[:, 0]
        return answers

    @property
    def is_correct(self) -> np.ndarray:
        """Whether the most probable class is the label. (N,) bool"""
        correct: np.ndarray = self.answers == self.labels
        return correct

    @property
    def confidences(self) -> np.ndarray:
        """The probability of the most probable class. (N,) float64"""
        confidences: np.ndarray = self.top_probabilities[:, 0].astype(float)
        return confidences

    @property
    def source(self) -> str:
        """The weights and the split in words: "weights of epoch 12 on the test images"."""
        weights = "weights" if self.weights == "model" else "averaged weights"
        position = f"step {self.step}" if self.epoch is None else f"epoch {self.epoch}"
        batches = f", BatchNorm from {self.bn_recalibrate} batches" if self.bn_recalibrate else ""
        return f"{weights} of {position}{batches} on the {self.split} images"


def top_count(num_images: int, num_classes: int) -> int:
    """Return K, the classes by image of so many images that a file has room for; 1 where it has none for any."""
    K = min(TOP, num_classes)
    return K if num_images * _image_bytes(K) <= MOST_BYTES - HEADER_BYTES else 1


def has_room(num_images: int, num_classes: int) -> bool:
    """Return whether a file has room for the probability of every class."""
    size = num_images * (_image_bytes(min(TOP, num_classes)) + 2 * num_classes)
    return size <= MOST_BYTES - HEADER_BYTES


def fits(num_images: int) -> bool:
    """Return whether a file has room for one class by image."""
    return num_images * _image_bytes(1) <= MOST_BYTES - HEADER_BYTES


def _image_bytes(K: int) -> int:
    return 4 + 6 * K + 2  # label, K classes and their probabilities, the probability of the label


def dumps(predictions: Predictions) -> bytes:
    """Return a safetensors file: the arrays by their names, the rest as JSON in its metadata.

    Raises ValueError for more images than `fits`.
    """
    from safetensors.numpy import save

    if not fits(len(predictions)):
        raise ValueError(f"predictions of {len(predictions):,} images are more than {MOST_BYTES:,} bytes")
    arrays = {name: value for name, value in vars(predictions).items() if hasattr(value, "dtype")}
    plain = {name: value for name, value in vars(predictions).items() if name not in arrays and name != "probabilities"}
    about = {"version": VERSION, **plain, "images": len(predictions)}
    about["all_probabilities"] = predictions.probabilities is not None
    return save(arrays, {METADATA: json.dumps(about)})


def write(folder: Path, predictions: Predictions) -> None:
    """Write the file of a run, in place of an earlier one. Raises OSError; ValueError for more images than `fits`."""
    write_atomic(folder / NAME, dumps(predictions))


def read(folder: Path) -> Predictions | None:
    """Read the file of a run, None where there is none. Raises UserError (data) for a damaged one."""
    path = folder / NAME
    try:
        data = read_regular(path, MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        length = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][METADATA])
        return _predictions(about, load(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error


def _unreadable(path: Path, reason: str) -> UserError:
    fix = "write it anew: convnn evaluate RUN --save"
    return UserError(f"{path} cannot be read: {reason[:200]}", Exit.DATA, fix=fix)


def _predictions(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Predictions:
    """Return what a file holds. Raises KeyError, TypeError or ValueError where it is none of ours."""
    epoch, digest, counts = about["epoch"], about["digest"], {name: about[name] for name in _COUNTS}
    if about["version"] != VERSION:
        raise ValueError("it is of another version")
    for count in [*counts.values(), 0 if epoch is None else epoch]:
        if type(count) is not int or not 0 <= count < 1 << 63:
            raise ValueError("its metadata holds a count that is none")
    if counts["num_classes"] > MOST_CLASSES:
        raise ValueError(f"its metadata has more than {MOST_CLASSES:,} classes")
    if about["split"] not in ("train", "val", "test") or about["weights"] not in WEIGHTS:
        raise ValueError("its metadata names no split or no weights")
    if not (digest is None or (isinstance(digest, str) and len(digest) <= 64)):
        raise ValueError("its metadata holds no digest")
    if counts["images"] != len(arrays["labels"]):
        raise ValueError("its metadata and its arrays have other numbers of images")
    return Predictions(
        split=about["split"],
        weights=about["weights"],
        epoch=epoch,
        step=counts["step"],
        bn_recalibrate=counts["bn_recalibrate"],
        digest=digest,
        num_classes=counts["num_classes"],
        labels=arrays["labels"],
        top_classes=arrays["top_classes"],
        top_probabilities=arrays["top_probabilities"],
        label_probabilities=arrays["label_probabilities"],
        probabilities=arrays.get("probabilities"),
    )
