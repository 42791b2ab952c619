"""The learning rate and the norm of the gradient."""

from __future__ import annotations

from textual.app import ComposeResult

from convnn.charts import Series
from tui.panes.curves import COLOURS, CurvesPane, marks_of
from tui.points import by_step
from tui.widgets.chart import ChartView


class RatePane(CurvesPane):
    """Learning rate, and the global norm of the gradient before clipping."""

    TITLE = "rate and gradient"
    AWAITING = "waiting for the first step"
    HELP = (
        "Above the learning rate as the schedule sets it, below the global norm of the gradient before clipping, both "
        "by step. A norm that grows without end comes before a loss that is not finite."
    )

    def compose(self) -> ComposeResult:
        yield ChartView(self.AWAITING, id="lr")
        yield ChartView(self.AWAITING, id="norm")

    def draw(self) -> None:
        marks = marks_of(self.history, self.view.x)
        for id, metric, label, colour, missing in (
            ("lr", "lr", "lr", "train", "learning rate"),
            ("norm", "grad_norm", "norm", "test", "gradient norm"),
        ):
            xs, ys = by_step(self.history, metric, self.view.x)
            if not len(xs):  # a run of another tool may tell it by epoch only
                xs, ys = self.history.series(metric, self.view.x)  # type: ignore[assignment]
            series = [Series(label, xs, ys, COLOURS[colour])] if len(xs) else []
            chart = self.query_one(f"#{id}", ChartView)
            chart.awaiting = self.awaiting(missing)
            chart.plot(series, marks, self.whole, self.view)
