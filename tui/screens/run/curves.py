"""What the panes of curves share: series by split, marks, and a view that is the same in all of them."""

from __future__ import annotations

from bisect import bisect_right
from typing import ClassVar

from textual.app import ComposeResult

from convnn.charts.chart import Series
from convnn.runs.history import Axis, History
from tui.screens.run.pane import Pane
from tui.screens.run.step_series import by_step, whole
from tui.widgets.chart_settings import Range, View
from tui.widgets.chart_view import ChartView, Looked

COLOURS = {"train": "#2f86d6", "val": "#2a9d6a", "test": "#d9661f", "step": "#8a7f78"}
MARKED = ("paused", "resumed", "changed")


class CurvesPane(Pane, Looked):
    """A pane of one chart."""

    AWAITING: ClassVar[str]  # what an empty chart says while there may be something yet
    MISSING: ClassVar[str]  # and what when the run has ended
    DEFAULT_CLASSES = "pane looked"
    DEFAULT_CSS = "CurvesPane { layout: vertical; }"

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.view = View()
        self.whole: Range = (0.0, 0.0)
        self.history = History()
        self.over = False  # whether nothing comes any more: also that of a run whose process died

    def compose(self) -> ComposeResult:
        yield ChartView(self.AWAITING)

    def show(self, history: History) -> None:
        self.history = history
        self.whole = whole(history, self.view.x)
        self.draw()

    def look(self, view: View) -> None:
        self.view = view
        self.show(self.history)

    def draw(self) -> None:
        """Tell the chart what to draw."""
        marks = marks_of(self.history, self.view.x)
        chart = self.query_one(ChartView)
        chart.awaiting = self.awaiting(self.MISSING)
        chart.plot(self.series(), marks, self.whole, self.view)

    def awaiting(self, missing: str) -> str:
        """What an empty chart says."""
        return f"this run has told no {missing}" if self.over else self.AWAITING

    def series(self) -> list[Series]:
        """The curves of this pane."""
        raise NotImplementedError


def by_split(history: History, name: str, x: Axis) -> list[Series]:
    """A metric of each split that has it."""
    found = [Series(split, *history.series(f"{split}_{name}", x), COLOURS[split]) for split in ("train", "val", "test")]
    return [one for one in found if one.xs]


def marks_of(history: History, x: Axis) -> list[tuple[float, str]]:
    """Where the run paused, went on, was changed or was stopped."""
    marks = [(mark.step, mark.kind) for mark in history.marks if mark.kind in MARKED]
    if history.finished is not None and history.finished.outcome in ("stopped", "interrupted"):
        marks.append((history.step, history.finished.outcome))
    if not marks or x == "step":
        return [(float(step), kind) for step, kind in marks]
    if x == "epoch":
        per_epoch = (history.started and history.started.steps_per_epoch) or 1
        return [(step / per_epoch, kind) for step, kind in marks]
    steps, times = by_step(history, "loss", "step")[0], by_step(history, "loss", "seconds")[0]
    at = [(bisect_right(steps, step) - 1, kind) for step, kind in marks]
    return [(float(times[place]), kind) for place, kind in at if place >= 0]


class AccuracyPane(CurvesPane):
    """Top-1 accuracy of training and test images, in percent."""

    TITLE = "accuracy, %"
    AWAITING = "waiting for the first epoch to end"
    MISSING = "accuracy"
    HELP = (
        "The top-1 accuracy of each split an epoch, in percent. Left and right move a cursor that is the same in all "
        "curves and shows their values. Where a run has a validation share, that decides which epoch was best."
    )

    def series(self) -> list[Series]:
        return by_split(self.history, "top1", self.view.x)


class LossPane(CurvesPane):
    """Loss of training and test images."""

    TITLE = "loss"
    AWAITING = "waiting for the first step"
    MISSING = "loss"
    HELP = (
        "The mean loss of each split an epoch, and of single training steps. Left and right move a cursor that is the "
        "same in all curves and shows their values. A dotted line is a pause, a resume, a change or a stop."
    )

    def series(self) -> list[Series]:
        xs, ys = by_step(self.history, "loss", self.view.x)
        steps = [Series("step", xs, ys, COLOURS["step"])] if len(xs) else []
        return [*by_split(self.history, "loss", self.view.x), *steps]


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
