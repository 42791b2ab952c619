"""Curves in a pane: told series and a view, drawn by `convnn.charts`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.widget import Widget

from convnn.charts import Chart, Series, draw
from tui.view import Range, View


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

    def plot(self, series: Sequence[Series], marks: Sequence[tuple[float, str]], whole: Range, view: View) -> None:
        """Draw these series over the x `whole` of all panes, as the view says."""
        self.series, self.marks, self.whole, self.view = series, marks, whole, view
        self.refresh()

    def render(self) -> Text:
        low, high = self.view.window(self.whole)
        width, height = self.content_size
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
            awaiting=self.awaiting,
            ascii=getattr(self.app, "ascii", False),
        )
        return self.chart.__rich__()
