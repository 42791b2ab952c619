"""Series drawn as lines of text: curves, axes, a label at each line's end, and in words whatever is not shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.text import Text

from convnn import text
from convnn.charts.canvas import Canvas
from convnn.charts.layout import FAINT, Curve, Range, around, frame_of, paint_axes, paint_curves, paint_labels, plotted
from convnn.text import escaped, fit, printable

if TYPE_CHECKING:
    import numpy as np

# Of middle lightness: 3:1 or more against black and white alike, in an order that red-green blindness tells apart.
COLORS = ("#2f86d6", "#d9661f", "#2a9d6a", "#b35fd0", "#9c7d12", "#d9486e", "#17969b", "#8a7f78")
PLACES = 3  # of marks with the same word that a note names
LETTERS = "*+ox#%@&"  # where there is no braille, each curve has its own


@dataclass(frozen=True)
class Series:
    """One curve: a label, points (lists or arrays; arrays are faster), and a color, by default that of its place."""

    label: str
    xs: Any
    ys: Any
    color: str | None = None


@dataclass(frozen=True)
class Chart:
    """A drawn chart: lines of exactly the width asked for, and what they do not show."""

    lines: list[Text]
    notes: list[str]  # what is hidden, missing or marked, in words; also the last line, where there is room
    hidden: list[str]  # labels of the series of which nothing is drawn
    cursor_values: list[float | None]  # of each series at the cursor; None where it has no point
    x_range: Range
    x_per_column: float  # the x that one column of cells spans: a step for a cursor

    def __rich__(self) -> Text:
        return Text("\n", no_wrap=True, overflow="crop", end="").join(self.lines)


def smooth(ys: Sequence[float] | np.ndarray, weight: float) -> np.ndarray:
    """Exponential moving average of that weight (0 to below 1), corrected for its start.

    Values that are not finite stay where they are and do not spread. Raises ValueError for another weight.
    """
    import numpy as np

    if not 0 <= weight < 1:
        raise ValueError(f"a smoothing weight is at least 0 and below 1, got {weight}")
    y = np.asarray(ys, float)
    good = np.isfinite(y)
    whole = bool(good.all())
    total = y.copy() if whole else np.where(good, y, 0.0)
    _accumulate(total, weight)
    if whole:  # the weights of n points add up to (1 - weight**n) / (1 - weight)
        start = total[: 1 + math.ceil(-40 / math.log(weight)) if weight else 1]  # beyond it weight**n is nothing
        start /= 1 - weight ** np.arange(1, len(start) + 1)
        return total * (1 - weight)
    count = good.astype(float)
    _accumulate(count, weight)
    return np.where(good, total / np.where(good, count, 1.0), y)


def _accumulate(sums: np.ndarray, weight: float) -> None:
    """Make every value, in place, the sum of those up to it, each weighted by weight**distance."""
    import numpy as np

    spare, reach = np.empty_like(sums), 1
    while reach < len(sums) and (factor := weight**reach) > 1e-17:  # each round doubles how far back the sums go
        np.multiply(sums[:-reach], factor, out=spare[reach:])
        sums[reach:] += spare[reach:]
        reach *= 2


def draw(
    series: Sequence[Series],
    width: int,
    height: int,
    *,
    x: str = "epoch",
    log_y: bool = False,
    x_range: Range | None = None,
    y_range: Range | None = None,
    cursor: float | None = None,
    marks: Sequence[tuple[float, str]] = (),
    smoothing: float = 0.0,
    ascii: bool = False,
    max_curves: int = 8,
    empty_text: str = "no points yet",
) -> Chart:
    """The first `max_curves` series in width x height cells.

    x is "epoch", "step" or "seconds". Marks are vertical lines at an x, each with a word. At the cursor every label
    shows the value of its nearest point. Smoothing is the weight of `smooth`; the raw points stay, dimmed.
    A chart without points shows `empty_text`.
    """

    points = [_points(one) for one in series]
    names = [printable(escaped(one.label), ascii) for one in series]
    values = [_value_at(*each, cursor) for each in points]
    shown = x_range or around([end for xs, _ in points[:max_curves] if len(xs) for end in (xs[0], xs[-1])])
    curves: list[Curve] = []
    hidden: list[int] = []
    notes: list[str] = []
    for place, (one, (xs, ys), name, value) in enumerate(zip(series, points, names, values, strict=True)):
        curve = _curve(name, xs, ys, shown, log_y, smoothing, notes) if place < max_curves else None
        if curve is None:
            hidden.append(place)
            continue
        curve.color = one.color or COLORS[place % len(COLORS)]
        curve.letter = LETTERS[place % len(LETTERS)] if ascii else ""
        curve.text = _text(curve, value, width // 3, ascii)
        curves.append(curve)
    if hidden:
        told = ", ".join(names[place] for place in hidden)
        notes.insert(0, f"{len(hidden)} of {len(series)} series hidden: {told}")
    if marks:
        notes.append(f"{':' if ascii else '┊'} {printable(escaped(_told(marks, shown, x)), ascii)}")

    canvas, columns = Canvas(max(0, width), max(0, height)), 1
    if not curves:
        said = fit("; ".join(notes) if any(len(xs) for xs, _ in points) else printable(empty_text, ascii), width, ascii)
        canvas.put(height // 2, max(0, (width - cell_len(said)) // 2), said, FAINT)
    elif width > 0 and height > 0:
        frame = frame_of(canvas, curves, shown, y_range, log_y, notes)
        paint_curves(canvas, frame, curves, ascii)
        paint_axes(canvas, frame, x, log_y, cursor, ascii)
        paint_labels(canvas, frame, curves, notes, ascii)
        for at, _ in marks:
            if shown[0] <= at <= shown[1]:
                canvas.fill(frame.left + frame.column(at), frame.rows, ":" if ascii else "┊", FAINT)
        if cursor is not None and shown[0] <= cursor <= shown[1]:
            canvas.fill(frame.left + frame.column(cursor), frame.rows, "|" if ascii else "│", "")
        columns = frame.columns
    column = (shown[1] - shown[0]) / max(1, columns - 1)
    return Chart(canvas.lines(), notes, [series[place].label for place in hidden], values, shown, column)


def _curve(
    name: str, xs: np.ndarray, ys: np.ndarray, shown: Range, log_y: bool, smoothing: float, notes: list[str]
) -> Curve | None:
    """What a series shows in a range of x, None if that is nothing; what it cannot show goes to the notes."""
    import numpy as np

    first, last = int(np.searchsorted(xs, shown[0])), int(np.searchsorted(xs, shown[1], "right"))
    start, inside = max(0, first - 1), ys[first:last]
    odd = ~np.isfinite(inside)
    if log_y or odd.any():
        kinds = {"NaN": np.isnan(inside), "infinite": np.isinf(inside), "not above 0": log_y & (inside <= 0)}
        notes += [f"{mask.sum()} {kind} in {name}" for kind, mask in kinds.items() if mask.any()]
    scaled = plotted(ys, log_y)
    raw = scaled[start : last + 1]
    if not odd.any() and not (np.isfinite(raw).any() and (last > first or 0 < first < len(xs))):
        return None
    y = smooth(scaled, smoothing)[start : last + 1] if smoothing else raw
    strange = list(zip(xs[first:last][odd].tolist(), inside[odd].tolist(), strict=True))
    part = slice(first - start, last - start)
    return Curve(name, xs[start : last + 1], y, raw if smoothing else None, part, strange)


def _points(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """x and y as arrays, ascending in x, without points that have no x."""
    import numpy as np

    xs, ys = np.asarray(series.xs, float), np.asarray(series.ys, float)
    if xs.shape != ys.shape:
        raise ValueError(f"series {series.label}: {len(xs)} x and {len(ys)} y")
    if not (good := np.isfinite(xs)).all():
        xs, ys = xs[good], ys[good]
    if (xs[1:] < xs[:-1]).any():
        order = np.argsort(xs, kind="stable")
        xs, ys = xs[order], ys[order]
    return xs, ys


def _told(marks: Sequence[tuple[float, str]], shown: Range, x: str) -> str:
    """The words of marks, each with where it stands in sight; of many the first."""
    said = []
    for word in dict.fromkeys(word for _, word in marks):
        places = [at for at, other in marks if other == word and shown[0] <= at <= shown[1]]
        told = [
            text.duration(at) if x == "seconds" else text.number(at) if at >= 1e4 else f"{at:.4g}"
            for at in places[:PLACES]
        ]
        said.append(" ".join([word, *told, *["..."] * (len(places) > PLACES)]))
    return ", ".join(said)


def _value_at(xs: np.ndarray, ys: np.ndarray, at: float | None) -> float | None:
    """The value of the nearest point, None before the first and after the last."""
    import numpy as np

    if at is None or not len(xs) or not xs[0] <= at <= xs[-1]:
        return None
    right = int(np.searchsorted(xs, at))
    left = max(0, right - 1)
    return float(ys[left] if at - xs[left] < xs[right] - at else ys[right])


def _text(curve: Curve, value: float | None, most: int, ascii: bool) -> str:
    """The label with its letter and the value at the cursor, in at most so many cells; the name is what is cut."""
    told = "" if value is None else text.number(value)
    room = max(3, most - 2 - cell_len(told) - len(curve.letter))
    return " ".join(filter(None, (curve.letter, fit(curve.label, room, ascii), told)))
