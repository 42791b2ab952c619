"""Home: the runs, the launches that wait, and the presets to start from."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import Screen

from convnn.analysis.fields import RUN_FIELDS, Field, age, get_field
from convnn.config.recorded import UNKNOWN, Settings
from convnn.errors import UserError
from convnn.presets import store
from convnn.runs.run import Run
from convnn.runs.status import STATUSES
from convnn.runs.summary import Summary
from convnn.text import plural
from tui.arrangement import GridRow, filter_runs
from tui.keys import bindings
from tui.process.launcher import Launch
from tui.widgets.filter_bar import FilterBar
from tui.widgets.header_footer import Footer, Header
from tui.widgets.preset_list import PresetEntry, PresetList, read_presets
from tui.widgets.run_grid import RunGrid
from tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from tui.services import ServicesApp

NO_RUNS = "No runs yet.  Press n for a new one, or tab and enter to start from a preset."
NO_MATCH = "No run matches.  Press esc to clear the filter."
NO_PRESETS = "No presets yet.  Press n to fill the form, and ctrl+s there to save it."
NO_PRESET_MATCH = "No preset matches.  Press esc to clear the filter."

CONDITION = re.compile(r"[=<>~:]")  # in a word that is a condition on runs and says nothing of presets


class HomeScreen(Screen[None]):
    """The runs beside the presets."""

    app: ServicesApp
    BINDINGS = bindings(
        "new", "filter", "table", "mark", "unmark", "diff", "run-menu", "duplicate", "delete", "undo", "launch",
        "launch-letter", "next", "previous", "back", footer=("new", "filter", "table"),
    )  # fmt: skip
    AUTO_FOCUS = "#runs"

    def __init__(self, preset: str | None = None) -> None:
        super().__init__()
        self.presets: list[PresetEntry] = []
        self._opened_at_start = preset  # name or path
        self._queued: dict[str, Launch] = {}  # by the key of its row

    def compose(self) -> ComposeResult:
        yield Header("home")
        yield FilterBar()
        with Container(id="lists"):
            yield _pane(RunGrid("reading the runs ...", self.app.selection, id="runs"), "runs")
            yield _pane(PresetList(id="presets"), "presets")
        yield Footer()

    def on_mount(self) -> None:
        self.app.run_feed.subscribe(self)
        if self._opened_at_start is not None:
            self.call_after_refresh(self.app.show_form, preset=self._opened_at_start)

    # -- reading ----------------------------------------------------------------------------------------------------

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self._read_again)

    def on_runs_changed(self) -> None:
        self.show_lists()
        self._start_reading_presets()

    def _read_again(self) -> None:
        self.app.run_feed.read_now()
        self._start_reading_presets()

    def _start_reading_presets(self) -> None:
        self.run_worker(self._read_presets(), group="presets", exclusive=True)

    async def _read_presets(self) -> None:
        self.presets = await asyncio.to_thread(lambda: list(read_presets()))
        self.show_lists()

    # -- showing ----------------------------------------------------------------------------------------------------

    def show_lists(self) -> None:
        """Show the queue, the runs and the presets that pass the filter."""
        if not self.query(PresetList):  # the app closed while a thread was reading
            return
        filter_bar = self.query_one(FilterBar)
        runs, error = filter_runs(self.app.runs, filter_bar.text)
        filter_bar.update(self.app.runs, error)
        self._show_runs(runs, is_filtered=bool(filter_bar.text))
        self._show_presets(filter_bar.text)
        self._show_status()

    def _show_runs(self, runs: list[Summary], *, is_filtered: bool) -> None:
        launches = self.app.launcher.queued
        queued = [_queued_run(launch) for launch in launches]
        self._queued = {run.path: launch for run, launch in zip(queued, launches, strict=True)}
        grid = self.query_one(RunGrid)
        if is_filtered:
            grid.empty_text = NO_MATCH
            grid.border_title = f"runs {len(runs):,} of {len(self.app.runs):,}"
        else:
            grid.border_title = f"runs {len(runs):,}" if runs else "runs"
            if self.app.run_feed.complete:
                grid.empty_text = NO_RUNS
        grid.show_rows([GridRow(run) for run in (*queued, *runs)], _columns(self.app.now))

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
        if self.app.run_feed.warnings:
            damaged = plural(len(self.app.run_feed.warnings), "damaged entry", "damaged entries")
            status, style = f"{damaged}: see `convnn runs`", "yellow"
        self.query_one(Header).update("home", str(self.app.root), status, style)

    # -- the item under the cursor ----------------------------------------------------------------------------------

    @property
    def preset(self) -> PresetEntry | None:
        """The preset under the cursor, while its list has the focus."""
        preset_list = self.query_one(PresetList)
        return preset_list.current if preset_list.has_focus else None

    @property
    def run(self) -> Run | None:
        """The run under the cursor, while the grid has the focus; None for a launch that waits."""
        grid = self.query_one(RunGrid)
        summary = grid.current_run if grid.has_focus else None
        if summary is None or summary.path in self._queued:
            return None
        return summary.run

    @on(VirtualList.Opened, "#runs")
    def _open_run(self) -> None:
        if self.run is not None:
            self.app.show_run(self.run)
        else:
            self.app.say("it waits for the runs before it: press delete to take it out of the queue")

    @on(VirtualList.Opened, "#presets")
    def _open_preset(self, event: VirtualList.Opened) -> None:
        self.app.show_form(preset=str(event.item.path))

    def action_new(self) -> None:
        self.app.show_form()

    def action_duplicate(self) -> None:
        """Open the options of a run in the form, or copy a preset."""
        if self.run is not None:
            self.app.show_form(run=self.run)
        elif self.preset is not None:
            try:
                copy = store.duplicate(self.preset.path)
            except (UserError, OSError) as error:
                self.app.say(str(error), error=True)
            else:
                self.app.say(f"copied as {copy.stem}")
                self._start_reading_presets()

    def action_launch(self) -> None:
        """Train the preset under the cursor as it is."""
        if self.preset is None:
            self.app.say("move the cursor to a preset to run it, or press n to fill the form")
        else:
            self.app.launch_preset(str(self.preset.path), self.preset.name)
            self._read_again()

    action_launch_letter = action_launch

    def action_delete(self) -> None:
        """Move a run or a preset to the trash, or take a launch out of the queue."""
        summary = self.query_one(RunGrid).current_run
        if self.preset is not None:
            self.app.deletion.delete_preset(self.preset.path)
        elif self.run is not None:
            self.app.deletion.delete_runs([self.run])
        elif summary and (launch := self._queued.get(summary.path)) and not self.app.launcher.drop(launch):
            self.app.say("it has already started", error=True)
        self._read_again()

    def action_run_menu(self) -> None:
        """Open the menu of the run under the cursor."""
        grid = self.query_one(RunGrid)
        self.app.show_menu(grid.current_run if grid.has_focus else None)

    def action_undo(self) -> None:
        self.app.deletion.undo()
        self._read_again()

    # -- comparing --------------------------------------------------------------------------------------------------

    def action_table(self) -> None:
        from tui.screens.runs import RunsScreen  # not before the first frame

        self.app.push_screen(RunsScreen())

    def action_mark(self) -> None:
        if self.run is not None:
            self.query_one(RunGrid).toggle_mark()

    def action_unmark(self) -> None:
        self.query_one(RunGrid).unmark_all()

    def action_diff(self) -> None:
        self.app.compare(self.run)

    # -- filtering --------------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        if self.app.typing:
            raise SkipAction
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
        filter_bar.close()


def _pane(widget: VirtualList[Any], title: str) -> VirtualList[Any]:
    widget.border_title = title
    return widget.add_class("pane")


def _queued_run(launch: Launch) -> Summary:
    """A launch that waits, in the shape of a run."""
    return Summary(
        name=launch.title,
        path=f"queued {id(launch)}",
        status="queued",
        started=None,
        finished=None,
        config=Settings(launch.config.model_dump()),
        epoch=0,
        best=None,
        digest=None,
        metrics={},
        source=None,
        not_launchable_reason=None,
    )


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
    if run.status == "queued":
        return UNKNOWN
    epochs = run.config.value("training.num_epochs")
    return str(run.epoch) if epochs is UNKNOWN else f"{run.epoch}/{epochs}"
