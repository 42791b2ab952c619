"""Launches: trained one after the other on one thread of this process, where all its torch work happens.

A run on several processes trains in child processes, which the thread follows.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
import traceback
from collections import deque
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from convnn.config.schema import RunConfig
from convnn.errors import Exit, UserError
from convnn.files import open_append
from convnn.gc_pause import gc_paused
from convnn.runs.run import Run, new_run
from convnn.training import allocator
from convnn.worker.signals import Command
from tui.process.run_child import RunChild
from tui.process.torch_preload import load_ahead

if TYPE_CHECKING:
    from convnn.worker.train_run import RunResult

LaunchState = Literal["queued", "starting", "running", "ended", "refused"]


@dataclass(eq=False)
class Launch:
    """A launched configuration and what has become of it."""

    config: RunConfig
    preset: str | None = None
    resumes: Run | None = None  # the run that is resumed, instead of a new one
    forks: Run | None = None  # the run whose checkpoint the new one begins with
    run: Run | None = None  # from the moment it has a directory
    ended: RunResult | None = None
    error: UserError | None = None  # why there is no run, or why it did not end by itself
    starting: bool = False
    seconds: float = 0.0  # that it took to its end

    @property
    def state(self) -> LaunchState:
        """How far the launch is; the status of its run is in the run's directory."""
        if self.error is not None:
            return "refused"
        if self.ended is not None:
            return "ended"
        if self.run is not None:
            return "running"
        return "starting" if self.starting else "queued"

    @property
    def title(self) -> str:
        """A name for it before it has a directory."""
        if self.resumes is not None:
            return self.resumes.name
        return self.config.run.name or self.preset or f"{self.config.model.name}-{self.config.layer.type}"


class OutputCapture(Protocol):
    """Where prints go while a run trains; see `tui.process.descriptors.Terminal`."""

    def redirect_to(self, path: Path) -> AbstractContextManager[object]: ...


class Launcher:
    """Queues launches and trains them on a daemon thread, which imports torch when the first one starts."""

    def __init__(self, root: Path, output: OutputCapture | None = None) -> None:
        allocator.one_heap()  # before the app has other threads, whose heaps would be taken over
        self.root = root
        self.output = output
        self.launches: list[Launch] = []  # since the app opened, in the order they were launched
        self.closed_by: Command | None = None  # after which nothing starts
        self.current: Launch | None = None
        self.cut_short: Launch | None = None  # the one that was training when the launcher was closed
        self._waiting: deque[Launch] = deque()
        self._commands: deque[Command] | None = None
        self._child: RunChild | None = None  # that trains the current launch
        self._thread: threading.Thread | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._lock = threading.Condition()  # of the launches; notified of each new one

    # -- launching --------------------------------------------------------------------------------------------------

    def launch(self, config: RunConfig, preset: str | None = None, forks: Run | None = None) -> Launch:
        """Queue a new run, from scratch or from a checkpoint of the run that it forks."""
        return self._enqueue(Launch(config, preset, forks=forks))

    def resume(self, run: Run) -> Launch:
        """Queue a run that ended early; it resumes from its newest valid checkpoint.

        Raises UserError where its configuration is damaged.
        """
        return self._enqueue(Launch(run.config(), resumes=run))

    def _enqueue(self, launch: Launch) -> Launch:
        with self._lock:
            self.launches.append(launch)
            self._waiting.append(launch)
            self._idle.clear()
            self._lock.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._train_all, name="training", daemon=True)
            self._thread.start()
        return launch

    def drop(self, launch: Launch) -> bool:
        """Take out a launch that waits; return False where it has already started."""
        with self._lock:
            if launch not in self._waiting:
                return False
            self._waiting.remove(launch)
            self.launches.remove(launch)
            if self.current is None and not self._waiting:
                self._idle.set()
            return True

    def restore(self, launch: Launch, index: int) -> None:
        """Let a launch wait again that was taken out, at this place among those that wait."""
        with self._lock:
            self.launches.append(launch)
            self._waiting.insert(index, launch)
            self._idle.clear()
            self._lock.notify()

    def move(self, launch: Launch, index: int) -> None:
        """Move a launch that waits to another place among those that wait."""
        with self._lock:
            if launch in self._waiting:
                self._waiting.remove(launch)
                self._waiting.insert(max(0, index), launch)

    @property
    def waiting(self) -> tuple[Launch, ...]:
        return tuple(self._waiting)

    @property
    def queued(self) -> tuple[Launch, ...]:
        """The launches without a directory, the next one first."""
        current = self.current
        if current is not None and current.state == "starting":
            return (current, *self._waiting)
        return tuple(self._waiting)

    @property
    def live(self) -> Run | None:
        launch = self.current
        if launch is None:
            return None
        return launch.run

    # -- ending -----------------------------------------------------------------------------------------------------

    def send(self, command: Command) -> None:
        if (commands := self._commands) is not None:
            commands.append(command)

    def close(self, command: Command) -> None:
        """Start nothing more and send the live run the command that ends it."""
        with self._lock:
            self.cut_short = self.cut_short or self.current
            self.closed_by = command
            self._waiting.clear()
            if self.current is None:
                self._idle.set()
        self.send(command)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing trains and nothing is queued; return whether that came true in time."""
        return self._idle.wait(seconds)

    def kill(self) -> None:
        """End the child processes of the live run, which would outlive this process."""
        if (child := self._child) is not None:
            child.kill()

    # -- the training thread ----------------------------------------------------------------------------------------

    def _train_all(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._waiting)
                launch = self._waiting.popleft()
                self.current = launch
            launch.starting = True
            try:
                self._train(launch)
            except UserError as error:
                launch.error = error
            except Exception as error:  # not of training but of the loop around it, as on a full disk
                logging.getLogger("convnn").exception("the training loop failed")
                self._log_traceback(launch, error)
                launch.error = UserError(f"{type(error).__name__}: {error}", Exit.FAILED)
            with self._lock:
                self._commands, self._child, self.current = None, None, None
                if not self._waiting:
                    self._idle.set()

    def _train(self, launch: Launch) -> None:
        load_ahead()
        with gc_paused():
            from convnn.training import device
            from convnn.worker.train_run import RunResult, train_run  # torch comes in here

        device.select_device(launch.config)
        commands: deque[Command] = deque()
        self._commands = commands
        if self.closed_by is not None:
            return
        config = launch.config
        if launch.forks is not None:
            from convnn.worker.fork import fork_run

            launch.resumes, _ = fork_run(launch.forks, config, self.root)
        run = launch.run = launch.resumes or new_run(config, self.root)
        if config.runtime.processes > 1:
            with tempfile.TemporaryFile() as messages:
                self._child = RunChild(run, self.root, messages)
                launch.ended = RunResult(self._child.follow(commands))
            return
        resume = launch.resumes is not None
        with self.output.redirect_to(run.log_path) if self.output else nullcontext():
            start = time.monotonic()
            ended = train_run(run, config, commands=commands, resume=resume)
        launch.seconds = time.monotonic() - start
        launch.ended = ended

    def _log_traceback(self, launch: Launch, error: Exception) -> None:
        """Append the traceback to the log of the run, where the disk allows it."""
        if launch.run is not None:
            with suppress(OSError), os.fdopen(open_append(launch.run.log_path), "ab") as log:
                log.write("".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace"))
