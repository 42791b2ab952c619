"""A grid of character cells to paint on: text, and curves as braille dots or as letters."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Span, Text

if TYPE_CHECKING:
    import numpy as np

BRAILLE = 0x2800  # the braille character without dots; the dots of a cell are the low bits of its code
DOT_BITS = {  # of the dot at (row, column) of a cell
    (0, 0): 0x01, (0, 1): 0x08, (1, 0): 0x02, (1, 1): 0x10, (2, 0): 0x04, (2, 1): 0x20, (3, 0): 0x40, (3, 1): 0x80,
}  # fmt: skip
SPACE = ord(" ")
SECOND_HALF = 0  # of a wide character: a cell without a character of its own


@lru_cache(1024)  # axes and labels hardly change from one drawing to the next
def _narrow_codes(text: str) -> np.ndarray | None:
    """Return the codes of a text whose characters all take one cell, None for another text."""
    import numpy as np

    if any(cell_len(character) != 1 for character in text):
        return None
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


class Canvas:
    """Cells with a character and a style each. What is painted outside is clipped."""

    def __init__(self, width: int, height: int) -> None:
        import numpy as np

        self.width, self.height = width, height
        self.codes = np.full((height, width), SPACE, np.uint32)
        self.style_numbers = np.zeros((height, width), np.int32)
        self.styles: list[str] = [""]

    def style_number(self, style: str) -> int:
        """Return the number that stands for a style in `style_numbers`."""
        if style not in self.styles:
            self.styles.append(style)
        return self.styles.index(style)

    def write(self, row: int, column: int, text: str, style: str = "") -> None:
        """Write text from a cell to the right, cut at the edges."""
        number = self.style_number(style)
        if (codes := _narrow_codes(text)) is not None:
            start, end = max(0, column), min(self.width, column + len(codes))
            if start < end and 0 <= row < self.height:
                self.codes[row, start:end] = codes[start - column : end - column]
                self.style_numbers[row, start:end] = number
            return
        for character in text:
            size = cell_len(character)
            if column + size > self.width or not 0 <= row < self.height:
                return
            if size and column >= 0:
                self.codes[row, column : column + size] = (ord(character), SECOND_HALF)[:size]
                self.style_numbers[row, column : column + size] = number
            column += size

    def is_free(self, row: int, start: int, end: int) -> bool:
        """Return whether nothing is painted in a row from column `start` up to `end`."""
        return bool((self.codes[row, max(0, start) : end] == SPACE).all())

    def fill_column(self, column: int, rows: int, text: str, style: str) -> None:
        """Paint a character into the free cells of a column's first rows."""
        for row in range(rows):
            if self.codes[row, column] == SPACE and not self.style_numbers[row, column]:  # nor between words
                self.write(row, column, text, style)

    def paint_letters(self, left: int, cells: np.ndarray, style: str, letter: str) -> None:
        """Paint a letter into the free cells where `cells` is true: (rows, columns) from row 0 and column `left` on."""
        self._paint(left, cells, ord(letter), style)

    def paint_dots(self, left: int, dots: np.ndarray, style: str, *, behind: bool = False) -> None:
        """Paint braille dots, (4 rows, 2 columns), from row 0 and column `left` on.

        A painted cell keeps its style, and takes the dots too unless they go behind.
        """
        import numpy as np

        bits = np.add.reduce([dots[row::4, column::2] * np.uint8(bit) for (row, column), bit in DOT_BITS.items()])
        codes = self.codes[: bits.shape[0], left : left + bits.shape[1]]
        was_free = codes == SPACE
        self._paint(left, bits > 0, BRAILLE, style)
        takes_dots = (bits > 0) & (was_free | (codes >= BRAILLE) & (not behind))
        codes[takes_dots] |= bits[takes_dots].astype(np.uint32)

    def restyle(self, left: int, cells: np.ndarray, style: str, letter: str = "") -> None:
        """Give painted cells where `cells` is true, (rows, columns), another style and, with one, another letter."""
        rows, columns = slice(cells.shape[0]), slice(left, left + cells.shape[1])
        self.style_numbers[rows, columns][cells] = self.style_number(style)
        if letter:
            self.codes[rows, columns][cells] = ord(letter)

    def _paint(self, left: int, cells: np.ndarray, code: int, style: str) -> None:
        rows, columns = slice(cells.shape[0]), slice(left, left + cells.shape[1])
        codes, numbers = self.codes[rows, columns], self.style_numbers[rows, columns]
        free = cells & (codes == SPACE)
        codes[free] = code
        numbers[free] = self.style_number(style)

    def lines(self) -> list[Text]:
        """Return the rows as text, each exactly as wide as the canvas."""
        import numpy as np

        if not self.width:
            return [Text(no_wrap=True, overflow="crop", end="") for _ in range(self.height)]
        lines: list[Text] = []
        changes = self.style_numbers[:, 1:] != self.style_numbers[:, :-1]
        characters = self.codes.astype("<u4").tobytes().decode("utf-32-le")
        for row in range(self.height):
            text = characters[row * self.width : (row + 1) * self.width]
            starts = [0, *(np.flatnonzero(changes[row]) + 1).tolist()]
            ends, numbers = [*starts[1:], self.width], self.style_numbers[row, starts].tolist()
            if "\0" in text:  # the second halves of wide characters
                starts = [start - text.count("\0", 0, start) for start in starts]
                ends = [end - text.count("\0", 0, end) for end in ends]
                text = text.replace("\0", "")
            runs = zip(starts, ends, numbers, strict=True)
            spans = [Span(start, end, self.styles[number]) for start, end, number in runs if number]
            lines.append(Text(text, spans=spans, no_wrap=True, overflow="crop", end=""))
        return lines


