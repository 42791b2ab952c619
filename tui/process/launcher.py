"""Launches one after the other on the one thread of this process that may touch torch, or in a process of their own."""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
import threading
import traceback
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal, Protocol

from convnn.config.command_line import command
from convnn.config.schema import RunConfig
from convnn.config.toml import dumps
from convnn.errors import Exit, Problem, UserError
from convnn.gc_pause import uncollected
from convnn.runs import run as runs_run
from convnn.runs.run import Run
from convnn.text import escaped
from convnn.training import allocator
from convnn.worker.signals import Command
from tui.process.torch_preload import load_ahead

if TYPE_CHECKING:
    from convnn.worker.train_run import Ended

State = Literal["queued", "starting", "running", "ended", "refused"]


@dataclass(eq=False)
class Launch:
    """A configuration that was launched, and what has become of it."""

    config: RunConfig
    preset: str | None = None
    resumes: Run | None = None  # which goes on, instead of a new one
    run: Run | None = None  # from the moment it has a directory
    ended: Ended | None = None
    error: UserError | None = None  # why there is no run, or no end of it
    starting: bool = False
    process: subprocess.Popen[bytes] | None = None  # of a detached one
    place: Run | None = None  # where that one was told to put its directory

    @property
    def state(self) -> State:
        """Where it is on its way; how a run is that has a directory, the directory tells."""
        if self.error is not None:
            return "refused"
        if self.ended is not None:
            return "ended"
        if self.run is not None:
            return "running"
        return "starting" if self.starting else "queued"

    @property
    def title(self) -> str:
        """What it is called before it has a directory."""
        if self.resumes is not None:
            return self.resumes.name
        return self.config.run.name or self.preset or f"{self.config.model.name}-{self.config.layer.type}"


class Printed(Protocol):
    """Where prints go while a run trains: see `tui.capture`."""

    def redirect_to(self, path: Path) -> AbstractContextManager[object]: ...


