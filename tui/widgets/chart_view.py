"""Curves in a pane: told series and a view, drawn by `convnn.charts`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from convnn.charts.chart import Chart, Series, draw
from tui.widgets.chart_settings import Range, View


class Looked(Widget):
    """A pane of charts, which are all seen the way that the screen says."""

    def look(self, view: View) -> None:
        """See the curves another way."""
        raise NotImplementedError

    @property
    def charts(self) -> list[ChartView]:
        """The charts of this pane."""
        return list(self.query(ChartView))


class ChartView(Widget):
    """A chart that fills its place. It is told what to draw; it asks nobody."""

    DEFAULT_CSS = "ChartView { width: 1fr; height: 1fr; }"

    def __init__(self, awaiting: str, id: str | None = None) -> None:
        super().__init__(id=id)
        self.awaiting = awaiting
        self.view = View()
        self.series: Sequence[Series] = ()
        self.marks: Sequence[tuple[float, str]] = ()
        self.whole: Range = (0.0, 0.0)
        self.chart: Chart | None = None  # as last drawn
        self._strips: list[Strip] | None = None  # None: to be drawn anew
        self._drawn = Size(0, 0)  # the size it was drawn for

    def plot(self, series: Sequence[Series], marks: Sequence[tuple[float, str]], whole: Range, view: View) -> None:
        """Draw these series over the x `whole` of all panes, as the view says."""
        self.series, self.marks, self.whole, self.view = series, marks, whole, view
        self._strips = None
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips = None

    def render_line(self, y: int) -> Strip:
        """A line of the chart; strips are made at once, without the detour over Textual's own text."""
        if self._strips is None or self._drawn != self.size:
            self._strips, self._drawn = self._draw(), self.size
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self.rich_style)

    def _draw(self) -> list[Strip]:
        low, high = self.view.window(self.whole)
        width, height = self.size
        self.chart = draw(
            self.series,
            width,
            height,
            x=self.view.x,
            log_y=self.view.log_y,
            x_range=(low, high) if high > low else None,
            cursor=self.view.cursor,
            marks=self.marks,
            smoothing=self.view.smoothing,
            empty_text=self.awaiting,
            ascii=getattr(self.app, "ascii", False),
        )
        base = self.rich_style
        return [Strip(_segments(line, base), width) for line in self.chart.lines]


def _segments(line: Text, base: Style) -> list[Segment]:
    """The line of a chart, whose spans follow one another, over a style: in a fifth of the time that Text takes."""
    found, at, text = [], 0, line.plain
    for start, end, style in line.spans:
        found += [Segment(text[at:start], base), Segment(text[start:end], base + Style.parse(str(style)))]
        at = end
    return [segment for segment in (*found, Segment(text[at:], base)) if segment.text]
