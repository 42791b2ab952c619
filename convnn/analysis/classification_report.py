"""Predictions as tables, sentences and JSON, for `convnn evaluate` and the classes pane alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from convnn.analysis.class_order import CLASS_ORDERS, ClassOrder
from convnn.analysis.classification import (
    BINS,
    CalibrationBin,
    ClassResult,
    Confusion,
    calibration_bins,
    calibration_error,
    class_results,
    confusions,
    sorted_results,
    worst_images,
)
from convnn.predictions import Predictions
from convnn.tables import Column, Table
from convnn.text import part_text, plural

MISSING = "—"


@dataclass(frozen=True, eq=False)
class ClassificationReport:
    """Predictions with the names of the classes, and what is computed from them once."""

    predictions: Predictions
    class_names: Sequence[str]

    @cached_property
    def results(self) -> list[ClassResult]:
        return class_results(self.predictions)

    @cached_property
    def confusions(self) -> list[Confusion]:
        """The pairs of classes that are confused, the most frequent first."""
        return confusions(self.predictions)

    @cached_property
    def bins(self) -> list[CalibrationBin]:
        """The bins of confidence that hold images."""
        return calibration_bins(self.predictions)

    def name(self, number: int) -> str:
        """Return the name of a class, its number where the run has none."""
        if len(self.class_names) != self.predictions.num_classes:
            return str(number)
        return self.class_names[number]

    def class_table(self, order: ClassOrder, limit: int | None = None) -> Table:
        """Return a row for each class, at most `limit` of them."""
        numbers = [Column(title, right=True) for title in ("images", "correct", "accuracy", "95 % interval")]
        columns = [Column("class"), *numbers, Column("mostly taken for")]
        results = sorted_results(self.results, order)
        rows = [self._class_row(result) for result in results[:limit]]
        title = f"classes, {CLASS_ORDERS[order]}{part_text(rows, results)}: accuracy in %"
        return Table(columns, rows, title, key_columns=1)

    def _class_row(self, result: ClassResult) -> list[str]:
        taken_for = ""
        if result.confusion is not None:
            taken_for = f"{self.name(result.confusion.answer)} ({result.confusion.images})"
        counts = [self.name(result.number), str(result.images), str(result.correct)]
        if result.accuracy is None or result.interval is None:
            return [*counts, MISSING, MISSING, taken_for]
        low, high = result.interval
        return [*counts, f"{100 * result.accuracy:.2f}", f"{100 * low:.2f} to {100 * high:.2f}", taken_for]

    def confusion_table(self, limit: int) -> Table:
        """Return the most frequent confusions, with their share of the images of the class."""
        numbers = [Column(title, right=True) for title in ("images", "of the class")]
        columns = [Column("class"), Column("taken for"), *numbers]
        pairs = self.confusions[:limit]
        rows = [
            [
                self.name(pair.label),
                self.name(pair.answer),
                str(pair.images),
                f"{100 * pair.images / self.results[pair.label].images:.2f} %",
            ]
            for pair in pairs
        ]
        if not rows:
            return Table(columns, rows, "no image is taken for another class")
        return Table(columns, rows, f"most frequent confusions{part_text(rows, self.confusions)}", key_columns=2)

    def calibration_table(self) -> Table:
        """Return the bins of confidence that hold images, in percent."""
        titles = ("confidence", "images", "mean confidence", "accuracy", "difference")
        rows = [
            [
                f"{100 * group.low:.1f} to {100 * group.high:.1f}",
                str(group.images),
                f"{100 * group.confidence:.2f}",
                f"{100 * group.accuracy:.2f}",
                f"{100 * (group.accuracy - group.confidence):+.2f}",
            ]
            for group in self.bins
        ]
        return Table([Column(title, right=True) for title in titles], rows, self.calibration_text)

    @property
    def calibration_text(self) -> str:
        error = 100 * calibration_error(self.bins)
        return f"calibration: expected calibration error {error:.2f} points, over {BINS} bins of equal width; in %"

    def image_text(self, number: int) -> str:
        predictions = self.predictions
        label, answer = int(predictions.labels[number]), int(predictions.answers[number])
        return (
            f"{predictions.split} image {number}: {self.name(label)} ({predictions.label_probabilities[number]:.1%}), "
            f"taken for {self.name(answer)} ({predictions.confidences[number]:.1%})"
        )

    def json(self, worst: int) -> dict[str, Any]:
        """Return classes, confusions, calibration and the `worst` images; accuracies and the like in percent."""
        return {
            "source": {
                name: getattr(self.predictions, name)
                for name in ("split", "weights", "epoch", "step", "bn_recalibrate")
            },
            "classes": [self._class_json(result) for result in self.results],
            "confusions": [
                {"class": self.name(pair.label), "taken_for": self.name(pair.answer), "images": pair.images}
                for pair in self.confusions
            ],
            "calibration": {
                "ece": 100 * calibration_error(self.bins),
                "bins": [
                    {
                        "low": 100 * group.low,
                        "high": 100 * group.high,
                        "images": group.images,
                        "confidence": 100 * group.confidence,
                        "accuracy": 100 * group.accuracy,
                    }
                    for group in self.bins
                ],
            },
            "worst": [self._image_json(number) for number in worst_images(self.predictions, worst)],
        }

    def _class_json(self, result: ClassResult) -> dict[str, Any]:
        low, high = result.interval or (None, None)
        shares = {"accuracy": result.accuracy, "low": low, "high": high}
        percent = {name: None if share is None else 100 * share for name, share in shares.items()}
        return {"class": self.name(result.number), "images": result.images, "correct": result.correct, **percent}

    def _image_json(self, number: int) -> dict[str, Any]:
        predictions = self.predictions
        return {
            "image": number,
            "class": self.name(int(predictions.labels[number])),
            "taken_for": self.name(int(predictions.answers[number])),
            "class_probability": float(predictions.label_probabilities[number]),
            "taken_for_probability": float(predictions.confidences[number]),
        }

    def summary(self) -> str:
        """Return in words what the predictions are of: "weights of epoch 12 on the test images (360 images)"."""
        return f"{self.predictions.source} ({plural(len(self.predictions), 'image')})"
