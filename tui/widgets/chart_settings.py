"""How curves are drawn: x axis, y scale, smoothing, zoom and value cursor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from convnn.charts.layout import Range
from convnn.runs.history import Axis

AXES: tuple[Axis, ...] = ("epoch", "step", "seconds")
SMOOTHING_WEIGHTS = (0.0, 0.6, 0.9, 0.97)  # in the order that the key goes through
MAX_ZOOM = 2**10
T = TypeVar("T")


@dataclass(frozen=True)
class ChartSettings:
    """The settings that all charts of a screen share."""

    x: Axis = "epoch"
    log_y: bool = False
    smoothing: float = 0.0
    cursor: float | None = None
    zoom: int = 1

    def window(self, full_range: Range) -> Range:
        """Return the visible part of the x range: around the cursor or, without one, at the end."""
        start, end = full_range
        span = (end - start) / self.zoom
        left = end - span
        if self.cursor is not None:
            left = self.cursor - span / 2
        left = min(max(left, start), end - span)
        return left, left + span

    def with_cursor_moved(self, distance: float, full_range: Range) -> ChartSettings:
        """Move the cursor along x; a new cursor appears at the edge of the window that it moves away from."""
        if self.cursor is None:
            return replace(self, cursor=self.window(full_range)[distance < 0])
        digits = 0
        if distance:  # enough to tell two columns apart
            digits = max(0, -math.floor(math.log10(abs(distance))))
        start, end = full_range
        return replace(self, cursor=min(max(round(self.cursor + distance, digits), start), end))

    def zoomed(self, factor: float) -> ChartSettings:
        """Multiply the zoom by a factor, from 1 to MAX_ZOOM."""
        return replace(self, zoom=int(min(max(self.zoom * factor, 1), MAX_ZOOM)))

    def with_next_axis(self) -> ChartSettings:
        """Switch to the next x axis, without a cursor: its x has no meaning there."""
        return replace(self, x=_successor(self.x, AXES), cursor=None)

    def with_next_smoothing(self) -> ChartSettings:
        """Switch to a stronger smoothing, or to none after the strongest."""
        return replace(self, smoothing=_successor(self.smoothing, SMOOTHING_WEIGHTS))

    @property
    def summary(self) -> str:
        """What differs from the default settings, e.g. "by step · log y · x4"."""
        parts = {
            f"by {self.x}": self.x != "epoch",
            "log y": self.log_y,
            f"smoothed {self.smoothing:g}": self.smoothing > 0,
            f"x{self.zoom}": self.zoom > 1,
        }
        return " · ".join(part for part, differs in parts.items() if differs)


def _successor(value: T, values: Sequence[T]) -> T:
    return values[(values.index(value) + 1) % len(values)]
