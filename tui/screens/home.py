"""Home: what was trained, what trains, and the presets to start from."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import Screen
from textual.widgets import Input

from convnn import presets, query, runs, trash
from convnn.errors import UserError, escaped
from convnn.runs import Run
from convnn.summaries import Summary, summaries
from tui import preset_files
from tui.keys import bound
from tui.widgets.bars import Foot, Head
from tui.widgets.preset_list import Listed, PresetList, listed
from tui.widgets.rows import Rows
from tui.widgets.run_table import Row, RunTable, row

if TYPE_CHECKING:
    from tui.app import ConvnnApp

POLL = 1.5  # seconds between two looks at the files, at least
SHARE = 20  # a look that took t seconds is followed by none for 20 t
NO_RUNS = "No runs yet.  Press n for a new one, or tab and enter to start from a preset."
NO_PRESETS = "No presets yet.  Press n to fill the form, and ctrl+s there to keep it."


class HomeScreen(Screen[None]):
    """The runs beside the presets."""

    app: ConvnnApp
    BINDINGS = bound(
        "new", "filter", "duplicate", "delete", "undo", "launch", "launch-letter", "back", shown=("new", "filter", "delete")
    )
    AUTO_FOCUS = "#runs"

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.found: list[Summary] = []
        self.presets: list[Listed] = []
        self.warnings: list[str] = []
        self.deleted: list[tuple[Path, Path] | None] = []  # presets (where it was, where it is now); None is a run
        self._look_now = asyncio.Event()

    def compose(self) -> ComposeResult:
        yield Head("home")
        yield Input(placeholder="layer=Branching K>=9 best>80 status=done ...  words are parts of names", id="filter", compact=True)
        with Container(id="lists"):
            yield self._pane(RunTable("reading the runs ...", id="runs"), "runs")
            yield self._pane(PresetList("", id="presets"), "presets")
        yield Foot()

    def _pane(self, rows: Rows, title: str) -> Rows:
        rows.border_title = title
        return rows.add_class("pane")  # type: ignore[return-value]

    def on_mount(self) -> None:
        self.run_worker(self._follow(), name="follow the runs")
        if self.app.preset is not None:
            self.call_after_refresh(self._load, self.app.preset)

    def on_screen_resume(self) -> None:
        self._look_now.set()

    # -- reading ----------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Look at the files again and again, in a thread, while this screen is the one that is seen."""
        while True:
            if self.is_current or not self.found:
                began = time.monotonic()
                self.presets = await asyncio.to_thread(lambda: list(listed()))
                self.show()
                self.found, self.warnings = await asyncio.to_thread(summaries, self.root)
                self.query_one(RunTable).empty = NO_RUNS
                self.show()
                wait = max(POLL, SHARE * (time.monotonic() - began))
            self._look_now.clear()
            try:
                await asyncio.wait_for(self._look_now.wait(), wait)
            except TimeoutError:
                pass

    def show(self) -> None:
        """Show what was read, as the filter has it."""
        table, chosen = self.query_one(RunTable), self.query_one(PresetList)
        text = self.query_one("#filter", Input).value.strip()
        found, told, wrong = self.found, self.presets, ""
        if text:
            try:
                found = query.parse(text, self.found).of(self.found)
            except UserError as error:
                wrong = error.problems[0].message
            told = [preset for preset in told if all(word in f"{preset.name} {preset.about}".lower() for word in text.lower().split())]
        waiting = [Row(str(id(launch)), launch.title, "queued", launch.config.layer.type, launch.config.data.dataset) for launch in self.app.launcher.queued]
        table.show([*waiting, *(row(summary, self._age(summary)) for summary in found)])
        chosen.show(told)
        if text and not found:
            table.empty = "No run matches.  Press esc to clear the filter."
        chosen.empty = "No preset matches." if text and self.presets else NO_PRESETS
        table.border_subtitle = escaped(wrong)
        table.border_title = f"runs {len(found)} of {len(self.found)}" if text else f"runs {len(found)}" if found else "runs"
        self._say()

    def _age(self, summary: Summary) -> float | None:
        if summary.started is None:
            return None
        return max(0.0, self.app.now() - datetime.fromisoformat(summary.started).timestamp())

    def _say(self) -> None:
        busy = [summary for summary in self.found if summary.status in ("running", "paused")]
        said = f"{len(busy)} running" if busy else ""
        style = ""
        if self.warnings:
            count = len(self.warnings)
            said, style = f"{count} damaged {'entry' if count == 1 else 'entries'}: see `convnn runs`", "yellow"
        self.query_one(Head).say("home", str(self.root), said, style)

    # -- choosing ---------------------------------------------------------------------------------------------------

    @on(Rows.Opened, "#runs")
    def open_run(self, event: Rows.Opened) -> None:
        if event.item.status == "queued":
            self.app.say("it waits for the runs before it; delete takes it out of the queue")
        else:
            self.app.show_run(Run(Path(event.item.key), event.item.name))

    @on(Rows.Opened, "#presets")
    def open_preset(self, event: Rows.Opened) -> None:
        self._load(str(event.item.path), event.item.name)

    def _load(self, path: str, name: str = "") -> None:
        from tui.draft import Draft

        try:
            self._form(Draft(presets.read(path)))
        except UserError as error:
            self.app.say(str(error), wrong=True)

    def _form(self, draft: object) -> None:
        from tui.screens.setup import SetupScreen  # not before the first frame

        self.app.push_screen(SetupScreen(draft))

    def action_new(self) -> None:
        from tui.draft import Draft

        self._form(Draft())

    def action_duplicate(self) -> None:
        """A run's settings in the form, or a copy of a preset."""
        from tui.draft import Draft

        try:
            if self.preset is not None:
                self.app.say(f"copied as {preset_files.duplicate(self.preset.path).stem}")
                self._look_now.set()
            elif self.run is not None:
                self._form(Draft.of(self.run.config()))
        except (UserError, OSError) as error:
            self.app.say(str(error), wrong=True)

    def action_launch(self) -> None:
        """Train the preset under the cursor as it is."""
        if self.preset is None:
            self.app.say("put the cursor on a preset to run it, or press n to fill the form")
            return
        from tui.draft import Draft

        draft = Draft(presets.read(str(self.preset.path)))
        checked = draft.check()
        if checked.problems:
            self._form(draft)
        else:
            self.app.launch(checked.config, self.preset.name)
            self._look_now.set()

    action_launch_letter = action_launch

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

    # -- deleting ---------------------------------------------------------------------------------------------------

    def action_delete(self) -> None:
        """Move a run or a preset to the trash, or a launch out of the queue."""
        try:
            if self.preset is not None:
                self.deleted.append(preset_files.discard(self.preset.path))
                self.app.say(f"{self.preset.name} is in the trash: u brings it back")
            elif self.run is not None:
                trash.discard(self.run.path, self.run.name, self.root)
                self.deleted.append(None)
                self.app.say(f"{self.run.name} is in the trash: u brings it back")
            else:
                self._unqueue()
        except (UserError, OSError) as error:
            self.app.say(str(error), wrong=True)
        self._look_now.set()

    def _unqueue(self) -> None:
        item = self.query_one(RunTable).current
        for launch in self.app.launcher.queued:
            if item is not None and str(id(launch)) == item.key and not self.app.launcher.drop(launch):
                self.app.say("it has started already", wrong=True)

    def action_undo(self) -> None:
        """Bring back what was deleted last: here, or else the newest run of the trash."""
        try:
            last = self.deleted[-1] if self.deleted else None
            if last is not None:
                was, now = last
                preset_files.bring_back(now, was)
                self.app.say(f"{was.stem} is back")
            else:
                self.app.say(f"{trash.undo(self.root).name} is back")
            del self.deleted[-1:]
        except (UserError, OSError) as error:
            self.app.say(str(error), wrong=True)
        self._look_now.set()

    # -- filtering --------------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        self.query_one("#filter", Input).add_class("shown").focus()

    @on(Input.Changed, "#filter")
    def filtered(self) -> None:
        self.show()

    @on(Input.Submitted, "#filter")
    def leave_filter(self) -> None:
        self.query_one(RunTable).focus()

    def action_back(self) -> None:
        """Clear the filter. Nothing else is to go back to, and this never quits."""
        box = self.query_one("#filter", Input)
        box.value = ""
        box.remove_class("shown")
        if box.has_focus:
            self.query_one(RunTable).focus()
