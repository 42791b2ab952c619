"""How the app ends: by a key, a signal, a hang-up or a failure. The live run always ends in a valid directory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from rich.console import Console
from textual.app import App

from convnn.errors import Exit, UserError
from convnn.runs.control import ControlCommand
from convnn.runs.resume import resume_command
from convnn.text import escaped, plural
from convnn.worker.signals import TWICE, Command, Interruption, obeyed
from tui.dialogs.choice import Answer, Choice
from tui.process.background import Background, entry_of
from tui.process.descriptors import Terminal
from tui.process.launcher import Launch, Launcher
from tui.say import Say

PATIENCE = 10.0  # seconds to wait for the live run when the app ends
POLL = 0.2  # seconds between two looks whether the last epoch has ended
BACKGROUND = "background"
ANSWERS: tuple[Answer, ...] = (
    (ControlCommand.STOP_EPOCH.value, "stop after the epoch", "then quit; it can be resumed"),
    (ControlCommand.STOP.value, "stop now", "after this step, then quit; it can be resumed"),
    (BACKGROUND, "continue in the background", "quit; the queue continues from this step"),
    ("stay", "stay", "keep the app open"),
)


class Confirm(Protocol):
    """Calls `leave`, after a question where something is not saved; see `ConvnnApp.leave_forms`."""

    def __call__(self, leave: Callable[[], object], *, insists: bool = False) -> None: ...


class Shutdown:
    """Ends the app: at once without a live run, else when the run was told how to end.

    Keys ask `confirm` first; signals do not ask.
    """

    def __init__(self, app: App[int], launcher: Launcher, background: Background, say: Say, confirm: Confirm) -> None:
        self.app = app
        self.launcher = launcher
        self.background = background
        self.goes_on = False  # in the background
        self.unqueued: Launch | None = None  # goes on there too, but had no directory when the app was left
        self.say = say
        self.confirm = confirm
        self.interruption: Interruption | None = None  # the first signal that ends the app
        self.at_once = False  # without waiting for the live run
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last_interrupt = -TWICE

    def start(self) -> None:
        """Take the running event loop, which signals end from then on."""
        self._loop = asyncio.get_running_loop()
        if self.interruption is not None:  # it came before there was a loop
            self.app.exit()

    def handle_signal(self, command: Command) -> None:
        """Obey a signal. It arrives between two instructions of the main thread, so this does little by itself."""
        if not isinstance(command, Interruption):
            self.launcher.send(command)
            return
        self.interruption = self.interruption or command
        self.launcher.close(command)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.app.exit)

    def request(self) -> None:
        """End the app, after a question where something is not saved, or a run trains or waits."""
        self.confirm(self._ask_about_runs)

    def _ask_about_runs(self) -> None:
        current, queued = self.launcher.current, self.launcher.queued
        if current is None and not queued:
            self.app.exit()
        elif not isinstance(self.app.screen, Choice):
            message = f"{_name(current or queued[0])} is training in this app."
            if after := sum(launch is not current for launch in queued):
                message += f" {plural(after, 'run')} after it: in the background they start too, otherwise not."
            self.app.push_screen(Choice("quit", message, ANSWERS), self._obey)

    def _obey(self, answer: str | None) -> None:
        if answer == BACKGROUND:
            self._go_on_in_background()
        elif answer == ControlCommand.STOP.value:
            self.launcher.close(ControlCommand.STOP)
            self.app.exit()
        elif answer == ControlCommand.STOP_EPOCH.value:
            self.launcher.close(ControlCommand.STOP_EPOCH)
            self.say("the app quits when this epoch has ended")
            self.app.set_interval(POLL, self._exit_when_idle)

    def _go_on_in_background(self) -> None:
        """Queue what trains and what waits, and end the app.

        The entry of the live run is there before that stops, so that it goes on whatever becomes of this process.
        """
        current, waiting = self.launcher.current, self.launcher.waiting
        if current is not None and current.run is None:
            self.unqueued = current
        launches = [launch for launch in (current, *waiting) if launch is not None and launch is not self.unqueued]
        try:
            self.background.queue.add([entry_of(launch) for launch in launches], front=True)
        except (OSError, UserError) as error:
            self.say(f"it stays in the app: {error}", error=True)
            return
        self.goes_on = True
        self.launcher.close(ControlCommand.STOP)
        self.app.exit()

    def start_background(self) -> str:
        """Queue the launch that had no directory, start a worker, and return what becomes of the entries."""
        if self.unqueued is not None:
            self.background.queue.add([entry_of(self.unqueued)], front=True)
        return f"{self.background.start()}; see it with: convnn queue"

    def _exit_when_idle(self) -> None:
        if self.launcher.wait(0):
            self.app.exit()

    def interrupt(self) -> None:
        """Stop the live run after its step, as ctrl+c does in a shell; a second time within 3 s end at once."""
        now = time.monotonic()
        is_second = now - self._last_interrupt < TWICE
        self._last_interrupt = now
        if is_second:
            self.confirm(self._quit_at_once, insists=True)
        elif self.launcher.current is not None:
            self.launcher.send(Interruption.CTRL_C)
            self.say("stopping after this step: press ctrl+c again to quit")
        else:
            self.say("nothing is training here: press ctrl+c again, or ctrl+q, to quit")

    def _quit_at_once(self) -> None:
        self.at_once = True
        self.handle_signal(Interruption.CTRL_C)


def run_app(app: App[int], shutdown: Shutdown, terminal: Terminal) -> int:
    """Run the app on the terminal until a person, a signal or a failure ends it; return the exit code."""
    app.error_console = Console(file=terminal.file, markup=False, highlight=False)
    with obeyed(shutdown.handle_signal, terminal.restore):
        app.run()
        return _finish(app, shutdown, terminal)


def _finish(app: App[int], shutdown: Shutdown, terminal: Terminal) -> int:
    """Wait for the live run, print how it ended, and return the exit code."""
    launcher = shutdown.launcher
    code = _exit_code(app, shutdown, terminal)
    if launcher.closed_by is None:  # the app ended by itself: it failed
        launcher.close(Interruption.HUNG_UP if terminal.hung_up else Interruption.TERMINATED)
    write = partial(print, file=terminal.file, flush=True)
    if (launch := launcher.cut_short) is not None:
        patience = 0.0 if shutdown.at_once else PATIENCE
        if patience and not launcher.wait(0):
            write(f"{_name(launch)}: stopping after this step ...")
        has_ended = launcher.wait(patience)
        words = _last_words(launch, has_ended, patience)
        if shutdown.goes_on:
            words = words[:1]
        write(f"{_name(launch)}: {'; '.join(words)}")
    if shutdown.goes_on:
        try:
            write(escaped(shutdown.start_background()))
        except (OSError, UserError) as error:
            write(f"error: {escaped(str(error))}; start a worker with: convnn work")
    if not launcher.wait(0):
        terminal.restore()
        launcher.kill()
        os._exit(code)  # a thread inside a long operator cannot be ended otherwise
    return code


def _exit_code(app: App[int], shutdown: Shutdown, terminal: Terminal) -> int:
    if shutdown.interruption is not None:
        return shutdown.interruption.code
    if terminal.hung_up:
        return Exit.HUNG_UP
    return app.return_code or Exit.DONE


def _last_words(launch: Launch, has_ended: bool, patience: float) -> list[str]:
    """How the launch that was cut short ended, and how it is resumed, if it can be."""
    words = "killed"
    if patience:
        words = f"did not stop within {patience:.0f} s: killed"
    can_resume = True
    if has_ended and launch.error is not None:
        words = f"failed: {escaped(str(launch.error).splitlines()[0])}"
    elif has_ended and launch.ended is not None:
        words = launch.ended.finished.outcome
        can_resume = words in ("stopped", "interrupted")
    if launch.run is not None and can_resume:
        return [words, f"resume with: {resume_command(launch.run)}"]
    return [words]


def _name(launch: Launch) -> str:
    return escaped(launch.run.name if launch.run else launch.title)
