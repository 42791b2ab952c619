"""The screen of a run: live, finished or of another process, shown from its directory by the same code."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Static

from convnn.events import Event
from convnn.runs.history import History
from convnn.runs.run import Run
from convnn.runs.status import STATUSES, status_label
from convnn.terminal.report import status_tone
from convnn.text import escaped, plural
from tui.keys import bindings
from tui.process.launcher import Launch
from tui.screens.run.classes import ClassesPane
from tui.screens.run.configuration import ConfigurationPane
from tui.screens.run.curves import AccuracyPane, LossPane, RatePane
from tui.screens.run.device import DevicePane
from tui.screens.run.follower import MIN_INTERVAL, PollInterval, RunFollower
from tui.screens.run.layers import LayersPane
from tui.screens.run.log import LogPane
from tui.screens.run.neighbors import NeighborsPane
from tui.screens.run.pane import PANE_KEYS, PANE_KEYS_TEXT, Changes, Pane, tone_style
from tui.screens.run.progress import ProgressPane
from tui.screens.run.run_menu import RunMenu, can_resume
from tui.widgets.header_footer import Footer, Header
from tui.widgets.linked_charts import LinkedCharts
from tui.widgets.run_name import short_name

if TYPE_CHECKING:
    from tui.app import ConvnnApp

PANE_ROWS: tuple[tuple[type[Pane], ...], ...] = (
    (ProgressPane,),
    (LossPane, AccuracyPane),
    (RatePane, DevicePane, ConfigurationPane),
    (LogPane,),
    (NeighborsPane,),
    (ClassesPane,),
    (LayersPane,),
)
PANES = dict(enumerate((pane for row in PANE_ROWS for pane in row), 1))  # by number
TALL = 32  # lines of a terminal from which on secondary panes are shown at first
MENU_ACTIONS = ("stop_menu", "resume_menu", "run_menu")  # of one key
MIN_NAME = 24  # cells of the run's name in the header


class RunScreen(Screen[None]):
    """A run, or a launch that has no directory yet."""

    app: ConvnnApp
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(
            "stop-menu",
            "resume-menu",
            "run-menu",
            "note",
            "repeat",
            "diff",
            "mark",
            "new",
            "duplicate",
            "delete",
            "next",
            "previous",
            "back",
            footer=("stop-menu", "resume-menu", "run-menu", "diff", "duplicate"),
        ),
        *(
            Binding(
                key,
                f"toggle_pane({number})",
                pane.TITLE,
                show=False,
                tooltip=f"the {pane.TITLE} pane on or off",
                id=f"pane-{number}",
            )
            for key, (number, pane) in zip(PANE_KEYS, PANES.items(), strict=False)
        ),
    ]
    HELP = f"One run. {PANE_KEYS_TEXT} show and hide its panes; tab goes from one to the next."
    AUTO_FOCUS = "LossPane"
    CSS_PATH = "run.tcss"

    def __init__(self, run: Run | Launch) -> None:
        super().__init__()
        self.launch = run if isinstance(run, Launch) else None
        self.follower = RunFollower(run) if isinstance(run, Run) else None
        self.hidden_panes: set[int] | None = None  # numbers; None follows the size of the terminal
        self._poll_interval = PollInterval()
        self._is_loading = False
        self._shown_status: str | None = None  # None while the panes show nothing of the run
        self._host: str | None = None  # the other node that trains the run

    def compose(self) -> ComposeResult:
        yield Header("run")
        numbers = iter(PANES)
        with LinkedCharts(self._show_settings):
            for index, row in enumerate(PANE_ROWS):
                with Horizontal(id=f"row-{index}"):
                    for pane in row:
                        yield pane(next(numbers))
            yield Static(f"Every pane is hidden: {PANE_KEYS_TEXT} show them.", id="no-panes")
        yield Footer()

    def on_mount(self) -> None:
        self._arrange_panes()
        self.call_after_refresh(self.query_one(LinkedCharts).scroll_home, animate=False)  # where the panes scroll
        self._poll()
        self.set_interval(MIN_INTERVAL / 2, self._poll)

    # -- following --------------------------------------------------------------------------------------------------

    @property
    def history(self) -> History | None:
        """The history that the panes show; None before the directory was read."""
        if self.follower is not None and not self._is_loading:
            return self.follower.history
        return None

    @property
    def status(self) -> str:
        """The status of the run; one that was just launched here may be about to take its lock."""
        if self.follower is None:
            return "failed" if self.launch is not None and self.launch.error else "queued"
        status = self.follower.status
        if status == "died" and self.app.launcher.live == self.follower.run:
            return "running"
        return status

    def _poll(self) -> None:
        if self._is_loading or not self._poll_interval.is_over():
            return
        if self.follower is None:
            self._poll_launch()
        if self.follower is None:
            return
        if self.follower.history.first_started is None:  # the first events may be many
            self._is_loading = True
            self.run_worker(self._load(self.follower))
            return
        try:
            events = self.follower.poll()
        except OSError as error:
            self._show_unreadable(error)
        else:
            self._show(events)

    async def _load(self, follower: RunFollower) -> None:
        try:
            events = await asyncio.to_thread(follower.poll)
        except OSError as error:
            self._is_loading = False
            self._show_unreadable(error)
        else:
            self._is_loading = False
            if self.query(Pane):  # none when the screen was left meanwhile
                self._show(events)

    def _poll_launch(self) -> None:
        """Follow the directory of the launch once there is one; until then show what it waits for."""
        assert self.launch is not None
        launch, launcher = self.launch, self.app.launcher
        if launch.run is not None:
            self.follower = RunFollower(launch.run)
            return
        runs_before = 0
        if launch in launcher.queued:
            runs_before = launcher.queued.index(launch) + (launcher.live is not None)
        notice = "starting: loading torch"
        if launch.error:
            notice = str(launch.error)
        elif runs_before:
            notice = f"queued: {plural(runs_before, 'run')} before it"
        self.query_one(ProgressPane).show_notice(notice)
        self._show_header(launch.title, self.status)

    def _show_unreadable(self, error: OSError) -> None:
        """Show why the directory cannot be followed; the next poll tries again."""
        self._shown_status = None
        self.query_one(ProgressPane).show_notice(f"the run's directory cannot be read: {error.strerror}")

    def _show(self, events: Sequence[Event]) -> None:
        """Show the run in the header and in all panes."""
        assert self.follower is not None
        changes = Changes(self.follower.run, self.status, events, self.follower.read_log(), self.follower.host)
        is_same = (changes.status, changes.host) == (self._shown_status, self._host)
        if not (changes.events or changes.log_lines) and is_same:
            return
        if changes.status != self._shown_status:
            self.refresh_bindings()
        self._shown_status, self._host = changes.status, changes.host
        self._show_header(changes.run.name, changes.status)
        for pane in self.query(Pane):
            pane.show(self.follower.history, changes)
        self.query_one(LinkedCharts).redraw()

    def _show_settings(self) -> None:
        if self.follower is not None and self._shown_status is not None:
            self._show_header(self.follower.run.name, self._shown_status)

    def _show_header(self, name: str, status: str) -> None:
        parts = [self.query_one(LinkedCharts).settings.summary]
        if self.history is not None and self.history.progress.epochs:
            progress = self.history.progress
            parts.insert(0, f"epoch {progress.epoch}/{progress.epochs}")
        about = " · ".join(filter(None, parts))
        label = escaped(status_label(status, self._host))
        style = f"bold {tone_style(self, status_tone(status))}"
        space = self.app.size.width - len("  convnn      ") - len(about) - len(label)
        self.query_one(Header).update(short_name(name, max(MIN_NAME, space)), about, label, style)

    # -- panes ------------------------------------------------------------------------------------------------------

    def action_toggle_pane(self, number: int) -> None:
        hidden = {index for index, pane in enumerate(self.query(Pane), 1) if not pane.display}
        self.hidden_panes = hidden ^ {number}
        self._arrange_panes()
        self.query_one(LinkedCharts).redraw()
        pane = list(self.query(Pane))[number - 1]
        if pane.STARTS_HIDDEN and pane.display:
            self.call_after_refresh(pane.focus)  # which scrolls to it

    def on_resize(self) -> None:
        self._arrange_panes()
        if self.focused is not None and self._shown_status is not None:  # it may have moved out of view
            self.call_after_refresh(self.focused.scroll_visible, animate=False)

    def _arrange_panes(self) -> None:
        """Show the panes that are not hidden; where the rows would get too low, they keep a height and scroll."""
        hidden = self.hidden_panes
        if hidden is None:
            is_tall = self.app.size.height >= TALL
            secondary = {number for number, pane in PANES.items() if pane.IS_SECONDARY and not is_tall}
            hidden = secondary | {number for number, pane in PANES.items() if pane.STARTS_HIDDEN}
        lines_needed = 2  # header and footer
        for number, pane in enumerate(self.query(Pane), 1):
            pane.display = number not in hidden
        for row in self.query(Horizontal):
            heights = [pane.MIN_HEIGHT for pane in row.query(Pane) if pane.display]
            row.display = bool(heights)
            lines_needed += max(heights, default=0)
        self.query_one("#no-panes").display = len(hidden) == len(PANES)
        self.set_class(lines_needed > self.app.size.height, "-scrolls")

    # -- actions ----------------------------------------------------------------------------------------------------

    def action_back(self) -> None:
        """Remove the value cursor or, without one, go back."""
        if not self.query_one(LinkedCharts).clear_cursor():
            self.dismiss()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Name the key of the menu after what the status of the run calls for."""
        if action in MENU_ACTIONS:
            return action == self._menu_action
        return super().check_action(action, parameters)

    @property
    def _menu_action(self) -> str:
        if self.follower is None:
            return "run_menu"
        status = self.status
        if status == "paused" or can_resume(self.follower.run, status):
            return "resume_menu"
        return "stop_menu" if STATUSES[status].is_live else "run_menu"

    @property
    def run(self) -> Run | None:
        """The run; without one yet, this says why nothing can be done with it."""
        if self.follower is None:
            self.app.say(f"the run is {self.status}: it has no directory yet")
            return None
        return self.follower.run

    def action_run_menu(self) -> None:
        if run := self.run:
            RunMenu(self.app, run, self.status).open()

    action_stop_menu = action_resume_menu = action_run_menu

    def action_note(self) -> None:
        if run := self.run:
            RunMenu(self.app, run, self.status).ask_for_note()

    def action_repeat(self) -> None:
        if run := self.run:
            self.app.repeat(run)

    def action_diff(self) -> None:
        if run := self.run:
            self.app.compare_with(run)

    def action_mark(self) -> None:
        if run := self.run:
            self.app.selection.toggle_mark([str(run.path)])
            marked = len(self.app.selection.marked)
            word = "marked" if str(run.path) in self.app.selection.marked else "not marked any more"
            self.app.say(f"{word}: {plural(marked, 'run is', 'runs are')} marked, d compares")

    def action_new(self) -> None:
        self.app.show_form()

    def action_duplicate(self) -> None:
        if run := self.run:
            self.app.show_form(run=run)

    def action_delete(self) -> None:
        if run := self.run:
            self.app.deletion.delete_runs([run])
            if not run.path.exists():
                self.dismiss()
