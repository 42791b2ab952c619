"""Curves drawn as lines of text: `draw` gives the lines with axes and labels, and notes on what they do not show.

Control characters and signs beyond ASCII are replaced where text is written to a terminal, with one exception: braille
has no ASCII counterpart that keeps curves apart. So whoever writes to an ASCII terminal draws with `letters=True`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.text import Text

from convnn.charts.canvas import Canvas
from convnn.charts.layout import (
    FAINT,
    Curve,
    Range,
    enclosing_range,
    make_frame,
    paint_axes,
    paint_curves,
    paint_labels,
    to_axis,
)
from convnn.text import duration, escaped, fit, number, to_ascii

if TYPE_CHECKING:
    import numpy as np

# of middle lightness: 3:1 or more against black and white alike, in an order that red-green blindness tells apart
COLORS = ("#2f86d6", "#d9661f", "#2a9d6a", "#b35fd0", "#9c7d12", "#d9486e", "#17969b", "#8a7f78")
LETTERS = "*+o#%@&="
MARK, CURSOR = "┊", "│"
MAX_CURVES = len(COLORS)
MAX_MARK_PLACES = 3  # of marks with the same word that a note names


@dataclass(frozen=True)
class Series:
    """One curve: a label, its points as lists or arrays (arrays are faster), and a color, by default of its place."""

    label: str
    xs: Any
    ys: Any
    color: str | None = None
    is_background: bool = False  # behind the others instead of beside them where they overlap


@dataclass(frozen=True)
class Chart:
    """A drawn chart: lines of exactly the width asked for, and what they do not show."""

    lines: list[Text]
    notes: list[str]  # what is hidden, missing or marked; also in the last line, where there is room
    hidden: list[str]  # labels of the series of which nothing is drawn
    cursor_values: list[float | None]  # of each series; None where it has no point at the cursor
    x_range: Range
    x_per_column: float  # the x that one column of cells spans: a step for a cursor

    def __rich__(self) -> Text:
        return Text("\n", no_wrap=True, overflow="crop", end="").join(self.lines)


def draw(
    series: Sequence[Series],
    width: int,
    height: int,
    *,
    x: str = "epoch",
    log_x: bool = False,
    log_y: bool = False,
    x_range: Range | None = None,
    cursor: float | None = None,
    marks: Sequence[tuple[float, str]] = (),
    smoothing: float = 0.0,
    letters: bool = False,
    empty_text: str = "no points yet",
) -> Chart:
    """Draw the first MAX_CURVES series in width x height cells; those beyond are counted in the notes.

    Args:
        series: the curves
        width: in cells
        height: in cells
        x: the unit of x: "epoch", "step", "seconds" (written as time), or another word
        log_x: whether x has a logarithmic axis; the range of the chart is then one of powers of ten
        log_y: whether y has a logarithmic axis
        x_range: the x to show, by default all
        cursor: an x at which every label shows the value of its nearest point
        marks: vertical lines, (x, word) each
        smoothing: the weight of `smooth`; the raw points stay behind the curve, dimmed
        letters: draw each curve with a letter of its own instead of braille, and labels in ASCII
        empty_text: what a chart without points says
    """
    if log_x:
        if cursor is not None:
            cursor = math.log10(cursor)
        if x_range is not None:
            x_range = math.log10(x_range[0]), math.log10(x_range[1])
        marks = [(math.log10(place), word) for place, word in marks]
    points = [_points(one_series, log_x) for one_series in series]
    labels = [_plain(one_series.label, letters) for one_series in series]
    cursor_values = [_value_at(xs, ys, cursor) for xs, ys in points]
    visible = x_range or enclosing_range([end for xs, _ in points[:MAX_CURVES] if len(xs) for end in (xs[0], xs[-1])])
    curves: list[Curve] = []
    hidden: list[int] = []
    notes: list[str] = []
    for index, (label, (xs, ys)) in enumerate(zip(labels, points, strict=True)):
        curve = None
        if index < MAX_CURVES:
            curve = _curve(label, xs, ys, visible, log_y, smoothing, notes)
        if curve is None:
            hidden.append(index)
            continue
        curve.is_background = series[index].is_background
        curve.color = series[index].color or COLORS[index % len(COLORS)]
        if letters:
            curve.letter = LETTERS[index % len(LETTERS)]
        curve.label_text = _label_text(curve, cursor_values[index], width // 3)
        curves.append(curve)
    if hidden:
        notes.insert(0, f"{len(hidden)} of {len(series)} series hidden: {', '.join(labels[index] for index in hidden)}")
    if marks:
        notes.append(f"{MARK} {_plain(_marks_text(marks, visible, x, log_x), letters)}")

    canvas, columns = Canvas(max(0, width), max(0, height)), 1
    if not curves:
        message = _plain(empty_text, letters)
        if any(len(xs) for xs, _ in points):
            message = "; ".join(notes)
        message = fit(message, width)
        canvas.write(height // 2, max(0, (width - cell_len(message)) // 2), message, FAINT)
    elif width > 0 and height > 0:
        frame = make_frame(canvas, curves, visible, log_y, notes)
        columns = frame.columns
        paint_curves(canvas, frame, curves)
        paint_axes(canvas, frame, x, log_x, log_y, cursor)
        paint_labels(canvas, frame, curves, notes)
        for mark, _ in marks:
            if visible[0] <= mark <= visible[1]:
                canvas.fill_column(frame.column(mark), frame.rows, MARK, FAINT)
        if cursor is not None and visible[0] <= cursor <= visible[1]:
            canvas.fill_column(frame.column(cursor), frame.rows, CURSOR, "")
    x_per_column = (visible[1] - visible[0]) / max(1, columns - 1)
    hidden_labels = [series[index].label for index in hidden]
    return Chart(canvas.lines(), notes, hidden_labels, cursor_values, visible, x_per_column)


def _plain(text: str, ascii_only: bool) -> str:
    """Return text from outside as it will be written, since what a writer lengthens later would not fit its cells."""
    text = escaped(text)
    if ascii_only:
        return to_ascii(text)
    return text


def _points(series: Series, log_x: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return x, in the unit of its axis, and y as arrays, ascending in x, without points whose x is not finite."""
    import numpy as np

    xs, ys = np.asarray(series.xs, float), np.asarray(series.ys, float)
    if xs.shape != ys.shape:
        raise ValueError(f"series {series.label}: {len(xs)} x and {len(ys)} y")
    xs = to_axis(xs, log_x)
    if not (finite := np.isfinite(xs)).all():
        xs, ys = xs[finite], ys[finite]
    if (xs[1:] < xs[:-1]).any():
        order = np.argsort(xs, kind="stable")
        xs, ys = xs[order], ys[order]
    return xs, ys