def column_extents(
    x: np.ndarray, y: np.ndarray, window: tuple[float, float], columns: int, connected: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a curve covers in each column: its least and greatest y, and whether it is a single point there.

    Args:
        x: (N), ascending
        y: (N); the line has a gap where it is not finite
        window: the x of the first and of the last column
        connected: whether the points are joined by straight lines

    Returns:
        (columns) each; the y are NaN where the curve is not
    """
    import numpy as np

    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    finite = np.isfinite(y)
    gap_after = None
    if not finite.all():
        gap_after = np.diff(np.cumsum(~finite)[finite]) > 0  # by finite point
        x, y = x[finite], y[finite]
    if not len(x):
        return low, high, np.zeros(columns, bool)
    scale = max(1, columns - 1) / (window[1] - window[0])
    edges = np.arange(columns + 1) - 0.5
    first_points = np.searchsorted(x, window[0] + edges / scale)  # of each column
    full = np.flatnonzero(first_points[1:] > first_points[:-1])
    if len(full):
        inner, starts = y[: first_points[-1]], first_points[:-1][full]
        low[full], high[full] = np.minimum.reduceat(inner, starts), np.maximum.reduceat(inner, starts)
    if not connected or len(x) < 2:
        return low, high, ~np.isnan(low) & connected
    before = first_points - 1  # the line crosses the left edge of column i between these points and first_points[i]
    crossed = (first_points > 0) & (first_points < len(x))
    if gap_after is not None:
        crossed[crossed] = ~gap_after[before[crossed]]
    a, b = before[crossed], first_points[crossed]
    fraction = (window[0] + edges[crossed] / scale - x[a]) / (x[b] - x[a])
    edge_y = np.full(columns + 1, np.nan)
    edge_y[crossed] = y[a] + fraction * (y[b] - y[a])
    left, right = edge_y[:-1], edge_y[1:]
    single = ~np.isnan(low) & np.isnan(left) & np.isnan(right)
    return np.fmin(low, np.fmin(left, right)), np.fmax(high, np.fmax(left, right)), single
