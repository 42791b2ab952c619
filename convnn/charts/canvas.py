"""A grid of character cells to paint on: text, and curves as braille dots (or letters, one a cell)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Span, Text

if TYPE_CHECKING:
    import numpy as np

_BRAILLE = {  # bit of the dot at (row, column) of a cell
    (0, 0): 0x01, (0, 1): 0x08, (1, 0): 0x02, (1, 1): 0x10, (2, 0): 0x04, (2, 1): 0x20, (3, 0): 0x40, (3, 1): 0x80,
}  # fmt: skip
_SPACE = ord(" ")


@lru_cache(1024)  # of axes and labels that hardly change from one drawing to the next
def _narrow(text: str) -> np.ndarray | None:
    """The codes of a text of which every character takes one cell; None for another."""
    import numpy as np

    if any(cell_len(character) != 1 for character in text):
        return None
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


class Canvas:
    """Cells with a character and a style each; painting outside it is clipped."""

    def __init__(self, width: int, height: int) -> None:
        import numpy as np

        self.width, self.height = width, height
        self.codes = np.full((height, width), _SPACE, np.uint32)  # 0: the second half of a wide character
        self.look = np.zeros((height, width), np.int32)  # index into styles
        self.styles: list[str] = [""]

    def style(self, style: str) -> int:
        """The number of a style in `look`."""
        if style not in self.styles:
            self.styles.append(style)
        return self.styles.index(style)

    def put(self, row: int, column: int, text: str, style: str = "") -> None:
        """Write text from a cell on, cut at the right edge."""
        look = self.style(style)
        if (codes := _narrow(text)) is not None:
            start, end = max(0, column), min(self.width, column + len(codes))
            if start < end and 0 <= row < self.height:
                self.codes[row, start:end] = codes[start - column : end - column]
                self.look[row, start:end] = look
            return
        for character in text:
            size = cell_len(character)
            if column + size > self.width or not 0 <= row < self.height:
                return
            if size and column >= 0:
                self.codes[row, column : column + size] = (ord(character), 0)[:size]
                self.look[row, column : column + size] = look
            column += size

    def free(self, row: int, start: int, end: int) -> bool:
        """Whether nothing is painted in a row from column start up to end."""
        return bool((self.codes[row, max(0, start) : end] == _SPACE).all())

    def fill(self, column: int, rows: int, text: str, style: str) -> None:
        """Paint a character down a column's first rows, where they are empty."""
        for row in range(rows):
            if self.codes[row, column] == _SPACE and not self.look[row, column]:  # nor between words
                self.put(row, column, text, style)

    def dots(self, left: int, dots: np.ndarray, style: str, letter: str = "", *, behind: bool = False) -> None:
        """Paint dots, a bool array of 4 x 2 a cell, or of 1 x 1 when a letter stands for them, from row 0 down.

        A cell that is painted keeps its style, and takes further dots of braille unless they go behind.
        """
        import numpy as np

        bits = dots
        if not letter:
            bits = np.add.reduce([dots[y::4, x::2] * np.uint8(bit) for (y, x), bit in _BRAILLE.items()])
        codes = self.codes[: bits.shape[0], left : left + bits.shape[1]]
        look = self.look[: bits.shape[0], left : left + bits.shape[1]]
        painted, empty = bits > 0, codes == _SPACE
        look[painted & empty] = self.style(style)
        codes[painted & empty] = ord(letter) if letter else 0x2800
        if not letter:
            painted &= empty | (codes >= 0x2800) & (not behind)
            codes[painted] |= bits[painted].astype(np.uint32)

    def lines(self) -> list[Text]:
        """The rows as text of exactly the canvas's width."""
        import numpy as np

        if not self.width:
            return [Text(no_wrap=True, overflow="crop", end="") for _ in range(self.height)]
        found: list[Text] = []
        changes = self.look[:, 1:] != self.look[:, :-1]
        whole = self.codes.astype("<u4").tobytes().decode("utf-32-le")
        for row in range(self.height):
            text = whole[row * self.width : (row + 1) * self.width]
            starts = [0, *(np.flatnonzero(changes[row]) + 1).tolist()]
            ends, looks = [*starts[1:], self.width], self.look[row, starts].tolist()
            if "\0" in text:  # second halves of wide characters take a cell and no character
                starts, ends = ([at - text.count("\0", 0, at) for at in places] for places in (starts, ends))
                text = text.replace("\0", "")
            told = zip(starts, ends, looks, strict=True)
            spans = [Span(start, end, self.styles[look]) for start, end, look in told if look]
            found.append(Text(text, spans=spans, no_wrap=True, overflow="crop", end=""))
        return found


def extents(
    x: np.ndarray, y: np.ndarray, window: tuple[float, float], columns: int, connected: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least and greatest y of a curve in each column, NaN where it is not, and in which columns a point stands alone.

    x ascends. Points are joined by straight lines, except across a y that is not finite.
    """
    import numpy as np

    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    good = np.isfinite(y)
    broken = None
    if not good.all():
        broken = np.diff(np.cumsum(~good)[good]) > 0  # whether the line breaks after each finite point
        x, y = x[good], y[good]
    if not len(x):
        return low, high, np.zeros(columns, bool)
    scale = max(1, columns - 1) / (window[1] - window[0])
    edges = np.arange(columns + 1) - 0.5
    cut = np.searchsorted(x, window[0] + edges / scale)  # the first point of each column
    full = np.flatnonzero(cut[1:] > cut[:-1])
    if len(full):
        inner, starts = y[: cut[-1]], cut[:-1][full]
        low[full], high[full] = np.minimum.reduceat(inner, starts), np.maximum.reduceat(inner, starts)
    if not connected or len(x) < 2:
        return low, high, ~np.isnan(low) & connected
    before = cut - 1  # the line crosses the left edge of column i between the points cut[i] - 1 and cut[i]
    crossed = (cut > 0) & (cut < len(x))
    if broken is not None:
        crossed[crossed] = ~broken[before[crossed]]
    a, b = before[crossed], cut[crossed]
    share = (window[0] + edges[crossed] / scale - x[a]) / (x[b] - x[a])
    at_edge = np.full(columns + 1, np.nan)
    at_edge[crossed] = y[a] + share * (y[b] - y[a])
    left, right = at_edge[:-1], at_edge[1:]
    alone = ~np.isnan(low) & np.isnan(left) & np.isnan(right)
    return np.fmin(low, np.fmin(left, right)), np.fmax(high, np.fmax(left, right)), alone
