"""The panes of curves: loss, accuracy, and learning rate with gradient norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual.app import ComposeResult

from convnn.charts.chart import COLORS, Series
from convnn.runs.history import Axis, History
from convnn.terminal.report import SERIES_COLORS, chart_marks, split_series
from tui.screens.run.pane import Changes, Pane
from tui.screens.run.step_series import step_series
from tui.widgets.chart_view import ChartData, ChartView

if TYPE_CHECKING:
    from tui.app import ConvnnApp


def loss(history: History, x: Axis) -> list[Series]:
    """The mean loss of each split by epoch, and the loss of each step."""
    curves = split_series(history, "loss", x)
    xs, ys = step_series(history, "loss", x)
    if len(xs):
        curves.append(Series("step", xs, ys, SERIES_COLORS["step"], is_background=True))
    return curves


def accuracy(history: History, x: Axis) -> list[Series]:
    """The top-1 accuracy of each split by epoch."""
    return split_series(history, "top1", x)


def learning_rate(history: History, x: Axis) -> list[Series]:
    return _by_step_or_epoch(history, "lr", x, "lr", COLORS[3])


def gradient_norm(history: History, x: Axis) -> list[Series]:
    """The global gradient norm of each step, before clipping."""
    return _by_step_or_epoch(history, "grad_norm", x, "norm", COLORS[4])


def _by_step_or_epoch(history: History, metric: str, x: Axis, label: str, color: str) -> list[Series]:
    xs, ys = step_series(history, metric, x)
    if not len(xs):  # an imported run may have it by epoch only
        xs, ys = history.series(metric, x)  # type: ignore[assignment]
    if not len(xs):
        return []
    return [Series(label, xs, ys, color)]


class RunChart(NamedTuple):
    """A chart of a pane: what it shows, in words, and its series."""

    metric: str
    series: Callable[[History, Axis], list[Series]]


class CurvesPane(Pane):
    """A pane of charts, from top to bottom. The screen's `LinkedCharts` draws them after `show`."""

    app: ConvnnApp
    DEFAULT_CSS = "CurvesPane { layout: vertical; }"
    PLACEHOLDER: ClassVar[str]  # shown in an empty chart while the run may still log points
    CHARTS: ClassVar[tuple[RunChart, ...]]

    def compose(self) -> ComposeResult:
        for _ in self.CHARTS:
            yield ChartView(self.PLACEHOLDER, letters=self.app.ascii)

    def show(self, history: History, changes: Changes) -> None:
        for view, chart in zip(self.query(ChartView), self.CHARTS, strict=True):
            view.placeholder = f"no {chart.metric} was logged" if changes.has_ended else self.PLACEHOLDER
            view.source = lambda x, chart=chart: ChartData(chart.series(history, x), chart_marks(history, x))  # type: ignore[misc]


class LossPane(CurvesPane):
    """The mean loss of each split by epoch, and the loss of each step."""

    ID = "loss"
    TITLE = "loss"
    HELP = (
        "The mean loss of each split by epoch, and the loss of single training steps. Left and right move a value "
        "cursor that all charts share. A dotted line is a pause, a resume, a change or a stop."
    )
    PLACEHOLDER = "waiting for the first step"
    CHARTS = (RunChart("loss", loss),)


class AccuracyPane(CurvesPane):
    """The top-1 accuracy of each split by epoch, in percent."""

    ID = "accuracy"
    TITLE = "accuracy, %"
    HELP = (
        "The top-1 accuracy of each split by epoch, in percent. Left and right move a value cursor that all charts "
        "share. If the run has a validation split, it decides which epoch is best."
    )
    PLACEHOLDER = "waiting for the first epoch to end"
    CHARTS = (RunChart("accuracy", accuracy),)


class RatePane(CurvesPane):
    """The learning rate, and the global gradient norm before clipping."""

    ID = "rate"
    TITLE = "rate and gradient"
    HELP = (
        "Above, the learning rate that the schedule sets; below, the global norm of the gradient before clipping, both "
        "by step. A norm that keeps growing announces a loss that is not finite."
    )
    IS_SECONDARY = True
    PLACEHOLDER = "waiting for the first step"
    CHARTS = (RunChart("learning rate", learning_rate), RunChart("gradient norm", gradient_norm))