class Launcher:
    """Queues launches; trains them on one daemon thread, which imports torch when the first one starts."""

    def __init__(self, root: Path, printed: Printed | None = None) -> None:
        allocator.one_heap()  # before the app has other threads, whose heaps would be taken over
        self.root = root
        self.printed = printed
        self.launches: list[Launch] = []  # since the app opened, in the order they were asked for
        self.closing: Command | None = None  # the command that nothing starts after
        self.current: Launch | None = None
        self.cut_short: Launch | None = None  # what trained when the app began to close
        self._queue: SimpleQueue[Launch] = SimpleQueue()
        self._waiting: deque[Launch] = deque()
        self._commands: deque[Command] | None = None
        self._thread: threading.Thread | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._lock = threading.Lock()

    # -- what the app asks ------------------------------------------------------------------------------------------

    def launch(self, config: RunConfig, preset: str | None = None) -> Launch:
        """Queue a run of this process. It starts when those before it have ended."""
        return self._put(Launch(config, preset))

    def resume(self, run: Run) -> Launch:
        """Queue a run that ended early: it goes on from its newest good checkpoint. Raises UserError: damaged."""
        return self._put(Launch(run.config(), resumes=run))

    def _put(self, launch: Launch) -> Launch:
        with self._lock:
            self.launches.append(launch)
            self._waiting.append(launch)
            self._idle.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._train_all, name="training", daemon=True)
            self._thread.start()
        self._queue.put(launch)
        return launch

    def detach(self, config: RunConfig, preset: str | None = None) -> Launch:
        """Start a run in a process of its own, which outlives this one; it is found again by its directory.

        Raises OSError where the process cannot be started, UserError where its directory holds a run already.
        """
        name = runs_run.new_run_name(config.model.name, config.layer.type, config.run.name)
        directory = Path(config.output.dir).resolve() if config.output.dir else self.root / name
        if runs_run.is_run(directory):
            raise UserError(Problem(f"{escaped(directory)} holds a run already", fix="give another directory"))
        there = config.model_copy(update={"output": config.output.model_copy(update={"dir": str(directory)})})
        directory.mkdir(parents=True, exist_ok=True)
        words = [*shlex.split(command(there))[1:], "--runs", str(self.root), "--plain"]
        with (directory / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "convnn", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # the signals of this terminal are not for it
            )
        launch = Launch(config, preset, starting=True, process=process, place=Run(directory, directory.name))
        self.launches.append(launch)
        return launch

    def poll(self) -> None:
        """See what has become of the detached launches; the app asks this on a timer."""
        for launch in self.launches:
            if launch.process is None or launch.place is None or launch.run or launch.error:
                continue
            code, place = launch.process.poll(), launch.place.path
            if runs_run.is_run(place):
                launch.run = Run(place, runs_run.run_name(place, self.root))
            elif code is not None:
                said = (place / "log.txt").read_text(errors="replace")[-2000:].strip()
                launch.error = UserError(f"the detached process ended with code {code}: {escaped(said)}")

    def drop(self, launch: Launch) -> bool:
        """Take a launch out of the queue; False when it has started already."""
        with self._lock:
            if launch not in self._waiting:
                return False
            self._waiting.remove(launch)
            self.launches.remove(launch)
            return True

    @property
    def queued(self) -> tuple[Launch, ...]:
        """The launches that have no directory yet, the next one first."""
        starting = self.current
        return (*((starting,) if starting and starting.state == "starting" else ()), *self._waiting)

    @property
    def live(self) -> Run | None:
        """The run that trains in this process now."""
        launch = self.current
        return launch.run if launch is not None else None

    # -- leaving ----------------------------------------------------------------------------------------------------

    def send(self, command: Command) -> None:
        """Send a command to the live run, if there is one."""
        if (commands := self._commands) is not None:
            commands.append(command)

    def close(self, command: Command) -> None:
        """Start nothing more, and end the live run by this command; `wait` tells when it has ended."""
        with self._lock:
            self.cut_short = self.cut_short or self.current
            self.closing = command
            self._waiting.clear()
            if self.current is None:
                self._idle.set()
        self.send(command)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing trains here and nothing waits to; whether that came true in time."""
        return self._idle.wait(seconds)

    # -- the training thread ----------------------------------------------------------------------------------------

    def _train_all(self) -> None:
        while True:
            launch = self._queue.get()
            with self._lock:
                if launch not in self._waiting:
                    continue  # dropped
                self._waiting.remove(launch)
                self.current = launch
            launch.starting = True
            try:
                self._train(launch)
            except UserError as error:
                launch.error = error
            except Exception as error:  # the loop itself failed, say on a full disk: this run ends, the app stays
                logging.getLogger("convnn").exception("the loop ended")
                self._note(launch, error)
                launch.error = UserError(f"{type(error).__name__}: {escaped(error)}", Exit.FAILED)
            with self._lock:
                self._commands, self.current = None, None
                if not self._waiting:
                    self._idle.set()

    def _train(self, launch: Launch) -> None:
        load_ahead()
        with uncollected(modules=True):
            from convnn.training import device
            from convnn.worker.train_run import train_run  # torch comes in here

        device.device(launch.config)
        commands: deque[Command] = deque()
        self._commands = commands
        if self.closing is not None:
            return
        config = launch.config
        run = launch.resumes or runs_run.create_run(
            dumps(config, whole=True),
            model=config.model.name,
            layer=config.layer.type,
            root=self.root,
            name=config.run.name,
            directory=Path(config.output.dir) if config.output.dir else None,
        )
        launch.run = run
        resume = launch.resumes is not None
        with self.printed.redirect_to(run.path / "log.txt") if self.printed else nullcontext():
            launch.ended = train_run(run, config, show=lambda event: None, commands=commands, resume=resume)

    def _note(self, launch: Launch, error: Exception) -> None:
        """Keep the traceback where the run's reader looks for it, if the disk lets us."""
        if launch.run is not None:
            try:
                with (launch.run.path / "log.txt").open("a") as log:
                    log.write("".join(traceback.format_exception(error)))
            except OSError as full:
                launch.error = UserError(f"log.txt cannot be written: {full.strerror}")
