"""Home: the runs, the queue, and the presets to start from."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.screen import ModalScreen, Screen

from convnn.analysis.fields import RUN_FIELDS, Field, age, get_field
from convnn.config.recorded import UNKNOWN
from convnn.presets import store
from convnn.runs.run import Run
from convnn.runs.slurm_jobs import QUEUED, REQUEUED
from convnn.runs.status import STATUSES
from convnn.runs.summary import Summary, summarize
from convnn.text import plural
from tui.arrangement import GridRow, count_text, filter_runs
from tui.dialogs.choice import Choice
from tui.keys import bindings
from tui.say import reporting_errors
from tui.screens.home_queue import QueuePane
from tui.widgets.filter_bar import FilterBar
from tui.widgets.header_footer import Footer, Header
from tui.widgets.preset_list import PresetEntry, PresetList, read_presets
from tui.widgets.queue_list import QueueItem, QueueList
from tui.widgets.run_grid import RunGrid
from tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from tui.app import ConvnnApp

NO_RUNS = "No runs yet.  Press n for a new one, or tab and enter to start from a preset."
NO_MATCH = "No run matches.  Press esc to clear the filter."
ONLY_FAILED = "Every run failed before its first step.  Press a to list them, n for a new one."
NO_PRESETS = "No presets yet.  Press n to fill the form, and ctrl+s there to save it."
NO_PRESET_MATCH = "No preset matches.  Press esc to clear the filter."

NO_RUN_YET = "it has no run yet: ctrl+d opens its options, del removes it"

QUEUE_POLL = 1.5  # seconds between two reads of the queue
MIN_QUEUE_LINES = 9  # with the border, of a long queue in a low terminal
CONDITION = re.compile(r"[=<>~:]")  # in a word that is a condition on runs and says nothing of presets


class HomeScreen(Screen[None]):
    """The runs beside the presets."""

    app: ConvnnApp
    BINDINGS = bindings(
        "new", "filter", "table", "sweeps", "mark", "unmark", "diff", "run-menu", "repeat", "duplicate", "delete",
        "undo", "launch", "launch-letter", "early-failures", "next", "previous", "back",
        footer=("new", "filter", "table"),
    )  # fmt: skip
    AUTO_FOCUS = "#runs"

    def __init__(self, preset: str | None = None) -> None:
        super().__init__()
        self.presets: list[PresetEntry] = []
        self._opened_at_start = preset  # name or path
        self._reading_queue = asyncio.Lock()
        self._lists_early_failures = False

    @cached_property
    def queue(self) -> QueuePane:
        return QueuePane(self.app)

    def compose(self) -> ComposeResult:
        yield Header("home")
        yield FilterBar()
        with Container(id="lists"):
            with Vertical(id="left"):
                yield _pane(RunGrid("reading the runs ...", self.app.selection, id="runs"), "runs")
                queue = _pane(QueueList(id="queue"), "queue")
                queue.display = False
                yield queue
            yield _pane(PresetList(id="presets"), "presets")
        yield Footer()

    def on_mount(self) -> None:
        self.app.run_feed.subscribe(self)
        self.set_interval(QUEUE_POLL, self._poll_queue)
        if self._opened_at_start is not None:
            self.call_after_refresh(self.app.show_form, preset=self._opened_at_start)

    # -- reading ----------------------------------------------------------------------------------------------------

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self._read_again)

    def _poll_queue(self) -> None:
        if not isinstance(self.app.screen, ModalScreen) and self.app.screen is not self:
            return
        if not self._reading_queue.locked():
            self.run_worker(self._read_queue(), group="queue")

    async def _read_queue(self) -> None:
        async with self._reading_queue:
            await self.queue.read()
        self.show_queue()

    def show_queue(self) -> None:
        for widget in self.query(QueueList):  # none when the app closed meanwhile
            had_focus = widget.has_focus
            self.queue.show(widget)
            widget.styles.height = min(widget.lines, max(MIN_QUEUE_LINES, self.app.size.height // 3))
            self.set_class(widget.display, "-queue")
            if had_focus and not widget.display:
                self.query_one(RunGrid).focus()

    def on_runs_changed(self) -> None:
        self.show_lists()
        self._start_reading_presets()

    def _read_again(self) -> None:
        self.app.run_feed.read_now()
        self._start_reading_presets()
        self.run_worker(self._read_queue(), group="queue")

    def _start_reading_presets(self) -> None:
        self.run_worker(self._read_presets(), group="presets", exclusive=True)

    async def _read_presets(self) -> None:
        self.presets = await asyncio.to_thread(lambda: list(read_presets()))
        self.show_lists()

    # -- showing ----------------------------------------------------------------------------------------------------

    def show_lists(self) -> None:
        """Show the runs and the presets that pass the filter."""
        if not self.query(PresetList):  # the app closed while a thread was reading
            return
        filter_bar = self.query_one(FilterBar)
        runs, error = filter_runs(self.app.runs, filter_bar.text, self._lists_early_failures)
        filter_bar.update(self.app.runs, error)
        self._show_runs(runs, filter_bar.text)
        self._show_presets(filter_bar.text)
        self._show_status()

    def _show_runs(self, runs: list[Summary], filter_text: str) -> None:
        grid = self.query_one(RunGrid)
        title = "runs"
        if self.app.runs:
            title += f" {count_text(len(runs), self.app.runs, filter_text)}"
        grid.border_title = title
        if filter_text:
            grid.empty_text = NO_MATCH
        elif self.app.run_feed.complete:
            grid.empty_text = ONLY_FAILED if self.app.runs else NO_RUNS
        grid.show_rows([GridRow(run) for run in runs], _columns(self.app.now))

    def _show_presets(self, filter_text: str) -> None:
        words = [word for word in filter_text.lower().split() if not CONDITION.search(word)]
        preset_list = self.query_one(PresetList)
        preset_list.empty_text = NO_PRESET_MATCH if self.presets else NO_PRESETS
        preset_list.set_items(
            [
                preset
                for preset in self.presets
                if all(word in f"{preset.name} {preset.about}".lower() for word in words)
            ]
        )

    def _show_status(self) -> None:
        status, style = "", ""
        if running := sum(STATUSES[run.status].is_live for run in self.app.runs):
            status = f"{running} running"
        if waiting := sum(run.status in (QUEUED, REQUEUED) for run in self.app.runs):
            status = ", ".join(filter(None, [status, f"{waiting} waiting for Slurm"]))
        if self.app.run_feed.warnings:
            damaged = plural(len(self.app.run_feed.warnings), "damaged entry", "damaged entries")
            status, style = f"{damaged}: see `convnn runs`", "yellow"
        self.query_one(Header).update("home", str(self.app.root), status, style)

    # -- the item under the cursor ----------------------------------------------------------------------------------

    @property
    def preset(self) -> PresetEntry | None:
        """The preset under the cursor, while its list has the focus."""
        preset_list = self.query_one(PresetList)
        if not preset_list.has_focus:
            return None
        return preset_list.current

    @property
    def run(self) -> Run | None:
        """The run under the cursor, while the grid or the queue has the focus."""
        grid = self.query_one(RunGrid)
        if (item := self.queue_item) is not None:
            return self.queue.run_of(item)
        if grid.has_focus and grid.current_run is not None:
            return grid.current_run.run
        return None

    @property
    def queue_item(self) -> QueueItem | None:
        """The line of the queue under the cursor, while that has the focus."""
        widget = self.query_one(QueueList)
        if not widget.has_focus:
            return None
        return widget.current

    @on(VirtualList.Opened, "#runs")
    @on(VirtualList.Opened, "#queue")
    def _open_run(self) -> None:
        if self.run is not None:
            self.app.show_run(self.run)
        else:
            self.app.say(NO_RUN_YET)

    @on(QueueList.Moved)
    async def _move_in_queue(self, event: QueueList.Moved) -> None:
        self.queue.move(event.item, event.distance)
        await self._read_queue()

    @on(QueueList.Retried)
    async def _retry(self, event: QueueList.Retried) -> None:
        self.queue.retry(event.item)
        await self._read_queue()

    @on(QueueList.PauseToggled)
    async def _pause_queue(self) -> None:
        self.queue.toggle_pause()
        await self._read_queue()

    @on(VirtualList.Opened, "#presets")
    def _open_preset(self, event: VirtualList.Opened) -> None:
        self.app.show_form(preset=str(event.item.path))

    def action_new(self) -> None:
        self.app.show_form()

    def action_duplicate(self) -> None:
        """Open the options of a run or of an entry of the queue in the form, or copy a preset."""
        if (item := self.queue_item) is not None:
            self.app.show_form_of(lambda: self.queue.config(item), item.name)
        elif self.run is not None:
            self.app.show_form(run=self.run)
        elif self.preset is not None:
            with reporting_errors(self.app.say):
                self.app.say(f"copied as {store.duplicate(self.preset.path).stem}")
                self._start_reading_presets()
        else:
            self._say_no_run(" or a preset")

    def action_launch(self) -> None:
        if self.preset is None:
            self.app.say("move the cursor to a preset to run it, or press n to fill the form")
        else:
            self.app.launch_preset(str(self.preset.path), self.preset.name)
            self._read_again()

    action_launch_letter = action_launch

    def action_delete(self) -> None:
        """Move the marked runs, the current run or preset to the trash, or take something out of the queue."""
        if (item := self.queue_item) is not None:
            self.queue.remove(item)
        elif self.preset is not None:
            self.app.deletion.delete_preset(self.preset.path)
        elif self.run is not None or self.app.selection.marked:
            return self.app.delete_runs(self.run, self._read_again)
        else:
            self._say_no_run(" or a preset")
        return self._read_again()

    def action_run_menu(self) -> None:
        grid = self.query_one(RunGrid)
        if self.queue_item is not None and self.run is None:
            self.app.say(NO_RUN_YET)
        elif self.queue_item is not None and self.run is not None:
            self.app.show_menu(summarize(self.run))
        else:
            self.app.show_menu(grid.current_run if grid.has_focus else None)

    def action_repeat(self) -> None:
        self.app.repeat(self.run)

    def action_undo(self) -> None:
        self.app.deletion.undo()
        self._read_again()

    # -- comparing --------------------------------------------------------------------------------------------------

    def action_sweeps(self) -> None:
        self.run_worker(self._choose_sweep(), group="sweeps", exclusive=True)

    async def _choose_sweep(self) -> None:
        from convnn.sweeps.states import read_states  # not before the first frame

        states = await asyncio.to_thread(read_states, self.app.root.absolute())
        names = [state.name for state in states]
        if not names:
            self.app.say("there is no sweep: give a field of the form several values (1,4,9) and press f6")
        elif len(names) == 1:
            self.app.show_sweep(names[0])
        else:
            states.sort(key=lambda state: not state.is_going_on)  # those that go on first
            answers = [(state.name, state.name, state.counts_text()) for state in states]
            self.app.ask(Choice("sweeps", "", answers), self.app.show_sweep)

    def action_table(self) -> None:
        from tui.screens.runs import RunsScreen  # not before the first frame

        self.app.push_screen(RunsScreen())

    def action_mark(self) -> None:
        grid = self.query_one(RunGrid)
        if grid.has_focus and grid.items:
            grid.toggle_mark()
        else:
            self._say_no_run()

    def action_unmark(self) -> None:
        self.query_one(RunGrid).unmark_all()

    def _say_no_run(self, alternative: str = "") -> None:
        self.app.say(f"move the cursor to a run{alternative} first")

    def action_diff(self) -> None:
        self.app.compare(self.run)

    # -- filtering --------------------------------------------------------------------------------------------------

    def action_early_failures(self) -> None:
        """List also the runs that failed before their first step, or hide them."""
        if not any(run.failed_early for run in self.app.runs):
            self.app.say("no run failed before its first step")
            return
        self._lists_early_failures = not self._lists_early_failures
        self.show_lists()

    def action_filter(self) -> None:
        self.query_one(FilterBar).open()

    @on(FilterBar.Changed)
    def _filter_changed(self) -> None:
        self.show_lists()

    @on(FilterBar.Submitted)
    def _filter_submitted(self) -> None:
        """Go to the matches: to the presets where no run matches."""
        grid, preset_list = self.query_one(RunGrid), self.query_one(PresetList)
        if preset_list.items and not grid.items:
            preset_list.focus()
        else:
            grid.focus()

    def action_back(self) -> None:
        """Clear the filter. There is nothing to go back to, and this never quits."""
        filter_bar = self.query_one(FilterBar)
        if filter_bar.input.has_focus:
            self.query_one(RunGrid).focus()
        if not filter_bar.close():
            self.app.say("there is nothing to go back to: press q to quit")


def _pane(widget: VirtualList[Any], title: str) -> VirtualList[Any]:
    widget.border_title = title
    return widget.add_class("pane")


def _columns(now: Callable[[], float]) -> list[Field]:
    """The columns of Home, the ones that are scrolled out of a narrow terminal last."""
    return [
        RUN_FIELDS["status"],
        Field("epoch", "number", _epochs, str),
        RUN_FIELDS["best"],
        replace(RUN_FIELDS["age"], get=lambda run: age(run, now())),
        get_field("dataset"),
        get_field("layer"),
    ]


def _epochs(run: Summary) -> Any:
    """Epochs of how many: 3/30."""
    epochs = run.config.value("training.num_epochs")
    if epochs is UNKNOWN:
        return str(run.epoch)
    return f"{run.epoch}/{epochs}"
