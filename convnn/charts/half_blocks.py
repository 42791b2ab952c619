"""An image in a terminal: two dots a cell, one above the other, as the colors of a half-block; or letters.

A dot is about square. An image is enlarged or reduced to dots (`scaled`), cut to the room that there is
(`window_around`), and painted with tints and labels before it becomes lines.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from rich.color import Color
from rich.style import Style
from rich.text import Span, Text

if TYPE_CHECKING:
    import numpy as np

UPPER_HALF = "▀"
RAMP = " .:-=+*#%@"  # from black to white
MAX_SCALE, MAX_REDUCTION = 8, 64  # dots per pixel, pixels per dot
RGB = tuple[int, int, int]


class Window(NamedTuple):
    """The part of an image of dots that is shown; an even `top`, as a cell has two rows of dots."""

    top: int
    left: int
    height: int
    width: int


def fit_scale(height: int, width: int, rows: int, columns: int) -> Fraction:
    """Return the largest dots per pixel, a whole number or 1 over one, at which an image fits into the cells."""
    enlargement = min(columns // width, 2 * rows // height, MAX_SCALE)
    if enlargement >= 1:
        return Fraction(enlargement)
    reduction = max(-(-width // max(1, columns)), -(-height // max(1, 2 * rows)))
    return Fraction(1, min(reduction, MAX_REDUCTION))


def scaled(pixels: np.ndarray, scale: Fraction) -> np.ndarray:
    """Return an image in dots: pixels repeated or, with a scale below 1, averaged. (H, W, 3) -> (h, w, 3) uint8"""
    import numpy as np

    if scale >= 1:
        return pixels.repeat(int(scale), 0).repeat(int(scale), 1)
    block = scale.denominator
    height, width, _ = pixels.shape
    padded = np.pad(pixels, ((0, -height % block), (0, -width % block), (0, 0)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // block, block, -1, block, 3)
    return np.rint(blocks.mean((1, 3))).astype(np.uint8)


def window_around(y: int, x: int, shape: tuple[int, ...], rows: int, columns: int) -> Window:
    """Return the part of an image of dots that fits into the cells, around a dot as far as the edges allow."""
    height, width = min(shape[0], 2 * rows), min(shape[1], columns)
    top = min(max(0, y - height // 2), shape[0] - height)
    left = min(max(0, x - width // 2), shape[1] - width)
    return Window(top // 2 * 2, left, height, width)


class HalfBlocks:
    """An image of dots (h, w, 3) on cells, to be tinted and labeled; `letters` without half-blocks and colors."""

    def __init__(self, dots: np.ndarray, *, letters: bool) -> None:
        import numpy as np

        self.letters = letters
        self.dots = np.pad(dots, ((0, len(dots) % 2), (0, 0), (0, 0))).astype(np.int32)
        self.labels: dict[tuple[int, int], tuple[str, Style]] = {}  # a character by (row, column) of its cell

    @property
    def rows(self) -> int:
        return len(self.dots) // 2

    def tint(self, top: int, left: int, size: int, color: RGB, strength: float) -> None:
        """Blend a square of dots with a color, by a strength from 0 to 1; what lies outside is cut off.

        Letters have no colors: a tint would look like another brightness.
        """
        import numpy as np

        if self.letters:
            return
        area = self.dots[max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)]
        area[:] = np.rint(area * (1 - strength) + np.array(color) * strength)

    def label(self, row: int, column: int, text: str, style: Style) -> None:
        """Write a text over cells; a cell that has a label keeps it."""
        for offset, character in enumerate(text):
            if 0 <= row < self.rows and 0 <= column + offset < self.dots.shape[1]:
                self.labels.setdefault((row, column + offset), (character, style))

    def lines(self) -> list[Text]:
        """Return the rows of cells, each as wide as the image."""
        return [self._line(row) for row in range(self.rows)]

    def _line(self, row: int) -> Text:
        import numpy as np

        upper, lower = self.dots[2 * row], self.dots[2 * row + 1]
        if self.letters:
            brightness = (upper + lower) @ np.array((299, 587, 114)) / (2 * 255 * 1000)  # ITU-R BT.601, from 0 to 1
            characters = [RAMP[index] for index in np.rint(brightness * (len(RAMP) - 1)).astype(int)]
            keys: list[Style] = [Style.null()] * len(characters)
        else:
            characters = [UPPER_HALF] * len(upper)
            keys = [_style(*pair) for pair in zip(_codes(upper), _codes(lower), strict=True)]
        for column in range(len(characters)):
            if (row, column) in self.labels:
                characters[column], keys[column] = self.labels[row, column]
        text = "".join(characters)
        spans, start = [], 0
        for column in range(1, len(keys) + 1):
            if column == len(keys) or keys[column] is not keys[start]:
                spans.append(Span(start, column, keys[start]))
                start = column
        return Text(text, spans=spans, no_wrap=True, overflow="crop", end="")


def _codes(dots: np.ndarray) -> list[int]:
    codes: list[int] = (dots[:, 0] << 16 | dots[:, 1] << 8 | dots[:, 2]).tolist()
    return codes


@lru_cache(1 << 14)  # parsed texts would take longer than all the rest
def _style(foreground: int, background: int) -> Style:
    return Style(color=_color(foreground), bgcolor=_color(background))


def _color(code: int) -> Color:
    return Color.from_rgb(code >> 16, code >> 8 & 255, code & 255)
