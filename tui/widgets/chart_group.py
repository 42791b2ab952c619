"""The keys that change how the curves of a screen are looked at: axes, smoothing, zoom and the linked value cursor."""

from __future__ import annotations

from dataclasses import replace

from textual.screen import Screen

from tui.widgets.chart_settings import Range, View
from tui.widgets.chart_view import Looked

LOOKING = ("left", "right", "x-axis", "y-scale", "smooth", "zoom-in", "zoom-out", "zoom-reset")  # ids of the keys


class Looking(Screen[None]):
    """A screen with panes of curves, all seen the same way."""

    view = View()

    def reach(self) -> Range | None:
        """The x from the first point of all curves to the last; None while there is nothing yet."""
        raise NotImplementedError

    def view_changed(self) -> None:
        """Say elsewhere on the screen how the curves are looked at."""
        raise NotImplementedError

    def look(self, view: View) -> None:
        """See all curves another way."""
        self.view = view
        for pane in self.query(".looked").results(Looked):
            pane.look(view)
        self.view_changed()

    def action_x_axis(self) -> None:
        self.look(self.view.next_axis())

    def action_y_scale(self) -> None:
        self.look(replace(self.view, log_y=not self.view.log_y))

    def action_smooth(self) -> None:
        self.look(self.view.next_smoothing())

    def action_zoom_in(self) -> None:
        self.look(self.view.zoomed(2))

    def action_zoom_out(self) -> None:
        self.look(self.view.zoomed(0.5))

    def action_zoom_reset(self) -> None:
        self.look(replace(self.view, zoom=1, cursor=None))

    def action_left(self) -> None:
        self._move(-1)

    def action_right(self) -> None:
        self._move(1)

    def _move(self, columns: int) -> None:
        """Move the cursor by columns of the finest chart that is shown."""
        ends = self.reach()
        charts = [
            view.chart
            for pane in self.query(".looked").results(Looked)
            if pane.display
            for view in pane.charts
            if view.chart
        ]
        if ends is not None and charts and ends[1] > ends[0]:
            self.look(self.view.moved(columns * min(chart.x_per_column for chart in charts), ends))
