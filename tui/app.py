"""The app of `convnn tui`: what its screens share, the keys that work everywhere, and the way between screens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from textual import events, on
from textual.app import App, SystemCommand
from textual.binding import ActiveBinding, Binding
from textual.notifications import SeverityLevel
from textual.screen import ModalScreen, Screen

from convnn import hardware
from convnn.analysis.fields import get_field
from convnn.presets import store
from convnn.runs.run import Run
from convnn.runs.summary import Summary, summarize
from convnn.terminal.notification import NOTABLE_SECONDS, notification
from convnn.text import escaped, to_ascii
from tui import theme
from tui.deletion import Deletion
from tui.dialogs.choice import Choice
from tui.dialogs.help import HelpScreen
from tui.dialogs.picker import Picker
from tui.dialogs.too_small import SMALLEST, TooSmall
from tui.keys import bindings
from tui.process.background import Background, entry_of
from tui.process.launcher import Launch, Launcher
from tui.process.shutdown import Shutdown
from tui.run_feed import RunFeed
from tui.say import reporting_errors
from tui.screens.home import HomeScreen
from tui.selection import Selection
from tui.widgets.filter_bar import FilterInput
from tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig
    from convnn.sweeps.file import Sweep
    from tui.repeats import Repeats
    from tui.screens.setup.draft import Draft

Answered = TypeVar("Answered")

FOLDER = Path(__file__).parent
TEXTUAL_ACTIONS = frozenset({"command_palette", "help_quit"})  # without a line in help and palette
LAUNCH_POLL = 0.5  # seconds between two looks at the launches
MESSAGE_TIMEOUT, ERROR_TIMEOUT = 4.0, 8.0  # seconds that a message is shown


class ConvnnApp(App[int]):
    """The screens of `convnn tui`, and what they ask of the app."""

    TITLE = "convnn"
    CSS_PATH = [FOLDER / "app.tcss", FOLDER / "screens/home.tcss"]  # noqa: RUF012 Textual skips that of the first screen
    BINDINGS = bindings("help", "leave", "leave-now", "interrupt", footer=("help", "leave"))
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 Textual declares it so
    VERTICAL_BREAKPOINTS = [(0, "-low"), (22, "-high")]  # noqa: RUF012
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_DISPLAY = "^p"

    def __init__(
        self,
        root: Path,
        *,
        launcher: Launcher | None = None,
        preset: str | None = None,
        notifies: bool = True,  # at the end of a run that took over a minute
        theme_name: str | None = None,  # "dark" or "light"; without it the one chosen last, else what the terminal says
        now: Callable[[], float] = time.time,
        free_memory: Callable[[str], tuple[str, int | None]] = hardware.free_memory,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.launcher = launcher or Launcher(root)
        self.background = Background(root)
        self.shutdown = Shutdown(self, self.launcher, self.background, self.say, self.leave_forms)
        self.root = root
        self.preset = preset  # opened in the form at once
        self.now = now
        self.free_memory = free_memory
        self.run_feed = RunFeed(root)
        self.selection = Selection()
        self.deletion = Deletion(root, self.selection, self.say)
        self.notifies = notifies
        self._reported: set[Launch] = set()  # launches whose end or error was shown
        self.ascii = theme.wants_ascii()
        if self.ascii:
            self._filters.append(theme.AsciiFilter())
        self.register_theme(theme.DARK)
        self.register_theme(theme.LIGHT)
        by_terminal = "light" if theme.wants_light() else "dark"
        self.theme = theme.THEMES[theme_name or theme.remembered_theme() or by_terminal].name

    def get_default_screen(self) -> Screen[Any]:
        return HomeScreen(self.preset)

    def on_load(self) -> None:
        self.shutdown.start()

    def on_mount(self) -> None:
        self.set_interval(LAUNCH_POLL, self._poll_launches)
        self.run_worker(self.run_feed.follow(self), name="run feed")

    # -- everywhere -------------------------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        is_too_small = event.size.width < SMALLEST[0] or event.size.height < SMALLEST[1]
        is_covered = isinstance(self.screen, TooSmall)
        if is_too_small and not is_covered:
            self.push_screen(TooSmall())
        elif is_covered and not is_too_small:
            self.pop_screen()

    async def on_event(self, event: events.Event) -> None:
        if not (self._exit and isinstance(event, events.Key)):  # keys pressed while the app exits are ignored
            await super().on_event(event)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave tab to the filter, where it completes the last word."""
        if action == "focus_next" and isinstance(self.focused, FilterInput):
            return False
        return super().check_action(action, parameters)

    def action_leave(self) -> None:
        self.shutdown.request()

    action_leave_now = action_leave

    def leave_forms(self, leave: Callable[[], object], *, insists: bool = False) -> None:
        """Call `leave`, after a question where an open form has unsaved changes."""
        for screen in reversed(self.screen_stack):
            if ask_to_leave := getattr(screen, "ask_to_leave", None):
                ask_to_leave(leave, insists=insists)
                return
        leave()

    def action_interrupt(self) -> None:
        self.shutdown.interrupt()

    @on(VirtualList.NoEffect)
    def _say_why(self, event: VirtualList.NoEffect) -> None:
        self.say(event.reason)

    def action_help(self) -> None:
        nodes = self.focused.ancestors_with_self if self.focused else [self.screen]
        node = next((node for node in nodes if node.HELP), self.screen)
        self.push_screen(HelpScreen(getattr(node, "help_title", "keys"), node.HELP or "", self.active_keys()))

    def active_keys(self) -> list[tuple[str, Binding]]:
        """Return every action that does something now, with its keys."""
        keys: dict[str, list[str]] = {}
        bindings_by_help: dict[str, Binding] = {}
        for active in self._active_bindings(self.screen):
            binding = active.binding
            keys.setdefault(binding.tooltip, []).append(self.get_key_display(binding))
            bindings_by_help.setdefault(binding.tooltip, binding)
        palette = Binding("ctrl+p", "", "palette", tooltip="every action by name")
        return [
            *((" ".join(dict.fromkeys(keys[help])), binding) for help, binding in bindings_by_help.items()),
            (self.COMMAND_PALETTE_DISPLAY, palette),
        ]

    def _active_bindings(self, screen: Screen[Any]) -> list[ActiveBinding]:
        """The bindings from `tui.keys` that do something on a screen."""
        return [
            active
            for active in screen.active_bindings.values()
            if active.enabled
            and active.binding.id
            and active.binding.tooltip
            and active.binding.action not in TEXTUAL_ACTIONS
        ]

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Yield every action that does something on a screen, and the themes, for the command palette."""
        by_help = {active.binding.tooltip: active for active in reversed(self._active_bindings(screen))}
        for help, active in by_help.items():
            title = f"{active.binding.description.capitalize()}  ({self.get_key_display(active.binding)})"
            yield SystemCommand(title, help, partial(self.run_action, active.binding.action, active.node))
        for name in theme.THEMES:
            help = f"{name} colors, also the next time"
            yield SystemCommand(f"{name.capitalize()} theme", help, partial(self._choose_theme, name))

    def _choose_theme(self, name: str) -> None:
        self.theme = theme.THEMES[name].name
        try:
            theme.remember_theme(name)
        except (OSError, ValueError) as error:
            self.say(f"the theme is not remembered: {error}", error=True)

    # -- what screens ask for ----------------------------------------------------------------------------------------

    def say(self, message: str, *, error: bool = False) -> None:
        """Show a message over the footer for a few seconds, in place of the one before."""
        lines = [escaped(line) for line in message.splitlines()]
        self.clear_notifications()
        severity: SeverityLevel = "information"
        timeout = MESSAGE_TIMEOUT
        if error:
            severity, timeout = "error", ERROR_TIMEOUT
        self.notify("\n".join(lines), severity=severity, timeout=timeout, markup=False)

    def ask(self, dialog: ModalScreen[Answered | None], obey: Callable[[Answered], Any]) -> None:
        """Open a dialog, and call `obey` with its answer; not after esc."""
        self.push_screen(dialog, lambda answer: None if answer is None else obey(answer))

    @property
    def runs(self) -> list[Summary]:
        return self.run_feed.runs

    def launch(self, config: RunConfig, preset: str | None = None, forks: Run | None = None) -> Launch:
        """Train a configuration, after the launches before it."""
        is_first = self.launcher.current is None and not self.launcher.queued
        launch = self.launcher.launch(config, preset, forks)
        if is_first:
            self.show_run(launch)
        else:
            self.say(f"{launch.title} is queued: it starts when the runs before it have ended")
        return launch

    def launch_preset(self, path: str, name: str) -> None:
        """Train a preset as it is, or open the form where it has problems."""
        draft = self._draft(preset=path)
        if draft is None:
            return
        checked = draft.check(draft.inspect_dataset())
        if checked.problems:
            self._show_draft(draft)
        else:
            self.launch(checked.config, name)

    def enqueue(self, config: RunConfig, preset: str | None = None, forks: Run | None = None) -> bool:
        """Add a configuration to the queue, which trains in the background; return whether that was possible."""
        launch = Launch(config, preset, forks=forks)
        with reporting_errors(self.say):
            self.say(f"{launch.title}: {self.background.add([entry_of(launch)])}")
            return True
        return False

    async def start_sweep(self, sweep: Sweep, flags: Mapping[str, str | bool], *, extend: bool = False) -> bool:
        """Put what is left of a sweep into the queue; return whether that was possible."""
        with reporting_errors(self.say):
            self.say(await asyncio.to_thread(self.background.start_sweep, sweep, flags, extend=extend))
            return True
        return False

    def show_sweep(self, name: str) -> None:
        from tui.screens.sweep.screen import SweepScreen  # not before the first frame

        self.push_screen(SweepScreen(name))

    def repeat(self, run: Run | None) -> None:
        """Ask where to train a run with three more seeds."""
        from tui.repeats import Repeats  # not before the first frame

        if run is None:
            self.say("move the cursor to a run that has started")
            return
        with reporting_errors(self.say):
            repeats = Repeats.of(run, self.runs, self.root)
            self.ask(Choice(*repeats.question), partial(self._repeat, repeats))

    async def _repeat(self, repeats: Repeats, answer: str) -> None:
        if answer == "queue":
            await self.start_sweep(repeats.sweep, {}, extend=True)
        elif answer == "app":
            for config in repeats.configs:
                self.launch(config)

    def _poll_launches(self) -> None:
        """Show the errors of launches, and notify of the end of a long one."""
        for launch in self.launcher.launches:
            if launch in self._reported or launch.state not in ("ended", "refused"):
                continue
            self._reported.add(launch)
            if launch.error is not None:
                self.say(f"{launch.title}: {launch.error}", error=True)
            if launch.ended is not None and launch.run is not None and launch.seconds >= NOTABLE_SECONDS:
                self._notify_terminal(f"{launch.run.name} {launch.ended.finished.status}")

    def _notify_terminal(self, message: str) -> None:
        if self.notifies and self._driver is not None:
            self._driver.write(notification(to_ascii(message) if self.ascii else message))

    def show_form(self, *, preset: str | None = None, run: Run | None = None, forks: bool = False) -> None:
        """Open the form with the defaults, a preset (by name or path) or the options of a run, perhaps to fork it."""
        draft = self._draft(preset=preset, run=run, forks=forks)
        if draft is not None:
            self._show_draft(draft)

    def show_form_of(self, config: Callable[[], RunConfig | None], name: str) -> None:
        """Open the form with a configuration, which is read when this is called."""
        from tui.screens.setup.draft import Draft  # not before the first frame

        with reporting_errors(self.say):
            if (options := config()) is not None:
                self._show_draft(Draft.from_run(options, name))

    def show_menu(self, run: Summary | None) -> None:
        from tui.screens.run.run_menu import RunMenu  # not before the first frame

        if run is None:
            self.say("move the cursor to a run")
        else:
            RunMenu(self, run.run, run.status).open()

    def _draft(self, *, preset: str | None = None, run: Run | None = None, forks: bool = False) -> Draft | None:
        from tui.screens.setup.draft import Draft  # not before the first frame

        with reporting_errors(self.say):
            if run is not None:
                return Draft.from_run(run.config(), run.name, forks=run if forks else None)
            if preset is not None:
                return Draft(store.read(preset))
            return Draft()
        return None

    def _show_draft(self, draft: Draft) -> None:
        from tui.screens.setup.screen import SetupScreen

        self.push_screen(SetupScreen(draft))

    def show_run(self, run: Run | Launch) -> None:
        from tui.screens.run.screen import RunScreen  # charts import numpy, which the first frame does without

        self.push_screen(RunScreen(run))

    def delete_runs(self, current: Run | None, and_then: Callable[[], None]) -> None:
        """Move the marked runs, after a question where they are several, or else the current one to the trash."""
        runs = [run.run for run in self.runs if run.path in self.selection.marked]
        if not runs and current is not None:
            runs = [current]

        def delete(answer: str = "delete") -> None:
            if answer == "delete":
                self.deletion.delete_runs(runs)
                and_then()

        if len(runs) > 1:
            answers = (("delete", "delete", "u brings them back"), ("keep", "keep", "delete nothing"))
            self.ask(Choice(f"delete {len(runs)} marked runs", "", answers), delete)
        elif runs:
            delete()

    def compare(self, current: Run | None) -> None:
        """Open the comparison of the marked runs; where that is one run, of it and the current one."""
        runs = self.selection.to_compare(self.runs, str(current.path) if current else None)
        self._compare(runs)

    def compare_with(self, current: Run) -> None:
        """Open the comparison of a run with the marked ones or, where no other is marked, with some that are chosen."""
        path = str(current.path)
        runs = self.selection.to_compare(self.runs, path)
        if any(run.path != path for run in runs):
            return self._compare(runs)
        by_name = {run.name: run for run in self.runs if not run.failed_early}
        items = [(run.name, _gist(run)) for run in by_name.values() if run.path != path]
        if not items:
            return self.say("there is no other run to compare with")

        def compare_chosen(names: list[str]) -> None:
            reference = next((run for run in self.runs if run.path == path), None) or summarize(current)
            self._compare([reference, *(by_name[name] for name in names)])

        self.ask(Picker("compare with", items, [], at_least_one=True), compare_chosen)
        return None

    def _compare(self, runs: list[Summary]) -> None:
        from tui.screens.compare.screen import MAX_RUNS, CompareScreen

        if len(runs) < 2:
            self.say("mark two or more runs with space, then press d")
        elif len(runs) > MAX_RUNS:
            self.say(f"{len(runs)} runs are marked: at most {MAX_RUNS} can be compared", error=True)
        else:
            self.push_screen(CompareScreen(runs))


def _gist(run: Summary) -> str:
    return " · ".join(filter(None, (get_field(key).text(run) for key in ("status", "best", "dataset", "layer"))))
