"""The app of `convnn tui`: its looks, the keys that work everywhere, launching, and the way out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import events
from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import Input, TextArea

from convnn import hardware
from convnn.errors import UserError
from convnn.presets import store
from convnn.runs.run import Run
from convnn.runs.summary import Summary
from convnn.text import escaped
from tui import theme as tui_theme
from tui.deletion import Deletion
from tui.dialogs.help import HelpScreen
from tui.dialogs.too_small import SMALLEST, TooSmall
from tui.keys import bindings
from tui.process.launcher import Launch, Launcher
from tui.process.shutdown import Shutdown
from tui.run_feed import RunFeed
from tui.screens.home import HomeScreen
from tui.selection import Selection
from tui.widgets.filter_bar import FilterInput

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig
    from tui.screens.setup.draft import Draft
    from tui.services import Services

FOLDER = Path(__file__).parent
BUILT_IN = frozenset({"command_palette", "help_quit"})  # Textual's own, which need no line in help or palette


class ConvnnApp(App[int]):
    """Everything that `convnn tui` shows."""

    TITLE = "convnn"
    CSS_PATH = [FOLDER / "app.tcss", FOLDER / "screens/home.tcss"]  # noqa: RUF012 Textual skips that of the first screen
    BINDINGS = bindings("help", "leave", "leave-now", "interrupt", footer=("help", "leave"))
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 Textual declares it so
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_DISPLAY = "^p"

    def __init__(
        self,
        root: Path,
        *,
        launcher: Launcher | None = None,
        preset: str | None = None,
        now: Callable[[], float] = time.time,
        free_memory: Callable[[str], tuple[str, int | None]] = hardware.free_memory,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.launcher = launcher or Launcher(root)
        self.shutdown = Shutdown(self, self.launcher)
        self.root = root
        self.preset = preset  # opened in the form at once
        self.now = now
        self.free_memory = free_memory
        self.run_feed = RunFeed(root)
        self.selection = Selection()
        self.deletion = Deletion(root, self.selection, self.say)
        self._told: set[Launch] = set()  # refusals that were said
        self.ascii = tui_theme.wants_ascii()
        if self.ascii:
            self._filters.append(tui_theme.AsciiFilter())
        self.register_theme(tui_theme.DARK)
        self.register_theme(tui_theme.LIGHT)
        self.theme = tui_theme.LIGHT.name if tui_theme.wants_light() else tui_theme.DARK.name

    def get_default_screen(self) -> Screen[Any]:
        return HomeScreen(self.preset)

    def on_load(self) -> None:
        self.shutdown.start()

    def on_mount(self) -> None:
        self.set_interval(0.5, self._watch_launches)
        self.run_worker(self.run_feed.follow(self), name="run feed")

    # -- everywhere -------------------------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        small = event.size.width < SMALLEST[0] or event.size.height < SMALLEST[1]
        covered = isinstance(self.screen, TooSmall)
        if small and not covered:
            self.push_screen(TooSmall())
        elif covered and not small:
            self.pop_screen()

    async def on_event(self, event: events.Event) -> None:
        if not (self._exit and isinstance(event, events.Key)):  # keys pressed while the app exits are ignored
            await super().on_event(event)

    def action_leave(self) -> None:
        self.shutdown.request()

    action_leave_now = action_leave

    def action_interrupt(self) -> None:
        self.shutdown.interrupt()

    def action_help(self) -> None:
        """Help for the focused pane."""
        nodes = self.focused.ancestors_with_self if self.focused else [self.screen]
        titled = [(getattr(node, "help_title", "keys"), node.HELP) for node in nodes if node.HELP]
        title, about = titled[0] if titled else ("keys", "")
        self.push_screen(HelpScreen(title, about or "", self.listed_keys()))

    def listed_keys(self) -> list[tuple[str, Binding]]:
        """Every key that does something now, with its binding, each action once."""
        found: dict[str, tuple[list[str], Binding]] = {}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if active.enabled and binding.id and binding.tooltip and binding.action not in BUILT_IN:
                found.setdefault(binding.tooltip, ([], binding))[0].append(self.get_key_display(binding))
        listed = [(" ".join(dict.fromkeys(keys)), binding) for keys, binding in found.values()]
        return [
            *listed,
            (self.COMMAND_PALETTE_DISPLAY, Binding("ctrl+p", "", "palette", tooltip="every action by name")),
        ]

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        found = {active.binding.tooltip: active for active in reversed(screen.active_bindings.values())}
        for active in found.values():
            binding = active.binding
            if active.enabled and binding.id and binding.tooltip and binding.action not in BUILT_IN:
                word = binding.description.capitalize()
                title = f"{word}  ({self.get_key_display(binding)})"
                yield SystemCommand(title, binding.tooltip, partial(self.run_action, binding.action, active.node))
        for theme, word in ((tui_theme.DARK, "Dark"), (tui_theme.LIGHT, "Light")):
            yield SystemCommand(f"{word} theme", f"{word.lower()} colours", partial(setattr, self, "theme", theme.name))

    def say(self, message: str, *, error: bool = False) -> None:
        """A line of talk in the corner, for a few seconds."""
        self.notify(escaped(message), severity="error" if error else "information", markup=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave tab to the filter, where it completes the last word."""
        if action == "focus_next" and isinstance(self.focused, FilterInput):
            return False
        return super().check_action(action, parameters)

    @property
    def runs(self) -> list[Summary]:
        """The runs as last read, newest first."""
        return self.run_feed.runs

    @property
    def typing(self) -> bool:
        """Whether letters are text now."""
        return isinstance(self.focused, Input | TextArea)

    # -- launching --------------------------------------------------------------------------------------------------

    def launch(self, config: RunConfig, preset: str | None = None) -> Launch:
        """Train a configuration here, at once or after those before it."""
        alone = self.launcher.current is None and not self.launcher.queued
        launch = self.launcher.launch(config, preset)
        if alone:
            self.show_run(launch)
        else:
            self.say(f"{launch.title} waits for the runs before it")
        return launch

    def detach(self, config: RunConfig, preset: str | None = None) -> Launch | None:
        """Train a configuration in a process of its own; None where that could not be started."""
        try:
            launch = self.launcher.detach(config, preset)
        except (OSError, UserError) as error:
            self.say(str(error), error=True)
            return None
        self.say(f"{launch.title} runs in a process of its own and goes on when the app ends")
        return launch

    def launch_preset(self, path: str, name: str) -> None:
        """Train a preset as it is, or open the form where it has problems."""
        from tui.screens.setup.draft import Draft

        try:
            draft = Draft(store.read(path))
        except UserError as error:
            self.say(str(error), error=True)
            return
        checked = draft.check(draft.inspect_dataset())
        if checked.problems:
            self._show_draft(draft)
        else:
            self.launch(checked.config, name)

    def _watch_launches(self) -> None:
        """See what has become of the launches, and say what was refused."""
        self.launcher.poll()
        for launch in self.launcher.launches:
            if launch.error is not None and launch not in self._told:
                self._told.add(launch)
                self.say(f"{launch.title}: {launch.error}", error=True)

    def show_run(self, run: Run | Launch) -> None:
        """Open the screen of a run, or of a launch that will be one."""
        from tui.screens.run.screen import RunScreen  # charts bring numpy, which the first frame does without

        self.push_screen(RunScreen(run))

    def show_form(self, *, preset: str | None = None, run: Run | None = None) -> None:
        """Open the form with the defaults, a preset (by name or path) or the options of a run."""
        from tui.screens.setup.draft import Draft

        try:
            if run is not None:
                draft = Draft.from_run(run.config(), run.name)
            else:
                draft = Draft(store.read(preset)) if preset is not None else Draft()
        except (UserError, OSError) as error:
            self.say(str(error), error=True)
        else:
            self._show_draft(draft)

    def _show_draft(self, draft: Draft) -> None:
        from tui.screens.setup.screen import SetupScreen  # not before the first frame

        self.push_screen(SetupScreen(draft))

    def compare(self, current: str | None) -> None:
        """Open the comparison of the marked runs; with one alone, of that and the current one."""
        from tui.screens.compare.screen import MAX_RUNS, CompareScreen

        chosen = self.selection.to_compare(self.runs, current)
        if len(chosen) < 2:
            self.say("mark two or more runs with space, then press d")
        elif len(chosen) > MAX_RUNS:
            self.say(f"{len(chosen)} runs are marked: at most {MAX_RUNS} are compared", error=True)
        else:
            self.push_screen(CompareScreen(chosen))


if TYPE_CHECKING:
    _services: type[Services] = ConvnnApp  # mypy checks that the app offers what its screens ask for
