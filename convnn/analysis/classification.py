"""Which classes a model gets wrong: accuracy by class, confusions, calibration, the worst images, and McNemar's test.

Everything here is computed from `Predictions`; nothing knows of runs, and nothing loads torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from convnn.analysis.class_order import ClassOrder
from convnn.analysis.statistics import holm, proportion_interval
from convnn.predictions import Predictions

if TYPE_CHECKING:
    import numpy as np

BINS = 15  # of confidence, of equal width


class Confusion(NamedTuple):
    """Images of one class that are taken for another."""

    label: int
    answer: int
    images: int


@dataclass(frozen=True)
class ClassResult:
    """A class: how many of its images are recognized, and what the others are taken for most often."""

    number: int
    images: int
    correct: int
    confusion: Confusion | None  # the most frequent one; None without an error

    @property
    def accuracy(self) -> float | None:
        """The share of its images that are recognized, 0 to 1; None of a class without images."""
        if not self.images:
            return None
        return self.correct / self.images

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the accuracy by Wilson's method."""
        if self.accuracy is None:
            return None
        return proportion_interval(self.accuracy, self.images)


class CalibrationBin(NamedTuple):
    """The images whose confidence is above `low` and at most `high`, at least one; shares are 0 to 1."""

    low: float
    high: float
    images: int
    confidence: float  # mean
    accuracy: float


def class_results(predictions: Predictions) -> list[ClassResult]:
    import numpy as np

    images = np.bincount(predictions.labels, minlength=predictions.num_classes).tolist()
    correct = np.bincount(predictions.labels[predictions.is_correct], minlength=predictions.num_classes).tolist()
    largest: dict[int, Confusion] = {}
    for confusion in confusions(predictions):
        largest.setdefault(confusion.label, confusion)
    return [
        ClassResult(number, *counts, largest.get(number))
        for number, counts in enumerate(zip(images, correct, strict=True))
    ]


def sorted_results(results: Iterable[ClassResult], order: ClassOrder) -> list[ClassResult]:
    """Return the classes, least accurate, most errors or most images first; those without images at the end."""
    keys = {
        "accuracy": lambda result: (result.accuracy is None, result.accuracy or 0.0, -result.images),
        "errors": lambda result: (not result.images, result.correct - result.images),
        "images": lambda result: (-result.images,),
        "class": lambda result: (),
    }
    return sorted(results, key=lambda result: (*keys[order](result), result.number))


