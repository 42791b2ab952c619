"""What a screen may ask of the app."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from convnn.runs.run import Run
from convnn.runs.summary import Summary
from tui.deletion import Deletion
from tui.process.background import Background
from tui.process.launcher import Launch, Launcher
from tui.run_feed import RunFeed
from tui.selection import Selection

if TYPE_CHECKING:
    from textual.app import App

    from convnn.config.schema import RunConfig
    from convnn.sweeps.file import Sweep


class Services(Protocol):
    """The app, as its screens know it beside Textual's own `App`."""

    root: Path
    """The folder of the runs."""
    ascii: bool
    """Whether the terminal shows no more than ASCII."""
    launcher: Launcher
    background: Background
    run_feed: RunFeed
    deletion: Deletion
    selection: Selection
    now: Callable[[], float]
    """The time in seconds since 1970."""
    free_memory: Callable[[str], tuple[str, int | None]]
    """(name, free bytes) of a device."""

    @property
    def runs(self) -> list[Summary]:
        """The runs as last read, newest first."""

    @property
    def typing(self) -> bool:
        """Whether the focused widget takes letters as text."""

    def say(self, message: str, *, error: bool = False) -> None:
        """Show a message in the corner for a few seconds."""

    def launch(self, config: RunConfig, preset: str | None = None, forks: Run | None = None) -> Launch:
        """Train a configuration, after the launches before it."""

    def enqueue(self, config: RunConfig, preset: str | None = None, forks: Run | None = None) -> bool:
        """Add a configuration to the queue, which trains in the background; return whether that was possible."""

    async def start_sweep(self, sweep: Sweep, flags: Mapping[str, str | bool], *, extend: bool = False) -> bool:
        """Put what is left of a sweep into the queue; return whether that was possible."""

    def show_sweep(self, name: str) -> None:
        """Open the screen of a sweep."""

    def repeat(self, run: Run | None) -> None:
        """Ask where to train a run with three more seeds."""

    def launch_preset(self, path: str, name: str) -> None:
        """Train a preset as it is, or open the form where it has problems."""

    def show_form(self, *, preset: str | None = None, run: Run | None = None, forks: bool = False) -> None:
        """Open the form with the defaults, a preset (by name or path) or the options of a run, perhaps to fork it."""

    def show_form_of(self, config: Callable[[], RunConfig | None], name: str) -> None:
        """Open the form with a configuration, which is read when this is called."""

    def show_menu(self, run: Summary | None) -> None:
        """Open the menu of a run."""

    def show_run(self, run: Run | Launch) -> None:
        """Open the screen of a run, or of a launch that will be one."""

    def delete_runs(self, current: Run | None, and_then: Callable[[], None]) -> None:
        """Move the marked runs, after a question where they are several, or else the current one to the trash."""

    def compare(self, current: Run | None) -> None:
        """Open the comparison of the marked runs; where that is one run, of it and the current one."""

    def compare_with(self, current: Run) -> None:
        """Open the comparison of a run with the marked ones or, where no other is marked, with some that are chosen."""


if TYPE_CHECKING:

    class ServicesApp(App[int], Services):
        """The type of `self.app` in a screen: Textual's app with our services."""
