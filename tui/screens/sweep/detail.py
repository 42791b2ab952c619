"""The focused cell of a sweep: its seeds, the options that set it apart, and the curves of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Static

from convnn.charts.chart import COLORS, Series
from convnn.config.options import BY_KEY
from convnn.errors import UserError
from convnn.runs.history import Axis, History
from convnn.runs.status import STATUSES, status_label
from convnn.sweeps.results import GridCell
from convnn.sweeps.states import CellState
from convnn.text import escaped
from tui.screens.run.pane import table
from tui.widgets.chart_view import ChartData, ChartView

if TYPE_CHECKING:
    from tui.app import ConvnnApp

MAX_SEEDS = 6  # lines
WAITING_TEXT = "no epoch has ended yet"


@dataclass(frozen=True)
class CellCurves:
    """A cell and the histories of its runs, each with the state of its seed."""

    cell: GridCell
    histories: Sequence[tuple[CellState, History]]

    @classmethod
    def read(cls, cell: GridCell) -> CellCurves:
        """Read the histories; a run that cannot be read has no curve."""
        histories = []
        for state in cell.states:
            if state.run is None:
                continue
            try:
                histories.append((state, state.run.run.history(steps=False)))
            except (UserError, OSError):
                continue
        return cls(cell, histories)

    @property
    def metric(self) -> str:
        best = [state.run.best.metric for state, _ in self.histories if state.run and state.run.best]
        return best[0] if best else "test_top1"

    def series(self, metric: str, x: Axis) -> list[Series]:
        return [
            Series(f"seed {state.cell.seed}", *history.series(metric, x), COLORS[index % len(COLORS)])
            for index, (state, history) in enumerate(self.histories)
            if metric in history.metrics
        ]


class CellDetail(Widget, can_focus=False):
    """Shows a cell; the screen's `LinkedCharts` draws its charts."""

    app: ConvnnApp

    def __init__(self) -> None:
        super().__init__(id="detail", classes="pane")

    def compose(self) -> ComposeResult:
        yield Static(id="facts")
        yield ChartView(WAITING_TEXT, letters=self.app.ascii, id="metric")
        yield ChartView(WAITING_TEXT, letters=self.app.ascii, id="loss")

    def show(self, curves: CellCurves) -> None:
        cell = curves.cell
        self.border_title = Text(escaped(cell.name))
        charts = [chart for chart in self.query(ChartView) if chart.display]
        self.border_subtitle = Text(", ".join([curves.metric, "train_loss"][: len(charts)]))
        width = max(20, self.content_size.width)
        self.query_one("#facts", Static).update(table(_facts(cell), width))
        for chart, metric in zip(self.query(ChartView), (curves.metric, "train_loss"), strict=True):
            chart.source = lambda x, metric=metric: ChartData(curves.series(metric, x))  # type: ignore[misc]


def _facts(cell: GridCell) -> list[tuple[str, str]]:
    """Names and values: how far each seed is, and the options that the sweep varies."""
    first = cell.states[0].cell
    seeds: list[tuple[str, str]] = []
    for state in cell.states[:MAX_SEEDS]:
        if state.state not in STATUSES:  # it has no run: the reason is wrapped, as a heading is
            seeds.append((f"seed {state.cell.seed}: {state.text}", ""))
            continue
        seeds.append((f"seed {state.cell.seed}", _progress(state)))
        if state.cause:
            seeds.append((state.cause, ""))
    if len(cell.states) > MAX_SEEDS:
        seeds.append((f"{len(cell.states) - MAX_SEEDS} more seeds", ""))
    options = [
        (BY_KEY[key].name, BY_KEY[key].text(tuple(value) if isinstance(value, list) else value))
        for key, value in first.options.items()
        if key in BY_KEY
    ]
    return [*seeds, *options]


def _progress(state: CellState) -> str:
    words = [status_label(state.state, state.run.host if state.run else None)]
    if state.fraction is not None:
        words.append(state.text)
    if state.run is not None and state.run.best is not None:
        words.append(f"best {state.run.best.value:.2f}")
    return "  ".join(words)
