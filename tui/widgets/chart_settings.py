"""How the curves are looked at, the same in all panes of a screen: axes, smoothing, cursor and zoom."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

from convnn.runs.history import Axis

AXES: tuple[Axis, ...] = ("epoch", "step", "seconds")
WEIGHTS = (0.0, 0.6, 0.9, 0.97)  # of the smoothing, in the order that the key goes through
CLOSEST = 2**10  # times that the curves can be enlarged
Range = tuple[float, float]
T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """A way to look at curves; `whole` is the x from the first point to the last, of all panes together."""

    x: Axis = "epoch"
    log_y: bool = False
    smoothing: float = 0.0
    cursor: float | None = None
    zoom: int = 1

    def window(self, whole: Range) -> Range:
        """The x that is shown: around the cursor or, without one, the end, where a live run writes."""
        span = (whole[1] - whole[0]) / self.zoom
        start = whole[1] - span if self.cursor is None else self.cursor - span / 2
        start = min(max(start, whole[0]), whole[1] - span)
        return start, start + span

    def moved(self, by: float, whole: Range) -> View:
        """The cursor further by an x; it appears at the end that it is moved away from."""
        if self.cursor is None:
            return replace(self, cursor=self.window(whole)[by < 0])
        digits = max(0, -math.floor(math.log10(abs(by)))) if by else 0  # no more than tell two places apart
        return replace(self, cursor=min(max(round(self.cursor + by, digits), whole[0]), whole[1]))

    def zoomed(self, by: float) -> View:
        """Enlarged by a factor."""
        return replace(self, zoom=int(min(max(self.zoom * by, 1), CLOSEST)))

    def next_axis(self) -> View:
        """The next of steps, epochs and seconds; a cursor means nothing there."""
        return replace(self, x=_after(self.x, AXES), cursor=None)

    def next_smoothing(self) -> View:
        """A stronger smoothing, or none after the strongest."""
        return replace(self, smoothing=_after(self.smoothing, WEIGHTS))

    @property
    def said(self) -> str:
        """What differs from the plain view, in words."""
        words = [f"by {self.x}"] if self.x != "epoch" else []
        words += ["log y"] if self.log_y else []
        words += [f"smoothed {self.smoothing:g}"] if self.smoothing else []
        words += [f"x{self.zoom}"] if self.zoom > 1 else []
        return " · ".join(words)


def _after(one: T, of: tuple[T, ...]) -> T:
    return of[(of.index(one) + 1) % len(of)]