def confusions(predictions: Predictions) -> list[Confusion]:
    """Return every pair of classes that is confused, the most frequent first."""
    import numpy as np

    wrong = ~predictions.is_correct
    codes = predictions.labels[wrong].astype(np.int64) * predictions.num_classes + predictions.answers[wrong]
    pairs, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [
        Confusion(code // predictions.num_classes, code % predictions.num_classes, count)
        for code, count in zip(pairs[order].tolist(), counts[order].tolist(), strict=True)
    ]


def most_confused(pairs: Iterable[Confusion], limit: int) -> list[int]:
    """Return at most `limit` classes, those of the most frequent confusions, in the order of the classes."""
    classes: set[int] = set()
    for pair in pairs:
        if len(classes | {pair.label, pair.answer}) > limit:
            break
        classes |= {pair.label, pair.answer}
    return sorted(classes)


def confusion_matrix(predictions: Predictions, classes: Sequence[int]) -> np.ndarray:
    """Return the images of each of these classes by answer; the last column is of all other answers. -> (M, M + 1)"""
    import numpy as np

    positions = np.full(predictions.num_classes, len(classes))
    positions[list(classes)] = range(len(classes))
    labels, answers = positions[predictions.labels], positions[predictions.answers]
    rows = labels < len(classes)
    codes = labels[rows] * (len(classes) + 1) + answers[rows]
    counts = np.bincount(codes, minlength=len(classes) * (len(classes) + 1))
    return counts.reshape(len(classes), len(classes) + 1)


def calibration_bins(predictions: Predictions) -> list[CalibrationBin]:
    """Return the bins of equal width of the confidence that hold images: (0, 1/BINS], (1/BINS, 2/BINS] and so on.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    import numpy as np

    confidences, correct = predictions.confidences, predictions.is_correct
    indices = np.clip(np.ceil(confidences * BINS).astype(int) - 1, 0, BINS - 1)
    images = np.bincount(indices, minlength=BINS)
    confidence_sums = np.bincount(indices, confidences, minlength=BINS)
    correct_counts = np.bincount(indices, correct, minlength=BINS)
    return [
        CalibrationBin(
            index / BINS,
            (index + 1) / BINS,
            int(images[index]),
            float(confidence_sums[index] / images[index]),
            float(correct_counts[index] / images[index]),
        )
        for index in np.flatnonzero(images).tolist()
    ]


def calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """Return the expected calibration error (ECE), 0 to 1: |accuracy - confidence| of the bins, weighted by images."""
    total = sum(group.images for group in bins)
    return sum(group.images * abs(group.accuracy - group.confidence) for group in bins) / total


def worst_images(predictions: Predictions, limit: int) -> list[int]:
    """Return the numbers of at most `limit` wrong images, the least probable label first."""
    import numpy as np

    wrong = np.flatnonzero(~predictions.is_correct)
    order = np.lexsort((wrong, -predictions.confidences[wrong], predictions.label_probabilities[wrong]))
    numbers: list[int] = wrong[order][:limit].tolist()
    return numbers


# -- two models on the same images -------------------------------------------------------------------------------------


def mcnemar(first_alone: int, second_alone: int) -> float:
    """Return the two-sided p of McNemar's exact test: of images that one of two models alone recognizes.

    Where neither is better, each of them is as likely of the first as of the second:
    p = 2 * P(X <= the smaller count) with X ~ Binomial(both counts, 1/2), at most 1.

    Source: Q. McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12
    (1947); the exact form is the sign test.
    """
    from scipy import special

    count = first_alone + second_alone
    if not count:
        return 1.0
    return min(1.0, 2 * float(special.bdtr(min(first_alone, second_alone), count, 0.5)))


@dataclass(frozen=True)
class PairedResult:
    """Two models on the same images, or those of one class."""

    images: int
    first_correct: int
    second_correct: int
    first_alone: int  # images that the first alone recognizes
    second_alone: int

    @property
    def difference(self) -> float:
        """Second - first, in points."""
        return 100 * (self.second_correct - self.first_correct) / self.images

    @property
    def p_value(self) -> float:
        """The p of McNemar's exact test."""
        return mcnemar(self.first_alone, self.second_alone)

    def json(self) -> dict[str, Any]:
        """Return the counts, the difference in points and the p of the test."""
        return {**vars(self), "difference": self.difference, "p": self.p_value}


@dataclass(frozen=True)
class PairedComparison:
    """Two models on the same images: of all classes together, and of each class that has images."""

    total: PairedResult
    by_class: dict[int, PairedResult]
    adjusted_p: dict[int, float]  # by class, by Holm's method


def unpaired_reason(first: Predictions, second: Predictions) -> str | None:
    """Return why two predictions are not of the same images in the same order; None where they are."""
    if first.split != second.split:
        return f"one is of the {first.split} images, the other of the {second.split} images"
    if first.digest is None or second.digest is None:
        return "no digest of the images was recorded"
    if (len(first), first.num_classes, first.digest) != (len(second), second.num_classes, second.digest):
        return f"the {first.split} images or their labels are not the same"
    if (first.labels != second.labels).any():
        return "the images are not in the same order"
    return None


def compare_predictions(first: Predictions, second: Predictions) -> PairedComparison:
    """Compare two models on the same images. Raises ValueError where they are not the same."""
    import numpy as np

    if reason := unpaired_reason(first, second):
        raise ValueError(reason)
    is_first, is_second = first.is_correct, second.is_correct
    conditions = (np.ones(len(first), bool), is_first, is_second, is_first & ~is_second, is_second & ~is_first)
    counts = [np.bincount(first.labels[condition], minlength=first.num_classes) for condition in conditions]
    by_class = {
        number: PairedResult(*(int(count[number]) for count in counts)) for number in np.flatnonzero(counts[0]).tolist()
    }
    adjusted = holm([result.p_value for result in by_class.values()])
    total = PairedResult(*(int(count.sum()) for count in counts))
    return PairedComparison(total, by_class, dict(zip(by_class, adjusted, strict=True)))
