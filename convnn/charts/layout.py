"""The layout of a chart on a canvas: where the plot lies, its curves, axes and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

from convnn.charts import ticks
from convnn.charts.canvas import Canvas, column_extents
from convnn.text import duration, fit

if TYPE_CHECKING:
    import numpy as np

FAINT = "dim"
NAN, ABOVE, BELOW, POINT = "×", "▲", "▼", "•"  # of values that are not finite, and of a point without neighbors
RAW_LETTER = "."  # of the points behind a smoothed curve, where curves are letters
MIN_PLOT_WIDTH, MIN_LABELED_WIDTH = 8, 24
STRIPE = 2  # columns that each of the curves in the same cells gets in turn
Range = tuple[float, float]


@dataclass
class Curve:
    """What a chart shows of a series."""

    label: str
    x: np.ndarray  # the points in the window and one on either side, so that lines run off the edge
    y: np.ndarray  # in the unit of the axis: log10 on a logarithmic one, NaN where there is nothing to draw
    raw: np.ndarray | None  # what y was before smoothing
    inside: slice  # the points in the window
    nonfinite: list[tuple[float, float]]  # the points in the window that are not finite
    color: str = ""
    letter: str = ""  # that draws it; without one it is drawn in braille
    label_text: str = ""  # the label with its letter and with the value at the cursor
    is_background: bool = False


@dataclass
class Frame:
    """Where the plot lies on the canvas, and the range of x and y that it shows."""

    left: int
    columns: int
    rows: int
    axis_rows: int  # of the x axis, below the plot
    x: Range
    y: Range

    @property
    def right(self) -> int:
        """The first column to the right of the plot."""
        return self.left + self.columns

    def column(self, x: float) -> int:
        """Return the column of the canvas that shows an x, that of the nearest edge for one outside."""
        fraction = (x - self.x[0]) / (self.x[1] - self.x[0])
        return self.left + round(min(1, max(0, fraction)) * (self.columns - 1))

    def row(self, y: float) -> int:
        """Return the row that shows a y, that of the nearest edge for one outside."""
        fraction = (self.y[1] - y) / (self.y[1] - self.y[0])
        return round(min(1, max(0, fraction)) * (self.rows - 1))


def make_frame(canvas: Canvas, curves: list[Curve], x: Range, log_y: bool, notes: list[str]) -> Frame:
    """Divide the canvas: numbers at the left and below, labels at the right, the notes in the last line."""
    axis_rows = (canvas.height >= 4) + (canvas.height >= 6)  # the numbers, then the line above them
    rows = canvas.height - axis_rows
    if rows >= 6 and (notes or len(curves) > rows):
        rows -= 1  # for the notes
    y = _y_range(curves)
    label_width = 0
    if canvas.width >= MIN_LABELED_WIDTH:
        label_width = min(max(cell_len(curve.label_text) for curve in curves) + 2, canvas.width // 3)
    left = 0
    if axis_rows:
        left = max(map(len, _y_ticks(y, rows, log_y).values()), default=0) + 1
    if canvas.width - left - label_width < MIN_PLOT_WIDTH:
        left = 0
    return Frame(left, canvas.width - left - label_width, rows, axis_rows, x, y)


def _y_range(curves: list[Curve]) -> Range:
    """Return the range of the points in the window, in the unit of the axis."""
    import numpy as np

    ends: list[float] = []
    for curve in curves:
        for y in (curve.y, curve.raw):
            if y is None:
                continue
            visible = y[curve.inside]
            if not (finite := np.isfinite(visible)).all():
                visible = visible[finite]
            if len(visible):
                ends += [visible.min(), visible.max()]
    return enclosing_range(ends)


def _y_ticks(y: Range, rows: int, log_y: bool) -> dict[float, str]:
    limit = max(2, rows // 3 + 1)
    if log_y:
        exponents = ticks.log_ticks(*y, limit)
        return dict(zip(exponents, ticks.labels([10.0**e for e in exponents], log=True), strict=True))
    values = ticks.ticks(*y, limit)
    return dict(zip(values, ticks.labels(values), strict=True))


def paint_curves(canvas: Canvas, frame: Frame, curves: list[Curve]) -> None:
    """Paint the lines, behind them the raw points, and over them the points that are not finite.

    Lines in the same cells take turns along x, so that none hides another; one in the background is behind all others.
    """
    in_front = [curve for curve in curves if not curve.is_background]
    _stripe(canvas, frame, in_front, [_paint_line(canvas, frame, curve, curve.y, curve.color) for curve in in_front])
    for curve in curves:
        if curve.is_background:
            _paint_line(canvas, frame, curve, curve.y, curve.color)
    for curve in curves:
        if curve.raw is not None:
            _paint_line(canvas, frame, curve, curve.raw, f"{FAINT} {curve.color}", is_raw=True)
    for curve in curves:
        for x, value in curve.nonfinite:
            row = 0 if value > 0 else frame.rows - 1
            canvas.write(row, frame.column(x), _nonfinite_sign(value), curve.color)


def _stripe(canvas: Canvas, frame: Frame, curves: list[Curve], cells: list[np.ndarray]) -> None:
    """Divide the cells that several curves cover among them, a few columns each in turn; `cells` are those of each."""
    import numpy as np

    if len(curves) < 2:
        return
    covers = np.stack(cells)  # (curves, rows, columns)
    counts = covers.sum(0)
    turns = (np.arange(frame.columns) // STRIPE) % np.maximum(counts, 1)
    ranks = covers.cumsum(0) - 1  # of a curve among those that cover the cell
    for curve, cover, rank in zip(curves, covers, ranks, strict=True):
        canvas.restyle(frame.left, cover & (counts > 1) & (rank == turns), curve.color, curve.letter)


def _paint_line(
    canvas: Canvas, frame: Frame, curve: Curve, y: np.ndarray, style: str, *, is_raw: bool = False
) -> np.ndarray:
    """Paint a line and return the cells that it covers: (rows, columns)."""
    import numpy as np

    cell_columns, cell_rows = (1, 1) if curve.letter else (2, 4)
    rows = np.arange(frame.rows * cell_rows)[:, None]
    scale = (len(rows) - 1) / (frame.y[1] - frame.y[0])
    low, high, single = column_extents(curve.x, y, frame.x, frame.columns * cell_columns, connected=not is_raw)
    # a comparison with NaN is false: no dot in a column without a point
    dots = (rows >= np.rint((frame.y[1] - high) * scale)) & (rows <= np.rint((frame.y[1] - low) * scale))
    if curve.letter:
        letter = RAW_LETTER if is_raw else curve.letter
        canvas.paint_letters(frame.left, dots, style, letter)
        return dots
    canvas.paint_dots(frame.left, dots, style, behind=is_raw)
    for column in np.flatnonzero(single & dots.any(0)).tolist():  # one dot is hardly visible
        canvas.write(int(dots[:, column].argmax()) // cell_rows, frame.left + column // cell_columns, POINT, style)
    return np.logical_or.reduce(dots.reshape(frame.rows, cell_rows, frame.columns, cell_columns), (1, 3))


def _nonfinite_sign(value: float) -> str:
    if value != value:
        return NAN
    return ABOVE if value > 0 else BELOW


def paint_axes(canvas: Canvas, frame: Frame, x: str, log_x: bool, log_y: bool, cursor: float | None) -> None:
    """Paint the axes with ticks and numbers, those of x below, and the unit of x at their end."""
    if frame.left:
        _paint_y_axis(canvas, frame, log_y)
    if frame.axis_rows > 1:
        canvas.write(frame.rows, frame.left, "─" * frame.columns, FAINT)
        if frame.left:
            canvas.write(frame.rows, frame.left - 1, "└", FAINT)
    if frame.axis_rows:
        _paint_x_numbers(canvas, frame, x, log_x, cursor)


def _paint_y_axis(canvas: Canvas, frame: Frame, log_y: bool) -> None:
    axis = frame.left - 1
    for row in range(frame.rows):
        canvas.write(row, axis, "│", FAINT)
    for value, word in _y_ticks(frame.y, frame.rows, log_y).items():
        row = frame.row(value)
        if canvas.is_free(row, 0, axis):
            canvas.write(row, axis - len(word), f"{word}┤", FAINT)


def _paint_x_numbers(canvas: Canvas, frame: Frame, x: str, log_x: bool, cursor: float | None) -> None:
    row = frame.rows + frame.axis_rows - 1
    limit = max(2, frame.columns // 10)
    unit = x
    if x == "seconds":
        unit = "time"
        values = ticks.time_ticks(*frame.x, limit)
        words = ticks.time_labels(values)
    elif log_x:
        values = ticks.log_ticks(*frame.x, limit)
        words = ticks.labels([10.0**value for value in values], log=True)
    else:
        values = ticks.ticks(*frame.x, limit, whole=True) or ticks.ticks(*frame.x, limit)
        words = ticks.labels(values)
    numbers = [(frame.column(value), word, FAINT) for value, word in zip(values, words, strict=True)]
    if cursor is not None and frame.x[0] <= cursor <= frame.x[1]:
        place = 10**cursor if log_x else cursor
        word = duration(place) if x == "seconds" else f"{place:.10g}"
        numbers.insert(0, (frame.column(cursor), word, "reverse"))
    if canvas.width - frame.right >= len(unit) + 1:
        canvas.write(row, canvas.width - len(unit), unit, FAINT)
    for column, word, style in numbers:
        start = max(0, min(column - len(word) // 2, canvas.width - len(word)))
        if canvas.is_free(row, start - 1, start + len(word) + 1):
            canvas.write(row, start, word, style)
            if frame.axis_rows > 1 and style == FAINT:
                canvas.write(frame.rows, column, "┬", FAINT)


def paint_labels(canvas: Canvas, frame: Frame, curves: list[Curve], notes: list[str]) -> None:
    """Write each label where its line ends, or as near as there is room, and the notes in the last line."""
    homeless = []
    ends = [(*_line_end(frame, curve), curve) for curve in curves]
    for row, column, curve in sorted(ends, key=lambda end: end[0]):
        place = _free_place(canvas, frame, row, column, curve.label_text)
        if place is None:
            homeless.append(curve.label)
            continue
        free_row, free_column = place
        canvas.write(free_row, free_column, fit(curve.label_text, canvas.width - free_column), f"bold {curve.color}")
    if homeless:
        notes.append(f"no room for {len(homeless)} of {len(curves)} labels: {', '.join(homeless)}")
    if notes and frame.rows + frame.axis_rows < canvas.height:
        canvas.write(canvas.height - 1, 0, fit("; ".join(notes), canvas.width), FAINT)


def _line_end(frame: Frame, curve: Curve) -> tuple[int, int]:
    """Return the row and column of the end of a line, with two columns between."""
    import numpy as np

    ends = _last_finite(curve.y)
    if len(ends):
        x = min(float(curve.x[ends[-1]]), frame.x[1])
        row = frame.row(float(np.interp(x, curve.x[ends], curve.y[ends])))
    else:
        x, row = curve.nonfinite[-1][0], frame.rows - 1
    return row, frame.column(x) + 2


def _free_place(canvas: Canvas, frame: Frame, row: int, column: int, text: str) -> tuple[int, int] | None:
    """Return the nearest free (row, column) for a label: beside its line, else at the right of the plot."""
    width, margin = cell_len(text), frame.right + 1
    places = [
        (free_row, free_column)
        for free_row in range(frame.rows)
        for free_column in (column, margin)
        if free_column + width <= canvas.width or free_column >= margin
    ]
    places.sort(key=lambda place: (abs(place[0] - row) + 3 * (place[1] != column), place))
    for free_row, free_column in places:
        visible = min(width, canvas.width - free_column)
        if visible > 0 and canvas.is_free(free_row, free_column - 1, free_column + visible):
            return free_row, free_column
    return None


def _last_finite(y: np.ndarray) -> np.ndarray:
    """Return the positions of the last two finite values (the very last may lie beyond the window), or of fewer."""
    import numpy as np

    for length in (16, len(y)):  # the end is nearly always enough, and a long curve takes a millisecond
        start = max(0, len(y) - length)
        ends = start + np.flatnonzero(np.isfinite(y[start:]))[-2:]
        if len(ends) == 2:
            break
    return ends


def to_axis(y: np.ndarray, log_y: bool) -> np.ndarray:
    """Return y in the unit of the axis: log10 on a logarithmic one, NaN where there is no logarithm."""
    import numpy as np

    if not log_y:
        return y
    if len(y) and y.min() > 0:  # false where there is a NaN; the masked way is far slower
        return np.log10(y)
    return np.log10(y, out=np.full(y.shape, np.nan), where=y > 0)


def enclosing_range(values: Sequence[float]) -> Range:
    """Return the smallest range that holds all the values, widened around a single one."""
    low, high = float(min(values, default=0.0)), float(max(values, default=1.0))
    if high - low > 1e-12 * max(abs(low), abs(high)):
        return low, high
    margin = abs(low) * 0.1 or 1.0
    return low - margin, high + margin