def _curve(
    label: str, xs: np.ndarray, ys: np.ndarray, visible: Range, log_y: bool, smoothing: float, notes: list[str]
) -> Curve | None:
    """Return what a series shows in a range of x, None if that is nothing; the notes say what it cannot show."""
    import numpy as np

    first, last = int(np.searchsorted(xs, visible[0])), int(np.searchsorted(xs, visible[1], "right"))
    start, inside = max(0, first - 1), ys[first:last]
    nonfinite = ~np.isfinite(inside)
    if log_y or nonfinite.any():
        kinds = {"NaN": np.isnan(inside), "infinite": np.isinf(inside), "not above 0": log_y & (inside <= 0)}
        notes += [f"{mask.sum()} {kind} in {label}" for kind, mask in kinds.items() if mask.any()]
    scaled = to_axis(ys, log_y)
    raw = scaled[start : last + 1]
    if not nonfinite.any() and not (np.isfinite(raw).any() and (last > first or 0 < first < len(xs))):
        return None
    points = list(zip(xs[first:last][nonfinite].tolist(), inside[nonfinite].tolist(), strict=True))
    x, window = xs[start : last + 1], slice(first - start, last - start)
    if smoothing:
        return Curve(label, x, smooth(scaled, smoothing)[start : last + 1], raw, window, points)
    return Curve(label, x, raw, None, window, points)


def _marks_text(marks: Sequence[tuple[float, str]], visible: Range, x: str, log_x: bool) -> str:
    """Return the words of marks, each with the first of its places in sight: "resumed 5, paused 7 9"."""
    texts = []
    for word in dict.fromkeys(word for _, word in marks):
        places = [place for place, name in marks if name == word and visible[0] <= place <= visible[1]]
        if log_x:
            places = [10**place for place in places]
        words = [word, *(_place_text(place, x) for place in places[:MAX_MARK_PLACES])]
        if len(places) > MAX_MARK_PLACES:
            words.append("...")
        texts.append(" ".join(words))
    return ", ".join(texts)


def _place_text(place: float, x: str) -> str:
    if x == "seconds":
        return duration(place)
    return number(place) if place >= 1e4 else f"{place:.4g}"


def _value_at(xs: np.ndarray, ys: np.ndarray, x: float | None) -> float | None:
    """Return the y of the point nearest to x, None before the first point and after the last."""
    import numpy as np

    if x is None or not len(xs) or not xs[0] <= x <= xs[-1]:
        return None
    right = int(np.searchsorted(xs, x))
    left = max(0, right - 1)
    nearest = left if x - xs[left] < xs[right] - x else right
    return float(ys[nearest])


def _label_text(curve: Curve, value: float | None, width: int) -> str:
    """Return the label with its letter and the value at the cursor in at most `width` cells; the name is cut."""
    value_text = ""
    if value is not None:
        value_text = number(value)
    name_width = max(3, width - 2 - cell_len(value_text) - len(curve.letter))
    return " ".join(filter(None, (curve.letter, fit(curve.label, name_width), value_text)))


def smooth(ys: Sequence[float] | np.ndarray, weight: float) -> np.ndarray:
    """Return the exponential moving average of that weight (0 to below 1), corrected for its start.

    s_i = sum of weight**(i - j) * y_j over j <= i / sum of weight**(i - j). Values that are not finite stay where they
    are and do not spread. Raises ValueError for another weight.
    """
    import numpy as np

    if not 0 <= weight < 1:
        raise ValueError(f"a smoothing weight is at least 0 and below 1, got {weight}")
    y = np.asarray(ys, float)
    finite = np.isfinite(y)
    if finite.all():
        sums = y.copy()
        _accumulate(sums, weight)
        # the weights of n points add up to (1 - weight**n) / (1 - weight); for large n weight**n is nothing
        count = 1 + math.ceil(-40 / math.log(weight)) if weight else 1
        start = sums[:count]
        start /= 1 - weight ** np.arange(1, len(start) + 1)
        return sums * (1 - weight)
    sums, weights = np.where(finite, y, 0.0), finite.astype(float)
    _accumulate(sums, weight)
    _accumulate(weights, weight)
    return np.where(finite, sums / np.where(finite, weights, 1.0), y)


def _accumulate(sums: np.ndarray, weight: float) -> None:
    """Make every value, in place, the sum of those up to it, each weighted by weight**distance."""
    import numpy as np

    spare, distance = np.empty_like(sums), 1
    while distance < len(sums) and (factor := weight**distance) > 1e-17:  # each round doubles how far the sums reach
        np.multiply(sums[:-distance], factor, out=spare[distance:])
        sums[distance:] += spare[distance:]
        distance *= 2
