"""The comparison of runs with a reference: what differs, metrics at equal points, significance, and curves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.screen import Screen

from convnn.analysis.comparison import Comparison, best_label, compare, compared_metrics, shared_monitor
from convnn.errors import UserError
from convnn.metrics import direction_text
from convnn.runs.status import STATUSES
from convnn.runs.summary import Summary, summarize
from tui.dialogs.choice import Choice
from tui.keys import bindings
from tui.run_feed import POLL, SHARE
from tui.screens.compare.panes import ComparedCurves, ComparedTables
from tui.widgets.header_footer import Footer, Header
from tui.widgets.linked_charts import LinkedCharts

if TYPE_CHECKING:
    from tui.app import ConvnnApp

MAX_RUNS = 60  # runs that are compared at once
EFFECT = 1.0  # the difference that should be detectable, in points


class CompareScreen(Screen[None]):
    """Two or more runs; the first is the reference that the others are compared with."""

    app: ConvnnApp
    BINDINGS = bindings("metric", "reference", "next", "previous", "back", footer=("metric", "reference"))
    CSS_PATH = "compare.tcss"
    HELP = "Runs compared with the first of them. Tab goes from the tables to the curves."
    AUTO_FOCUS = "ComparedTables"

    def __init__(self, runs: Sequence[Summary]) -> None:
        super().__init__()
        self.runs = list(runs)
        self.metric: str | None = None  # None compares by the metric that decides which epoch is best
        self.comparison: Comparison | None = None
        self._stale = asyncio.Event()

    def compose(self) -> ComposeResult:
        yield Header("compare", f"{len(self.runs)} runs")
        with LinkedCharts(self._show_settings):
            yield ComparedTables()
            yield ComparedCurves()
        yield Footer()

    def on_mount(self) -> None:
        self.run_worker(self._follow(), name="compare the runs")

    async def _follow(self) -> None:
        """Compare in a thread: at once after a change of metric or reference, and again while a run grows."""
        while True:
            start = time.monotonic()
            self._stale.clear()
            try:
                comparison = await asyncio.to_thread(self._compare, list(self.runs), self.metric)
            except (UserError, OSError) as error:
                self._show_problem(str(error))
            else:
                self._show(comparison)
            interval = None
            if any(STATUSES[run.status].is_live for run in self.runs):
                interval = max(POLL, SHARE * (time.monotonic() - start))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stale.wait(), interval)

    def _compare(self, runs: list[Summary], metric: str | None) -> Comparison:
        current = [summarize(run.run) if STATUSES[run.status].is_live else run for run in runs]
        figure = "best"
        if metric:
            figure = f"best:{metric}"
        return compare(current, self.app.runs, key=figure, metric=metric, effect_size=EFFECT)

    def _show_problem(self, problem: str) -> None:
        if self.query(ComparedTables):
            self.comparison = None
            self.query_one(ComparedTables).show_problem(problem)

    def _show(self, comparison: Comparison) -> None:
        if not self.query(ComparedTables):  # the screen was left while the thread read
            return
        self.comparison = comparison
        summaries = {run.summary.path: run.summary for run in comparison.runs}
        self.runs = [summaries.get(run.path, run) for run in self.runs]
        self.query_one(ComparedTables).show(comparison)
        self.query_one(ComparedCurves).show(comparison)
        self.query_one(LinkedCharts).redraw()
        self._show_settings()

    def _show_settings(self) -> None:
        settings = self.query_one(LinkedCharts).settings
        parts = [settings.summary]
        if self.comparison is not None:
            metric = self.comparison.metric
            parts = [metric, best_label(metric), *parts]
        self.query_one(Header).update("compare", f"{len(self.runs)} runs", " · ".join(filter(None, parts)))
        self.query_one(ComparedCurves).show_axis(settings.x)

    def on_resize(self) -> None:
        if self.comparison is not None:  # there may be room for more, or for less
            self.query_one(ComparedCurves).show(self.comparison)
            self.query_one(LinkedCharts).redraw()
            self._show_settings()

    def action_metric(self) -> None:
        if self.comparison is None:
            return
        names = compared_metrics(self.comparison.runs, shared_monitor(self.comparison.runs))
        answers = [(name, name, direction_text(name)) for name in names]
        self.app.ask(Choice("metric", "of the curves, the verdicts and the values", answers), self._set_metric)

    def _set_metric(self, metric: str) -> None:
        self.metric = metric
        charts = self.query_one(LinkedCharts)
        charts.change(replace(charts.settings, cursor=None, zoom=1))
        self._stale.set()

    def action_reference(self) -> None:
        """Compare with the next of the runs."""
        self.runs = [*self.runs[1:], self.runs[0]]
        self._stale.set()

    def action_back(self) -> None:
        """Remove the value cursor or, without one, go back."""
        if not self.query_one(LinkedCharts).clear_cursor():
            self.dismiss()
