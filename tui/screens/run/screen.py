"""One run: live, finished, detached or of another terminal, shown from its directory by the same code."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Static

from convnn.errors import UserError
from convnn.events import Event
from convnn.runs import control
from convnn.runs.history import History
from convnn.runs.run import Run
from convnn.terminal.report import state_label
from tui.dialogs.choice import Choice
from tui.keys import bindings
from tui.process.launcher import Launch
from tui.screens.run.configuration import ConfigurationPane
from tui.screens.run.curves import AccuracyPane, CurvesPane, LossPane, RatePane
from tui.screens.run.device import DevicePane
from tui.screens.run.follower import Watch
from tui.screens.run.log import LogPane
from tui.screens.run.pane import Pane
from tui.screens.run.progress import ProgressPane
from tui.screens.run.step_series import whole
from tui.screens.run.stop_menu import GOES_ON, StopMenu
from tui.theme import STATUS_COLORS
from tui.widgets.chart_group import LOOKING, Looking
from tui.widgets.chart_settings import Range
from tui.widgets.header_footer import Footer, Header
from tui.widgets.run_table import short_name

if TYPE_CHECKING:
    from tui.services import ServicesApp

ROWS: tuple[tuple[type[Pane], ...], ...] = (  # the panes are numbered in this order
    (ProgressPane,),
    (LossPane, AccuracyPane),
    (RatePane, DevicePane, ConfigurationPane),
    (LogPane,),
)
TALL = 32  # rows of a terminal from which on all panes are shown at first
SHORTEST = 24  # cells of the name in the first line
LATER = frozenset({4, 5, 6})  # not at first on a smaller one
LOWEST = (5, 8, 8, 5)  # lines that each row of panes needs
LOOK = 0.5  # seconds between two looks at the directory, at least
SELDOM = 3.0  # and at most
SHARE = 100
"""When this thread computed for t seconds since the last look, the next comes 100 t after it: drawing, which holds the
interpreter lock that training in this process needs too, takes 1 % of a core."""


class RunScreen(Looking):
    """What a run did, and does; `run` may be a launch that has no directory yet."""

    app: ServicesApp
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(
            "stop-menu", *LOOKING, "next", "previous", "back", footer=("stop-menu", "x-axis", "smooth", "zoom-in")
        ),
        *(
            Binding(
                str(n), f"pane({n})", kind.TITLE, show=False, tooltip=f"the {kind.TITLE} pane on or off", id=f"pane-{n}"
            )
            for n, kind in enumerate((kind for row in ROWS for kind in row), 1)
        ),
    ]  # fmt: skip
    HELP = "One run. Its panes are shown and hidden with 1 to 7; tab goes from one to the next."
    AUTO_FOCUS = "LossPane"

    def __init__(self, run: Run | Launch) -> None:
        super().__init__()
        self.launch = run if isinstance(run, Launch) else None
        self.trail: Watch | None = Watch(run) if isinstance(run, Run) else None
        self.hidden: set[int] | None = None  # by the size, until a person chooses
        self._loading = False
        self._last = self._computed = 0.0  # at the last look: the time, and for how long this thread had computed

    def compose(self) -> ComposeResult:
        yield Header("run")
        number = 0
        with VerticalScroll(can_focus=False):
            for index, kinds in enumerate(ROWS):
                with Horizontal(id=f"row-{index}"):
                    for kind in kinds:
                        number += 1
                        yield kind(number)
            yield Static("Every pane is hidden: 1 to 7 show them.", id="none")
        yield Footer()

    def on_mount(self) -> None:
        self._arrange()
        self._look()
        self.set_interval(LOOK / 2, self._look)

    # -- what happened ----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """See what is new in the directory, as often as its cost allows."""
        now, computed = time.monotonic(), time.thread_time()
        wait = min(SELDOM, max(LOOK, SHARE * (computed - self._computed)))
        if self._loading or now < self._last + wait:
            return
        self._last, self._computed = now, computed
        if self.trail is None and not self._find():
            return
        assert self.trail is not None
        if self.trail.history.began is None:  # the first time there may be years of it
            self._loading = True
            self.run_worker(self._load, thread=True)
            return
        try:
            self._show(self.trail.look())
        except OSError as error:
            self._unreadable(error)

    def _find(self) -> bool:
        """Whether the launch has got its directory; until then say what it waits for."""
        assert self.launch is not None
        launch, progress = self.launch, self.query_one(ProgressPane)
        self.app.launcher.poll()
        if launch.run is not None:
            self.trail, progress.waits = Watch(launch.run), None
            return True
        queue, live = self.app.launcher.queued, self.app.launcher.live
        ahead = queue.index(launch) + (live is not None) if launch in queue else 0
        waits = f"waits for {ahead} before it" if ahead else "starting: loading torch"
        progress.waits = str(launch.error or waits)
        self.query_one(Header).update(launch.title, "", *self._words("failed" if launch.error else "queued"))
        progress.refresh()
        return False

    def _load(self) -> None:
        assert self.trail is not None
        try:
            new = self.trail.look()
        except OSError as error:
            self.app.call_from_thread(self._unreadable, error)
        else:
            self.app.call_from_thread(self._loaded, new)

    def _unreadable(self, error: OSError) -> None:
        """Say why the directory cannot be followed; the next look tries again."""
        self._loading = False
        progress = self.query_one(ProgressPane)
        progress.waits = f"the run's directory cannot be read: {error.strerror}"
        progress.refresh()

    def _loaded(self, new: list[Event]) -> None:
        assert self.trail is not None
        self._loading = False
        configuration = self.query_one(ConfigurationPane)
        try:
            configuration.show_sections(self.trail.run.sections())
        except (UserError, OSError) as error:
            configuration.show_problem(str(error))
        self._show(new, anew=True)

    def _show(self, new: list[Event], anew: bool = False) -> None:
        """Tell the panes."""
        assert self.trail is not None
        state, history, progress = self.state, self.trail.history, self.query_one(ProgressPane)
        percent = f"epoch {history.progress.epoch}/{history.progress.epochs}" if history.progress.epochs else ""
        said = " · ".join(filter(None, (percent, self.view.said)))
        glyph, style = self._words(state)
        room = self.app.size.width - len("  convnn      ") - len(said) - len(glyph)
        self.query_one(Header).update(short_name(self.trail.run.name, max(SHORTEST, room)), said, glyph, style)
        if new or anew or state != progress.state or progress.waits:
            progress.state, progress.waits = state, None
            for pane in self._shown():
                if isinstance(pane, CurvesPane):
                    pane.over = state not in ("running", "paused")
                pane.show(history)
        log = self.query_one(LogPane)
        log.show(history)
        log.tell(new, self.trail.printed())

    @property
    def state(self) -> str:
        """How the run is; one of this process may be about to take its lock."""
        assert self.trail is not None
        state = self.trail.state
        return "running" if state == "died" and self.app.launcher.live == self.trail.run else state

    def seen(self) -> History | None:
        """What the curves are drawn from; None while there is nothing yet."""
        return self.trail.history if self.trail is not None and not self._loading else None

    def reach(self) -> Range | None:
        history = self.seen()
        return whole(history, self.view.x) if history is not None else None

    def view_changed(self) -> None:
        if self.seen() is not None:
            self._show([])

    def _words(self, state: str) -> tuple[str, str]:
        """A state as glyph and word, and how it looks."""
        colour = self.app.theme_variables[STATUS_COLORS.get(state, "warning")]
        return state_label(state), f"bold {colour}"

    def _shown(self) -> list[Pane]:
        return [pane for pane in self.query(Pane) if pane.display]

    # -- panes ------------------------------------------------------------------------------------------------------

    def action_pane(self, number: int) -> None:
        """Show or hide a pane."""
        panes = list(self.query(Pane))
        self.hidden = {n for n, pane in enumerate(panes, 1) if not pane.display} ^ {number}
        self._arrange()
        if self.seen() is not None:
            self._show([], anew=True)

    def on_resize(self) -> None:
        self._arrange()

    def _arrange(self) -> None:
        """Show what is to be shown; where the rows would get too low, they keep a height and scroll."""
        hidden = self.hidden if self.hidden is not None else () if self.app.size.height >= TALL else LATER
        number, needed = 0, 2  # the first and the last line of the screen
        for index, kinds in enumerate(ROWS):
            shown = False
            for kind in kinds:
                number += 1
                self.query_one(kind).display = number not in hidden
                shown |= number not in hidden
            self.query_one(f"#row-{index}").display = shown
            needed += LOWEST[index] * shown
        self.query_one("#none").display = not self._shown()
        self.set_class(needed > self.app.size.height, "-scrolls")

    def action_back(self) -> None:
        """Put the cursor away or, without one, go back."""
        if self.view.cursor is not None:
            self.look(replace(self.view, cursor=None))
        else:
            self.dismiss()

    # -- control ----------------------------------------------------------------------------------------------------

    def action_stop_menu(self) -> None:
        """Ask what a run that trains is to do, or whether one that ended early goes on."""
        state = self.state if self.trail is not None else "queued"
        if state in ("running", "paused"):
            self.app.push_screen(StopMenu(paused=state == "paused"), self._ask)
        elif self.trail is None or state == "done" or self.trail.run.imported:
            self.app.say(f"there is nothing to pause, stop or resume: the run is {state}")
        elif any(launch.resumes == self.trail.run for launch in self.app.launcher.queued):
            self.app.say("it waits for the runs before it")
        else:
            self.app.push_screen(Choice("go on", f"The run is {state}.", GOES_ON), self._go_on)

    def _go_on(self, word: str | None) -> None:
        if word != "go-on" or self.trail is None:
            return
        try:
            self.app.launcher.resume(self.trail.run)
        except (UserError, OSError) as error:
            self.app.say(str(error), error=True)
        else:
            self.app.say(f"{self.trail.run.name} goes on, after any before it")

    def _ask(self, word: str | None) -> None:
        if word is None or self.trail is None:
            return
        try:
            control.send(self.trail.run.path, control.ControlCommand(word))
        except (UserError, OSError) as error:
            self.app.say(str(error), error=True)
        else:
            self.app.say(f"{word}: asked; the run obeys between two steps")
