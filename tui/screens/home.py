"""Home: what was trained, what trains, and the presets to start from."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import Screen
from textual.widgets import Input

from convnn.analysis import filters
from convnn.errors import UserError
from convnn.presets import store
from convnn.runs.run import Run
from convnn.runs.summary import Summary
from convnn.text import escaped
from tui.keys import bindings
from tui.widgets.header_footer import Footer, Header
from tui.widgets.preset_list import Listed, PresetList, listed
from tui.widgets.run_table import Row, RunTable, row
from tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from tui.screens.setup.draft import Draft
    from tui.services import ServicesApp

NO_RUNS = "No runs yet.  Press n for a new one, or tab and enter to start from a preset."
NO_PRESETS = "No presets yet.  Press n to fill the form, and ctrl+s there to keep it."

CONDITION = re.compile(r"[=<>~:]")  # what a word has that says something of runs, and of no preset


class HomeScreen(Screen[None]):
    """The runs beside the presets."""

    app: ServicesApp

    BINDINGS = bindings(
        "new",
        "filter",
        "table",
        "mark",
        "unmark",
        "diff",
        "duplicate",
        "delete",
        "undo",
        "launch",
        "launch-letter",
        "next",
        "previous",
        "back",
        footer=("new", "filter", "table"),
    )
    AUTO_FOCUS = "#runs"

    def __init__(self, preset: str | None = None) -> None:
        super().__init__()
        self.presets: list[Listed] = []
        self._open_at_start = preset  # name or path of a preset

    def compose(self) -> ComposeResult:
        yield Header("home")
        yield Input(
            placeholder="layer=Branching K>=9 best>80 status=done ...  words are parts of names",
            id="filter",
            compact=True,
        )
        with Container(id="lists"):
            yield self._pane(RunTable("reading the runs ...", self.app.selection, id="runs"), "runs")
            yield self._pane(PresetList("", id="presets"), "presets")
        yield Footer()

    def _pane(self, rows: VirtualList, title: str) -> VirtualList:
        rows.border_title = title
        return rows.add_class("pane")

    def on_mount(self) -> None:
        self.app.run_feed.subscribe(self)
        if self._open_at_start is not None:
            self.call_after_refresh(self._load, self._open_at_start)

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self._read_again)

    def on_runs_changed(self) -> None:
        self.show()
        self.run_worker(self._read_presets(), group="presets", exclusive=True)

    # -- reading ----------------------------------------------------------------------------------------------------

    def _read_again(self) -> None:
        self.app.run_feed.read_now()
        self.run_worker(self._read_presets(), group="presets", exclusive=True)

    async def _read_presets(self) -> None:
        self.presets = await asyncio.to_thread(lambda: list(listed()))
        self.show()

    def show(self) -> None:
        """Show what was read, as the filter has it."""
        if not (self.query("RunTable") and self.query("PresetList")):  # the app is closing while a thread reads
            return
        table, chosen = self.query_one(RunTable), self.query_one(PresetList)
        text = self.query_one("#filter", Input).value.strip()
        found, told, wrong = self.app.runs, self.presets, ""
        if text:
            try:
                found = filters.parse_filter(text, self.app.runs).select(self.app.runs)
            except UserError as error:
                wrong = error.problems[0].message
            words = [word for word in text.lower().split() if not CONDITION.search(word)]
            told = [preset for preset in told if all(word in f"{preset.name} {preset.about}".lower() for word in words)]
        waiting = [
            Row(str(id(launch)), launch.title, "queued", launch.config.layer.type, launch.config.data.dataset)
            for launch in self.app.launcher.queued
        ]
        table.show([*waiting, *(row(summary, self._age(summary)) for summary in found)])
        chosen.show(told)
        if self.app.run_feed.complete:
            table.empty = NO_RUNS
        if text and not found:
            table.empty = "No run matches.  Press esc to clear the filter."
        chosen.empty = "No preset matches." if text and self.presets else NO_PRESETS
        table.border_subtitle = escaped(wrong)
        table.border_title = (
            f"runs {len(found)} of {len(self.app.runs)}" if text else f"runs {len(found)}" if found else "runs"
        )
        self._say()

    def _age(self, summary: Summary) -> float | None:
        if summary.started is None:
            return None
        return max(0.0, self.app.now() - datetime.fromisoformat(summary.started).timestamp())

    def _say(self) -> None:
        busy = [summary for summary in self.app.runs if summary.status in ("running", "paused")]
        said = f"{len(busy)} running" if busy else ""
        style = ""
        if self.app.run_feed.warnings:
            count = len(self.app.run_feed.warnings)
            said, style = f"{count} damaged {'entry' if count == 1 else 'entries'}: see `convnn runs`", "yellow"
        self.query_one(Header).update("home", str(self.app.root), said, style)

    # -- deleting ---------------------------------------------------------------------------------------------------

    @property
    def preset(self) -> Listed | None:
        """The preset under the cursor, where that pane has the focus."""
        rows = self.query_one(PresetList)
        return rows.current if rows.has_focus else None

    @property
    def run(self) -> Run | None:
        """The run under the cursor, where that pane has the focus."""
        rows = self.query_one(RunTable)
        item = rows.current if rows.has_focus else None
        return None if item is None or item.status == "queued" else Run(Path(item.key), item.name)

    def action_delete(self) -> None:
        """Move a run or a preset to the trash, or a launch out of the queue."""
        if self.preset is not None:
            self.app.deletion.delete_preset(self.preset.path)
        elif self.run is not None:
            self.app.deletion.delete_runs([self.run])
        else:
            self._unqueue()
        self._read_again()

    def _unqueue(self) -> None:
        item = self.query_one(RunTable).current
        for launch in self.app.launcher.queued:
            if item is not None and str(id(launch)) == item.key and not self.app.launcher.drop(launch):
                self.app.say("it has started already", error=True)

    def action_undo(self) -> None:
        self.app.deletion.undo()
        self._read_again()

    # -- choosing ---------------------------------------------------------------------------------------------------

    @on(VirtualList.Opened, "#runs")
    def open_run(self, event: VirtualList.Opened) -> None:
        if event.item.status == "queued":
            self.app.say("it waits for the runs before it; delete takes it out of the queue")
        else:
            self.app.show_run(Run(Path(event.item.key), event.item.name))

    @on(VirtualList.Opened, "#presets")
    def open_preset(self, event: VirtualList.Opened) -> None:
        self._load(str(event.item.path), event.item.name)

    def _load(self, path: str, name: str = "") -> None:
        from tui.screens.setup.draft import Draft

        try:
            self._form(Draft(store.read(path)))
        except UserError as error:
            self.app.say(str(error), error=True)

    def _form(self, draft: Draft) -> None:
        from tui.screens.setup.screen import SetupScreen  # not before the first frame

        self.app.push_screen(SetupScreen(draft))

    def action_new(self) -> None:
        from tui.screens.setup.draft import Draft

        self._form(Draft())

    def action_duplicate(self) -> None:
        """A run's settings in the form, or a copy of a preset."""
        from tui.screens.setup.draft import Draft

        try:
            if self.preset is not None:
                self.app.say(f"copied as {store.duplicate(self.preset.path).stem}")
                self._read_again()
            elif self.run is not None:
                self._form(Draft.of(self.run.config(), self.run.name))
        except (UserError, OSError) as error:
            self.app.say(str(error), error=True)

    def action_launch(self) -> None:
        """Train the preset under the cursor as it is."""
        if self.preset is None:
            self.app.say("put the cursor on a preset to run it, or press n to fill the form")
            return
        from tui.screens.setup.draft import Draft

        draft = Draft(store.read(str(self.preset.path)))
        checked = draft.check()
        if checked.problems:
            self._form(draft)
        else:
            self.app.launch(checked.config, self.preset.name)
            self._read_again()

    action_launch_letter = action_launch

    # -- comparing --------------------------------------------------------------------------------------------------

    def action_table(self) -> None:
        from tui.screens.runs import RunsScreen  # not before the first frame

        self.app.push_screen(RunsScreen())

    def action_mark(self) -> None:
        """Mark the run under the cursor."""
        if self.run is not None:
            self.app.selection.toggle_mark([str(self.run.path)])
            self.query_one(RunTable).action_down()
            self.query_one(RunTable).refresh()

    def action_unmark(self) -> None:
        self.app.selection.unmark_all()
        self.query_one(RunTable).refresh()

    def action_diff(self) -> None:
        self.app.compare(str(self.run.path) if self.run else None)

    # -- filtering --------------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        if self.app.typing:
            raise SkipAction
        self.set_focus(self.query_one("#filter", Input).add_class("shown"))

    @on(Input.Changed, "#filter")
    def filtered(self) -> None:
        self.show()

    @on(Input.Submitted, "#filter")
    def leave_filter(self) -> None:
        """Go to what was found: the runs, or the presets where those are all."""
        runs, chosen = self.query_one(RunTable), self.query_one(PresetList)
        (chosen if chosen.items and not runs.items else runs).focus()

    def action_back(self) -> None:
        """Clear the filter. Nothing else is to go back to, and this never quits."""
        box = self.query_one("#filter", Input)
        box.value = ""
        box.remove_class("shown")
        if box.has_focus:
            self.query_one(RunTable).focus()
