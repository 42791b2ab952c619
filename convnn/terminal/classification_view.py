"""A confusion matrix and misclassified images as lines of a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.text import Text

from convnn.analysis.class_order import ClassOrder
from convnn.analysis.classification import confusion_matrix, most_confused, sorted_results
from convnn.analysis.classification_report import ClassificationReport
from convnn.charts.half_blocks import HalfBlocks, fit_scale, scaled
from convnn.terminal.report import Tone
from convnn.text import escaped, fit, plural

if TYPE_CHECKING:
    import numpy as np

LARGEST_NAME = 18  # cells of a class name at the left
GAP = 2
REST = "rest"  # title of the column of all other answers
MANY, SOME = 0.1, 0.03  # share of the images of a class from which on a confusion is colored
IMAGE_ROWS, IMAGE_COLUMNS = 12, 24  # cells of an image


def matrix_lines(
    report: ClassificationReport, order: ClassOrder, width: int, style: Callable[[Tone], str]
) -> list[Text]:
    """Draw the confusion matrix: a row by class, a column by answer, a dot for no image.

    Where it is wider than `width` cells, only the classes of the most frequent confusions are drawn, and a last column
    has the number of all other answers.
    """
    predictions = report.predictions
    count_width = max(3, len(str(max(result.images for result in report.results))))
    number_width = len(str(predictions.num_classes - 1))
    cell_width = max(count_width, number_width) + 1
    name_width = min(LARGEST_NAME, max(cell_len(escaped(report.name(n))) for n in range(predictions.num_classes)))
    has_numbers = any(report.name(n) != str(n) for n in range(predictions.num_classes))
    head_width = name_width
    if has_numbers:
        head_width += number_width + 1
    classes, part, column_widths = list(range(predictions.num_classes)), "", [cell_width] * predictions.num_classes
    if head_width + sum(column_widths) > width:
        rest_width = max(cell_width, cell_len(REST) + 1)
        classes = most_confused(report.confusions, max(0, (width - head_width - rest_width) // cell_width))
        part = f", {len(classes)} most confused of {plural(predictions.num_classes, 'class', 'classes')}"
        column_widths = [*[cell_width] * len(classes), rest_width]
    ranks = {result.number: rank for rank, result in enumerate(sorted_results(report.results, order))}
    classes.sort(key=ranks.__getitem__)
    title = f"confusion matrix{part}: a row by class, a column by answer"
    lines = [Text(fit(title, width), style("bold"))]
    if not classes:
        reason = "no room"
        if not report.confusions:
            reason = "no image is taken for another class"
        return [*lines, Text(fit(reason, width))]
    titles = [*map(str, classes), REST][: len(column_widths)]
    head = "".join(map(str.rjust, titles, column_widths))
    lines.append(Text(" " * head_width + head, style("dim")))
    for number, row in zip(classes, confusion_matrix(predictions, classes), strict=True):
        name = set_cell_size(fit(escaped(report.name(number)), name_width), name_width)
        line = Text(f"{number:>{number_width}} {name}" if has_numbers else name)
        images = report.results[number].images
        for column, (count, size) in enumerate(zip(row.tolist(), column_widths, strict=False)):
            is_diagonal = column < len(classes) and classes[column] == number
            tone = _tone(count, images, is_diagonal=is_diagonal)
            line.append(f"{count or '·':>{size}}", style(tone))
        lines.append(line)
    return lines


def _tone(count: int, images: int, *, is_diagonal: bool) -> Tone:
    if not count:
        return "dim"
    if is_diagonal:
        return "success"
    share = count / images
    if share >= MANY:
        return "error"
    return "warning" if share >= SOME else ""


def image_lines(images: Sequence[np.ndarray], captions: Sequence[str], width: int, *, letters: bool) -> list[Text]:
    """Draw images (H, W, 3) uint8 with their captions below them, as many beside each other as there is room for."""
    blocks = []
    for pixels, caption in zip(images, captions, strict=True):
        height, columns, _ = pixels.shape
        scale = fit_scale(height, columns, IMAGE_ROWS, min(IMAGE_COLUMNS, width))
        lines = HalfBlocks(scaled(pixels, scale), letters=letters).lines()
        words = wrap(escaped(caption), IMAGE_COLUMNS)
        blocks.append([*lines, *(Text(part) for line in words for part in chop_cells(line, IMAGE_COLUMNS))])
    per_row = max(1, (width + GAP) // (IMAGE_COLUMNS + GAP))
    result = []
    for start in range(0, len(blocks), per_row):
        row = blocks[start : start + per_row]
        for index in range(max(map(len, row))):
            line = Text(end="", no_wrap=True, overflow="crop")
            for block in row:
                part = block[index] if index < len(block) else Text()
                line.append_text(part).append(" " * (IMAGE_COLUMNS + GAP - part.cell_len))
            line.rstrip()
            result.append(line)
        result.append(Text())
    return result
