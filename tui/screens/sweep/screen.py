"""The screen of a sweep: its grid while it goes on, the focused cell, and what can be done with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import Screen

from convnn.analysis.fields import metric_names
from convnn.runs.summary import Summary
from convnn.sweeps.folder import SweepFolder
from convnn.sweeps.results import Results, results
from convnn.sweeps.states import CellState, SweepState, read_state
from convnn.sweeps.stop import stop_sweep
from convnn.text import duration, plural
from tui.dialogs.choice import Answer, Choice
from tui.keys import bindings
from tui.run_feed import POLL, SHARE
from tui.say import reporting_errors
from tui.screens.sweep.detail import CellCurves, CellDetail
from tui.screens.sweep.grid import SweepGrid
from tui.widgets.header_footer import Footer, Header
from tui.widgets.linked_charts import LinkedCharts
from tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from tui.app import ConvnnApp

RESUME: Answer = ("resume", "resume", "what is not done goes into the queue")
STOP: Answer = ("stop", "stop", "what waits leaves the queue; what trains goes on")
STOP_NOW: Answer = ("stop-now", "stop now", "what trains saves and ends, too")
REPEAT: Answer = ("repeat", "three more seeds", "of every cell")


class SweepScreen(Screen[None]):
    """A sweep of the runs folder."""

    app: ConvnnApp
    BINDINGS = bindings(
        "stop-sweep", "resume-sweep", "sweep-menu", "repeat", "metric", "next", "previous", "back",
        footer=("stop-sweep", "resume-sweep", "sweep-menu", "repeat", "metric"),
    )  # fmt: skip
    HELP = "A sweep. Its cells follow the queue and the runs; the pane beside shows the one under the cursor."
    AUTO_FOCUS = "SweepGrid"
    CSS_PATH = "sweep.tcss"

    def __init__(self, name: str) -> None:
        super().__init__()
        self.folder = SweepFolder(self.app.root.absolute(), name)
        self.metric = "best"
        self.results: Results | None = None
        self.paused: str | None = None  # why the queue starts nothing
        self._stale = asyncio.Event()

    @property
    def unneeded_keys(self) -> tuple[str, ...]:
        """The keys of the footer that make room for those of the sweep."""
        return ("x-axis", "smooth")

    def compose(self) -> ComposeResult:
        yield Header("sweep", self.folder.name)
        with LinkedCharts(lambda: None), Container(id="sweep"):
            grid = SweepGrid()
            grid.border_title = "cells"
            yield grid.add_class("pane")
            yield CellDetail()
        yield Footer()

    def on_mount(self) -> None:
        self.run_worker(self._follow(), name="follow the sweep")

    async def _follow(self) -> None:
        """Read the sweep in a thread again and again while it is in sight."""
        while True:
            start = time.monotonic()
            self._stale.clear()
            with reporting_errors(self.app.say):
                await self._show(await asyncio.to_thread(self._read))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stale.wait(), max(POLL, SHARE * (time.monotonic() - start)))

    def _read(self) -> Results:
        self.paused = self.app.background.queue.paused
        result = results(read_state(self.folder), key=self.metric)
        _ = result.importance  # found in this thread, as it may take a second
        return result

    async def _show(self, result: Results) -> None:
        if not self.query(SweepGrid):  # the screen was left while the thread read
            return
        self.results = result
        grid = self.query_one(SweepGrid)
        grid.show(result)
        if result.state.search is not None:
            grid.border_title = "trials, best first"
        self.query_one(Header).update(
            f"sweep {self.folder.name}", result.state.counts_text(), self._time_left(result.state)
        )
        self.refresh_bindings()
        await self._show_cell()

    @on(SweepGrid.Focused)
    def _cell_focused(self) -> None:
        self.run_worker(self._show_cell(), group="cell", exclusive=True)

    async def _show_cell(self) -> None:
        """Show the cell under the cursor; its histories are read in a thread."""
        cell = self.query_one(SweepGrid).cell
        if cell is None:
            return
        curves = await asyncio.to_thread(CellCurves.read, cell)
        if self.query(CellDetail):
            self.query_one(CellDetail).show(curves)
            self.query_one(LinkedCharts).redraw()

    def on_resize(self) -> None:
        self._stale.set()

    def _time_left(self, state: SweepState) -> str:
        """How long the sweep still takes, and when it ends."""
        if not state.is_going_on:
            return "done" if state.is_done else "stopped"
        if self.paused is not None:
            return "the queue is paused"
        if not state.eta:
            return "going on"
        end = time.strftime("%a %H:%M", time.localtime(time.time() + state.eta))
        return f"about {duration(state.eta)} left, {end}"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Name the key of the menu after what the sweep can do now."""
        if action in ("repeat", "sweep_menu") and self._is_search:
            return False  # a search repeats the best by itself
        if action in ("stop_sweep", "resume_sweep", "sweep_menu"):
            state = None if self.results is None else self.results.state
            if state is not None and state.is_going_on:
                return action == "stop_sweep"
            is_done = state is not None and state.is_done
            return action == ("sweep_menu" if is_done else "resume_sweep")
        return super().check_action(action, parameters)

    @on(VirtualList.Opened, "#grid")
    def _open_cell(self) -> None:
        cell = self.query_one(SweepGrid).cell
        if cell is None:
            return
        runs = [state for state in cell.states if state.run is not None]
        if len(runs) == 1 and runs[0].run is not None:
            self.app.show_run(runs[0].run.run)
        elif runs:
            answers = [(str(state.cell.seed), f"seed {state.cell.seed}", state.state) for state in runs]
            self.app.ask(Choice(cell.name, "", answers), partial(self._open_seed, runs))
        elif cell is not None:
            self.app.say(f"{cell.name} has no run: {cell.reason}")

    def _open_seed(self, states: list[CellState], answer: str) -> None:
        for state in states:
            if str(state.cell.seed) == answer and state.run is not None:
                self.app.show_run(state.run.run)

    def action_stop_sweep(self) -> None:
        self._ask("", STOP, STOP_NOW, REPEAT)

    def action_resume_sweep(self) -> None:
        self._ask("", RESUME, REPEAT)

    def action_sweep_menu(self) -> None:
        self._ask("every cell is done", REPEAT)

    def _ask(self, text: str, *answers: Answer) -> None:
        offered = [answer for answer in answers if answer is not REPEAT or not self._is_search]
        self.app.ask(Choice(f"sweep {self.folder.name}", text, offered), self._obey)

    @property
    def _is_search(self) -> bool:
        return self.results is not None and self.results.state.search is not None

    def action_repeat(self) -> None:
        self._obey("repeat")

    def _obey(self, answer: str) -> None:
        background, name = self.app.background, self.folder.name
        work: dict[str, Callable[[], str]] = {
            "resume": partial(background.resume_sweep, name),
            "repeat": partial(background.repeat_sweep, name),
            "stop": partial(self._stop, now=False),
            "stop-now": partial(self._stop, now=True),
        }
        self.run_worker(self._do(work[answer]), group="sweep")

    async def _do(self, work: Callable[[], str]) -> None:
        with reporting_errors(self.app.say):
            self.app.say(await asyncio.to_thread(work))
        self._stale.set()

    def _stop(self, *, now: bool) -> str:
        removed, live = stop_sweep(self.folder, now=now)
        removal = f"{plural(removed, 'cell')} out of the queue"
        if live:
            fate = "will save and end" if now else "still to end"
            removal += f", {plural(live, 'run')} {fate}"
        return f"{removal}; . resumes"

    def action_metric(self) -> None:
        runs: list[Summary] = []
        if self.results is not None:
            runs = [cell.run for cell in self.results.state.cells if cell.run]
        answers = [("best", "best", "of the metric that chooses the epoch")]
        answers += [(name, name, "at the last epoch") for name in metric_names(runs)]
        self.app.ask(Choice("value of the cells", "", answers, current=self.metric), self._set_metric)

    def _set_metric(self, metric: str) -> None:
        self.metric = metric
        self._stale.set()

    def action_back(self) -> None:
        self.dismiss()
