"""How a chart is laid out and painted on a canvas: where the plot lies, its curves, axes and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

from convnn import text as convnn_text
from convnn.charts import ticks
from convnn.charts.canvas import Canvas, extents
from convnn.text import fit

if TYPE_CHECKING:
    import numpy as np

FAINT = "dim"
Range = tuple[float, float]


@dataclass
class Curve:
    """What a chart shows of a series."""

    label: str
    x: np.ndarray  # the points in the window and one on either side, so that lines run off the edge
    y: np.ndarray  # as plotted: log10 on a logarithmic axis, NaN where there is nothing to draw
    raw: np.ndarray | None  # what y was before smoothing
    inside: slice  # the points in the window
    odd: list[tuple[float, float]]  # the points in the window that are not finite
    color: str = ""
    letter: str = ""  # what draws it where there is no braille
    text: str = ""  # the label as shown: with its letter and with the value at the cursor


@dataclass
class Frame:
    """Where the plot lies on the canvas, and which x and y it shows."""

    left: int
    columns: int
    rows: int
    foot: int  # rows of the x axis below
    x: Range
    y: Range

    def column(self, x: float) -> int:
        return round(min(1, max(0, (x - self.x[0]) / (self.x[1] - self.x[0]))) * (self.columns - 1))

    def row(self, y: float) -> int:
        return round(min(1, max(0, (self.y[1] - y) / (self.y[1] - self.y[0]))) * (self.rows - 1))


def frame_of(
    canvas: Canvas, curves: list[Curve], x: Range, y_range: Range | None, log_y: bool, notes: list[str]
) -> Frame:
    """Share the canvas out: numbers on the left and below, labels on the right, the notes last."""
    import numpy as np

    foot = (canvas.height >= 4) + (canvas.height >= 6)  # the numbers, then the line above them
    rows = canvas.height - foot
    rows -= rows >= 6 and (bool(notes) or len(curves) > rows)
    low, high = plotted(np.array(y_range or (np.nan, np.nan), float), log_y).tolist()
    if not low < high:
        ends: list[float] = []
        for curve in curves:
            for y in (curve.y, curve.raw):
                if y is None:
                    continue
                seen = y[curve.inside]
                if not (finite := np.isfinite(seen)).all():
                    seen = seen[finite]
                ends += [seen.min(), seen.max()] if len(seen) else []
        low, high = around(ends)
    gutter = min(max(cell_len(curve.text) for curve in curves) + 2, canvas.width // 3) if canvas.width >= 24 else 0
    left = max(map(len, _y_ticks((low, high), rows, log_y).values()), default=0) + 1 if foot else 0
    left = left if canvas.width - left - gutter >= 8 else 0
    return Frame(left, canvas.width - left - gutter, rows, foot, x, (low, high))


def _y_ticks(y: Range, rows: int, log_y: bool) -> dict[float, str]:
    most = max(2, rows // 3 + 1)
    found = ticks.log_ticks(*y, most) if log_y else ticks.ticks(*y, most)
    return dict(zip(found, ticks.labels([10.0**t for t in found] if log_y else found, log=log_y), strict=True))


def paint_curves(canvas: Canvas, frame: Frame, curves: list[Curve], ascii: bool) -> None:
    """The lines, the first on top; behind them the raw points; over them the points that are not finite."""
    import numpy as np

    wide, high = (1, 1) if ascii else (2, 4)
    rows = np.arange(frame.rows * high)[:, None]
    scale = (len(rows) - 1) / (frame.y[1] - frame.y[0])
    for raw in (False, True):
        for curve in curves:
            if (y := curve.raw if raw else curve.y) is None:
                continue
            low, top, alone = extents(curve.x, y, frame.x, frame.columns * wide, connected=not raw)
            # a comparison with NaN is false: no dot in a column without a point
            dots = (rows >= np.rint((frame.y[1] - top) * scale)) & (rows <= np.rint((frame.y[1] - low) * scale))
            style = f"{FAINT} {curve.color}" if raw else curve.color
            canvas.dots(frame.left, dots, style, "." if raw and ascii else curve.letter, behind=raw)
            for column in np.flatnonzero(alone & dots.any(0)) if not ascii else ():
                canvas.put(int(dots[:, column].argmax()) // 4, frame.left + int(column) // 2, "•", style)
    for curve in curves:
        for at, value in curve.odd:
            canvas.put(
                0 if value > 0 else frame.rows - 1, frame.left + frame.column(at), _sign(value, ascii), curve.color
            )


def paint_axes(canvas: Canvas, frame: Frame, x: str, log_y: bool, cursor: float | None, ascii: bool) -> None:
    """Ticks and numbers, those of x below, and the unit of x at their end."""
    side, tick, corner, line, down = "||+-+" if ascii else "│┤└─┬"
    end, numbers = frame.left + frame.columns, frame.rows + frame.foot - 1
    if frame.left:
        for row in range(frame.rows):
            canvas.put(row, frame.left - 1, side, FAINT)
        for value, word in _y_ticks(frame.y, frame.rows, log_y).items():
            if canvas.free(frame.row(value), 0, frame.left - 1):
                canvas.put(frame.row(value), frame.left - 1 - len(word), word + tick, FAINT)
    if frame.foot > 1:
        canvas.put(frame.rows, frame.left - 1, corner * bool(frame.left) + line * frame.columns, FAINT)
    if not frame.foot:
        return
    most = max(2, frame.columns // 10)
    if x == "seconds":
        found = ticks.time_ticks(*frame.x, most)
        words = ticks.time_labels(found)
    else:
        found = ticks.ticks(*frame.x, most, whole=True) or ticks.ticks(*frame.x, most)
        words = ticks.labels(found)
    spots = [(frame.left + frame.column(at), word, FAINT) for at, word in zip(found, words, strict=True)]
    if cursor is not None and frame.x[0] <= cursor <= frame.x[1]:
        word = convnn_text.duration(cursor) if x == "seconds" else f"{cursor:.10g}"
        spots.insert(0, (frame.left + frame.column(cursor), word, "reverse"))
    unit = "time" if x == "seconds" else x
    if canvas.width - end >= len(unit) + 1:
        canvas.put(numbers, canvas.width - len(unit), unit, FAINT)
    for column, word, style in spots:
        start = max(0, min(column - len(word) // 2, canvas.width - len(word)))
        if canvas.free(numbers, start - 1, start + len(word) + 1):
            canvas.put(numbers, start, word, style)
            if frame.foot > 1 and style == FAINT:
                canvas.put(frame.rows, column, down, FAINT)


def paint_labels(canvas: Canvas, frame: Frame, curves: list[Curve], notes: list[str], ascii: bool) -> None:
    """Each label where its line ends, or as near as there is room; the notes in the last line."""
    import numpy as np

    homeless, edge = [], frame.left + frame.columns
    wanted = []
    for curve in curves:
        if len(ends := _last_finite(curve.y)):
            last = min(float(curve.x[ends[-1]]), frame.x[1])
            row = frame.row(float(np.interp(last, curve.x[ends], curve.y[ends])))
        else:
            last, row = curve.odd[-1][0], frame.rows - 1
        wanted.append((row, frame.left + frame.column(last) + 2, curve))
    for row, near, curve in sorted(wanted, key=lambda one: one[0]):
        width = cell_len(curve.text)
        places = [(r, c) for r in range(frame.rows) for c in (near, edge + 1) if c + width <= canvas.width or c > edge]
        for r, c in sorted(places, key=lambda place: (abs(place[0] - row) + 3 * (place[1] != near), place)):
            text = fit(curve.text, canvas.width - c, ascii)
            if text and canvas.free(r, c - 1, c + cell_len(text)):
                canvas.put(r, c, text, f"bold {curve.color}")
                break
        else:
            homeless.append(curve.label)
    if homeless:
        notes.append(f"no room for {len(homeless)} of {len(curves)} labels: {', '.join(homeless)}")
    if notes and frame.rows + frame.foot < canvas.height:
        canvas.put(canvas.height - 1, 0, fit("; ".join(notes), canvas.width, ascii), FAINT)


def _last_finite(y: np.ndarray) -> np.ndarray:
    """Where the last two finite values stand (the very last may lie beyond the window), or the only one, or none."""
    import numpy as np

    for reach in (16, len(y)):  # the end tells nearly always, and all of a long curve is a millisecond's work
        tail = max(0, len(y) - reach)
        ends = tail + np.flatnonzero(np.isfinite(y[tail:]))[-2:]
        if len(ends) == 2:
            break
    return ends


def _sign(value: float, ascii: bool) -> str:
    """What stands for a value that is not finite."""
    if value != value:
        return "!" if ascii else "×"
    return ("^" if ascii else "▲") if value > 0 else ("v" if ascii else "▼")


def plotted(y: np.ndarray, log_y: bool) -> np.ndarray:
    """What the axis measures; on a logarithmic one not finite where there is no logarithm."""
    import numpy as np

    if not log_y:
        return y
    if len(y) and y.min() > 0:  # false where there is a NaN; the masked way is far slower
        return np.log10(y)
    return np.log10(y, out=np.full(y.shape, np.nan), where=y > 0)


def around(values: Sequence[float]) -> Range:
    """The smallest range that holds all the values; around a single one there is some room."""
    low, high = float(min(values, default=0.0)), float(max(values, default=1.0))
    if high - low > 1e-12 * max(abs(low), abs(high)):
        return low, high
    room = abs(low) * 0.1 or 1.0
    return low - room, high + room
