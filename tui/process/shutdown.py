"""Leaving the app: by a key, a signal, a hang-up or a failure; the live run always ends in a valid directory."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial

from rich.console import Console
from textual import events
from textual.app import App

from convnn.errors import Exit
from convnn.runs.control import ControlCommand
from convnn.runs.resume import resume_command
from convnn.text import escaped
from convnn.worker.signals import TWICE, Command, Interruption, obeyed
from tui.dialogs.choice import Answer, Choice
from tui.process.launcher import Launcher
from tui.process.terminal import Terminal

PATIENCE = 10.0  # seconds that leaving waits for the live run to end
ANSWERS: tuple[Answer, ...] = (
    (ControlCommand.STOP_EPOCH.value, "stop after the epoch", "then leave; it can be resumed"),
    (ControlCommand.STOP.value, "stop now", "after this step, then leave; it can be resumed"),
    ("stay", "stay", "nothing happens"),
)


class Leaving(App[int]):
    """The part of the app that ends it; `launcher` is whose runs it must not lose."""

    launcher: Launcher
    ended_by: Interruption | None = None  # the first signal that ends the app
    _serving: asyncio.AbstractEventLoop | None = None
    at_once = False  # asked for twice: nothing is waited for
    _interrupted = -TWICE

    def on_load(self) -> None:
        self._serving = asyncio.get_running_loop()
        if self.ended_by is not None:  # it came before there was a loop
            self.exit()

    async def on_event(self, event: events.Event) -> None:
        if not (self._exit and isinstance(event, events.Key)):  # what is typed on the way out is for nobody
            await super().on_event(event)

    def signalled(self, command: Command) -> None:
        """A signal arrived, between two instructions of this thread: do little, and not here."""
        if not isinstance(command, Interruption):
            return self.launcher.send(command)
        self.ended_by = self.ended_by or command
        self.launcher.close(command)
        if self._serving is not None and not self._serving.is_closed():
            self._serving.call_soon_threadsafe(self.exit)
        return None

    def action_leave(self) -> None:
        """Leave; with a live run ask first what becomes of it."""
        current, waiting = self.launcher.current, self.launcher.queued
        if current is None and not waiting:
            return self.exit()
        if isinstance(self.screen, Choice):
            return None
        name = current.run.name if current and current.run else (current or waiting[0]).title
        others = [launch for launch in waiting if launch is not current]
        said = f"{escaped(name)} is training in this app."
        if others:
            said += f" {len(others)} more in the queue would not start."
        self.push_screen(Choice("leave", said, ANSWERS), self._leave_by)
        return None

    def action_leave_now(self) -> None:
        """The same from anywhere, whatever has the focus."""
        self.action_leave()

    def _leave_by(self, answer: str | None) -> None:
        if answer == ControlCommand.STOP.value:
            self.launcher.close(ControlCommand.STOP)
            self.exit()
        elif answer == ControlCommand.STOP_EPOCH.value:
            self.launcher.close(ControlCommand.STOP_EPOCH)
            self.notify("the app leaves when this epoch has ended")
            self.set_interval(0.2, self._leave_when_ended)

    def _leave_when_ended(self) -> None:
        if self.launcher.wait(0):
            self.exit()

    def action_interrupt(self) -> None:
        """As in a shell: stop the live run after its step; the second time within 3 s end at once."""
        now, again = time.monotonic(), time.monotonic() - self._interrupted < TWICE
        self._interrupted = now
        if again:
            self.at_once = True
            self.signalled(Interruption.CTRL_C)
        elif self.launcher.current is not None:
            self.launcher.send(Interruption.CTRL_C)
            self.notify("stopping after this step; ctrl+c again leaves")
        else:
            self.notify("nothing trains here; ctrl+c again leaves, as does ctrl+q")


def run_app(app: Leaving, terminal: Terminal) -> int:
    """Run the app on the terminal until a person, a signal or a failure ends it; returns the exit code."""
    app.error_console = Console(file=terminal.file, markup=False, highlight=False)
    with obeyed(app.signalled, terminal.restore):
        app.run()
        return _leave(app, terminal)


def _leave(app: Leaving, terminal: Terminal) -> int:
    """Wait for the live run when the terminal is restored, say how it went, and return the exit code."""
    launcher = app.launcher
    code: int = app.ended_by.code if app.ended_by else Exit.HUNG_UP if terminal.gone else app.return_code or Exit.DONE
    if launcher.closing is None:  # the app ended by itself: it failed
        launcher.close(Interruption.HUNG_UP if terminal.gone else Interruption.TERMINATED)
    say = partial(print, file=terminal.file, flush=True)
    if (launch := launcher.cut_short) is not None:
        name = escaped(launch.run.name if launch.run else launch.title)
        patience = 0.0 if app.at_once else PATIENCE
        if not launcher.wait(0) and patience:
            say(f"{name}: stopping after this step ...")
        ended = launcher.wait(patience)
        outcome = launch.ended.finished.outcome if ended and launch.ended is not None else ""
        said = outcome or (f"it has not stopped after {patience:.0f} s and is left" if patience else "ended at once")
        if launch.run is None or outcome not in ("", "stopped", "interrupted"):
            say(f"{name}: {said}")
        else:
            say(f"{name}: {said}; go on with: {resume_command(launch.run)}")
    for other in launcher.launches:
        if other.run is not None and other.process is not None and other.process.poll() is None:
            say(f"{escaped(other.run.name)} goes on detached; see it with: convnn show {escaped(other.run.name)}")
    if not launcher.wait(0):
        terminal.restore()
        os._exit(code)  # a thread inside a long operator cannot be ended otherwise
    return code
