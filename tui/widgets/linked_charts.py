"""A container whose charts share their settings: axes, smoothing, zoom and a value cursor, each under a key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from textual.containers import VerticalScroll

from convnn.charts.layout import Range
from tui.keys import bindings
from tui.widgets.chart_settings import ChartSettings
from tui.widgets.chart_view import ChartView


class LinkedCharts(VerticalScroll, can_focus=False):
    """Owns the settings of all `ChartView`s in it; `redraw` after giving them new data."""

    BINDINGS = bindings(
        "left", "right", "x-axis", "y-scale", "smooth", "zoom-in", "zoom-out", "zoom-reset",
        footer=("x-axis", "smooth"),
    )  # fmt: skip

    def __init__(self, on_change: Callable[[], None]) -> None:
        super().__init__()
        self.on_change = on_change  # called, not posted: what it shows is painted with the charts, not a frame later
        self.settings = ChartSettings()
        self.full_range: Range = (0.0, 0.0)  # from the first x of all charts to the last

    @property
    def visible_charts(self) -> list[ChartView]:
        """The charts that are neither hidden nor in a hidden pane."""
        nodes = self.query(ChartView)
        return [chart for chart in nodes if all(node.display for node in chart.ancestors_with_self)]

    def redraw(self) -> None:
        """Load and draw all visible charts over one x range."""
        charts = self.visible_charts
        for chart in charts:
            chart.load(self.settings.x)
        ranges = [chart.data_range for chart in charts if chart.data_range]
        self.full_range = (
            min((start for start, _ in ranges), default=0.0),
            max((end for _, end in ranges), default=0.0),
        )
        for chart in charts:
            chart.draw(self.settings, self.full_range)

    def change(self, settings: ChartSettings) -> None:
        self.settings = settings
        self.redraw()
        self.on_change()

    def clear_cursor(self) -> bool:
        """Remove the value cursor; return whether there was one."""
        if self.settings.cursor is None:
            return False
        self.change(replace(self.settings, cursor=None))
        return True

    def action_x_axis(self) -> None:
        self.change(self.settings.with_next_axis())

    def action_y_scale(self) -> None:
        self.change(replace(self.settings, log_y=not self.settings.log_y))

    def action_smooth(self) -> None:
        self.change(self.settings.with_next_smoothing())

    def action_zoom(self, steps: int) -> None:
        self.change(self.settings.zoomed(2**steps))

    def action_zoom_reset(self) -> None:
        self.change(replace(self.settings, zoom=1, cursor=None))

    def action_move_column(self, columns: int) -> None:
        """Move the cursor by columns of the finest visible chart."""
        start, end = self.full_range
        steps = [chart.chart.x_per_column for chart in self.visible_charts if chart.chart]
        if steps and end > start:
            self.change(self.settings.with_cursor_moved(columns * min(steps), self.full_range))
