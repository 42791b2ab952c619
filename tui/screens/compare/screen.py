"""Runs held against each other: what differs, figures at equal points, what the difference is worth, and curves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import ComposeResult

from convnn.analysis import comparison as analysis_comparison
from convnn.analysis.comparison_report import Comparison
from convnn.errors import UserError
from convnn.metrics import lower_is_better
from convnn.runs.run import Run
from convnn.runs.summary import Summary, summarise
from tui.dialogs.choice import Choice
from tui.keys import bindings
from tui.run_feed import POLL, SHARE
from tui.screens.compare.panes import ComparedCurves, ComparedTables
from tui.widgets.chart_group import LOOKING, Looking
from tui.widgets.chart_settings import Range, View
from tui.widgets.header_footer import Footer, Header

if TYPE_CHECKING:
    from tui.services import ServicesApp

MOST = 60  # runs that are compared at once
EFFECT = 1.0  # a difference worth settling, in points
LIVE = ("running", "paused")


class CompareScreen(Looking):
    """Two or more runs; the first is what the others are held against."""

    app: ServicesApp
    BINDINGS = bindings(
        "metric", "reference", *LOOKING, "next", "previous", "back", footer=("metric", "x-axis", "smooth", "reference")
    )
    HELP = "Runs held against the first of them. Tab goes from the tables to the curves."
    AUTO_FOCUS = "ComparedTables"

    def __init__(self, chosen: Sequence[Summary]) -> None:
        super().__init__()
        self.chosen = list(chosen)
        self.metric: str | None = None  # None is the one that decides
        self.comparison: Comparison | None = None
        self._again = asyncio.Event()

    def compose(self) -> ComposeResult:
        yield Header("compare", f"{len(self.chosen)} runs")
        yield ComparedTables()
        yield ComparedCurves()
        yield Footer()

    def on_mount(self) -> None:
        self.run_worker(self._follow(), name="compare the runs")

    # -- reading ----------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Compare in a thread, at once when something else is asked for, and again while one of the runs grows."""
        while True:
            began = time.monotonic()
            self._again.clear()
            try:
                found = await asyncio.to_thread(self._compared, list(self.chosen), self.metric)
            except (UserError, OSError) as error:
                self._fail(str(error))
            else:
                self._take(found)
            grows = any(run.status in LIVE for run in self.chosen)
            with suppress(TimeoutError):
                wait = max(POLL, SHARE * (time.monotonic() - began)) if grows else None
                await asyncio.wait_for(self._again.wait(), wait)

    def _compared(self, chosen: list[Summary], metric: str | None) -> Comparison:
        """The runs as they are now, compared."""
        now = [summarise(Run(Path(run.path), run.name)) if run.status in LIVE else run for run in chosen]
        figure = f"best:{metric}" if metric else "best"
        return Comparison.of(now, self.app.runs, figure, metric, EFFECT)

    def _fail(self, problem: str) -> None:
        if self.query(ComparedTables):
            self.comparison = None
            self.query_one(ComparedTables).say(problem)

    def _take(self, comparison: Comparison) -> None:
        if not self.query(ComparedTables):  # it was left while a thread read
            return
        self.comparison = comparison
        fresh = {run.summary.path: run.summary for run in comparison.runs}
        self.chosen = [fresh.get(run.path, run) for run in self.chosen]
        self.query_one(ComparedTables).show(comparison)
        self.query_one(ComparedCurves).show(comparison)
        self.view_changed()

    # -- looking ----------------------------------------------------------------------------------------------------

    def reach(self) -> Range | None:
        return self.query_one(ComparedCurves).reach() if self.comparison else None

    def view_changed(self) -> None:
        metric = self.comparison.metric if self.comparison else ""
        said = " · ".join(filter(None, (metric, metric and analysis_comparison.best_label(metric), self.view.said)))
        self.query_one(Header).update("compare", f"{len(self.chosen)} runs", said)

    def action_metric(self) -> None:
        """Choose the metric of the curves, the verdicts and the figures at equal points."""
        if self.comparison is None:
            return
        names = analysis_comparison.compared_metrics(
            self.comparison.runs, analysis_comparison.shared_monitor(self.comparison.runs)
        )
        answers = [(name, name, "less is better" if lower_is_better(name) else "more is better") for name in names]
        self.app.push_screen(Choice("metric", "of the curves, the verdicts and the figures", answers), self._choose)

    def _choose(self, metric: str | None) -> None:
        if metric is not None:
            self.metric = metric
            self.look(View(log_y=self.view.log_y, x=self.view.x, smoothing=self.view.smoothing))
            self._again.set()

    def action_reference(self) -> None:
        """Hold the runs against the next of them."""
        self.chosen = [*self.chosen[1:], self.chosen[0]]
        self._again.set()

    def action_back(self) -> None:
        """Put the cursor away or, without one, go back."""
        if self.view.cursor is not None:
            self.look(replace(self.view, cursor=None))
        else:
            self.dismiss()
