"""The keys that change how the curves of a screen are looked at: axes, smoothing, zoom and the linked value cursor."""

from __future__ import annotations

from dataclasses import replace

from textual.screen import Screen

from convnn.history import History
from tui.panes.curves import CurvesPane
from tui.view import View, whole

LOOKING = ("left", "right", "x-axis", "y-scale", "smooth", "zoom-in", "zoom-out", "zoom-reset")  # ids of the keys


class Looking(Screen[None]):
    """A screen with panes of curves, all seen the same way."""

    view = View()

    def seen(self) -> History | None:
        """What the curves are drawn from; None while there is nothing yet."""
        raise NotImplementedError

    def view_changed(self) -> None:
        """Say elsewhere on the screen how the curves are looked at."""
        raise NotImplementedError

    def look(self, view: View) -> None:
        """See all curves another way."""
        self.view = view
        for pane in self.query(CurvesPane):
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
        history = self.seen()
        charts = [view.chart for pane in self.query(CurvesPane) if pane.display for view in pane.charts if view.chart]
        if history is None or not charts:
            return
        ends = whole(history, self.view.x)
        if ends[1] > ends[0]:
            self.look(self.view.moved(columns * min(chart.column for chart in charts), ends))
