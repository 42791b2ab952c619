"""Runs compared image by image, from the predictions that they keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from convnn import predictions
from convnn.analysis.classification import PairedComparison, compare_predictions
from convnn.analysis.statistics import holm
from convnn.analysis.verdict import outcome, p_text
from convnn.errors import UserError
from convnn.predictions import Predictions
from convnn.runs.history import History
from convnn.runs.run import Run
from convnn.tables import Column, Table
from convnn.text import part_text, plural

MOST_CLASSES = 10  # rows of the table


@dataclass(frozen=True, eq=False)
class PredictionPair:
    """A run and the first one on the same images; or why they are not compared."""

    names: tuple[str, str]  # of the first run and of the other one
    predictions: tuple[Predictions, Predictions] | None
    comparison: PairedComparison | None
    reason: str | None
    class_names: Sequence[str]
    adjusted_p: float | None = None  # by Holm's method, where several runs are compared with the first

    @property
    def p_value(self) -> float | None:
        """The p of all images, adjusted where it is one of several; None where nothing is compared."""
        if self.comparison is None or self.adjusted_p is not None:
            return self.adjusted_p
        return self.comparison.total.p_value

    def class_name(self, number: int) -> str:
        """Return the name of a class, its number where the run has none."""
        if number >= len(self.class_names):
            return str(number)
        return self.class_names[number]

    @property
    def text(self) -> str:
        """What the two models differ in, in words, or why that is not known."""
        first, second = self.names
        start = f"{second} - {first}, image by image: "
        p = self.p_value
        if self.comparison is None or self.predictions is None or p is None:
            return f"{start}not compared: {self.reason}"
        total, test = self.comparison.total, "McNemar's exact test"
        if self.adjusted_p is not None:
            test += ", Holm-adjusted"
        sources = " and ".join(part.source.partition(" on the ")[0] for part in self.predictions)
        return (
            f"{start}{total.difference:+.2f} points on {plural(total.images, f'{self.predictions[0].split} image')}, "
            f"{first} alone is right on {total.first_alone}, {second} alone on {total.second_alone}: "
            f"{outcome(p)} ({p_text(p)}, {test}; {sources})"
        )

    def json(self) -> dict[str, Any]:
        """Return the counts of all images and of each class; accuracies differ in points."""
        document: dict[str, Any] = {"run": self.names[1], "against": self.names[0], "reason": self.reason}
        if self.comparison is None or self.predictions is None:
            return document | {"total": None, "classes": []}
        classes = [
            {"class": self.class_name(number), **result.json(), "adjusted_p": self.comparison.adjusted_p[number]}
            for number, result in self.comparison.by_class.items()
        ]
        split, total = self.predictions[0].split, {**self.comparison.total.json(), "adjusted_p": self.p_value}
        return document | {"split": split, "total": total, "classes": classes}


def compare_runs(runs: Sequence[Run], histories: Sequence[History], names: Sequence[str]) -> list[PredictionPair]:
    """Compare each run but the first with it; nothing where neither of them keeps predictions."""
    started = histories[0].started
    class_names = started.classes if started else ()
    first, *others = [_read(run) for run in runs]
    pairs = [
        _pair((names[0], name), first, second, class_names)
        for name, second in zip(names[1:], others, strict=True)
        if first is not None or second is not None
    ]
    p_values = [pair.comparison.total.p_value for pair in pairs if pair.comparison is not None]
    if len(p_values) < 2:
        return pairs
    adjusted = iter(holm(p_values))
    return [pair if pair.comparison is None else replace(pair, adjusted_p=next(adjusted)) for pair in pairs]


def _read(run: Run) -> Predictions | UserError | None:
    """Return the predictions of a run, or why they cannot be read; None where it keeps none."""
    try:
        return predictions.read(run.path)
    except UserError as error:
        return error


def _pair(
    names: tuple[str, str],
    first: Predictions | UserError | None,
    second: Predictions | UserError | None,
    class_names: Sequence[str],
) -> PredictionPair:
    if isinstance(first, Predictions) and isinstance(second, Predictions):
        try:
            return PredictionPair(names, (first, second), compare_predictions(first, second), None, class_names)
        except ValueError as error:
            return PredictionPair(names, None, None, str(error), ())
    for unreadable in (first, second):
        if isinstance(unreadable, UserError):
            return PredictionPair(names, None, None, unreadable.problems[0].message, ())
    missing = names[0] if first is None else names[1]
    reason = f"{missing} has no {predictions.NAME} (convnn evaluate RUN --save writes it)"
    return PredictionPair(names, None, None, reason, ())


def class_table(pairs: Sequence[PredictionPair]) -> Table | None:
    """Return the classes in which the models differ most, with the adjusted p of each; None where none is compared."""
    compared = [pair for pair in pairs if pair.comparison is not None]
    if not compared:
        return None
    first = compared[0].names[0]
    columns = [Column("class"), Column("images", right=True), Column(first, right=True)]
    for pair in compared:
        columns += [Column(pair.names[1], right=True), Column(f"p {pair.names[1]}", right=True)]
    comparisons = [pair.comparison for pair in compared if pair.comparison is not None]
    largest = {
        number: max(abs(comparison.by_class[number].difference) for comparison in comparisons)
        for number in comparisons[0].by_class
    }
    differing = sorted((number for number in largest if largest[number]), key=lambda number: -largest[number])
    rows = []
    for number in differing[:MOST_CLASSES]:
        result = comparisons[0].by_class[number]
        row = [compared[0].class_name(number), str(result.images), f"{100 * result.first_correct / result.images:.2f}"]
        for comparison in comparisons:
            second = comparison.by_class[number]
            row.append(f"{100 * second.second_correct / second.images:.2f} ({second.difference:+.2f})")
            row.append(f"{comparison.adjusted_p[number]:.2g}")
        rows.append(row)
    if not rows:
        return Table(columns, rows, "no class differs in accuracy", key_columns=1)
    part = part_text(rows, differing)
    title = f"accuracy by class in %, largest differences to {first} first{part}; p by McNemar's test, Holm-adjusted"
    return Table(columns, rows, title, key_columns=1)
