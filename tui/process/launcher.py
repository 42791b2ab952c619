"""Launches: trained one after the other on one thread of this process, or detached in processes of their own.

All torch work of this process happens on that thread.
"""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import tempfile
import threading
import traceback
from collections import deque
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Literal, Protocol

from convnn.config.command_line import changed_flags, command
from convnn.config.schema import RunConfig
from convnn.config.toml import dumps
from convnn.errors import Exit, UserError
from convnn.files import open_append, open_regular
from convnn.gc_pause import gc_paused
from convnn.runs.run import LOG, Run, create_run, is_run, new_run_name, reserve, run_name
from convnn.safe_path import python_module
from convnn.training import allocator
from convnn.worker.signals import Command
from tui.process.torch_preload import load_ahead

if TYPE_CHECKING:
    from convnn.worker.train_run import RunResult

LOG_TAIL = 2000  # bytes of a detached process's log that its error has

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
    process: subprocess.Popen[bytes] | None = None  # of a detached launch
    directory: Path | None = None  # where a detached process makes its run
    output: IO[bytes] | None = None  # what a detached process prints, where that is not in its directory

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


def _output_tail(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")[-LOG_TAIL:].strip()


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
        self._queue: SimpleQueue[Launch] = SimpleQueue()
        self._waiting: deque[Launch] = deque()
        self._commands: deque[Command] | None = None
        self._thread: threading.Thread | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._lock = threading.Lock()

    # -- launching --------------------------------------------------------------------------------------------------

    def launch(self, config: RunConfig, preset: str | None = None, forks: Run | None = None) -> Launch:
        """Queue a new run in this process, from scratch or from a checkpoint of the run that it forks."""
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
        if self._thread is None:
            self._thread = threading.Thread(target=self._train_all, name="training", daemon=True)
            self._thread.start()
        self._queue.put(launch)
        return launch

    def detach(self, config: RunConfig, preset: str | None = None, forks: Run | None = None) -> Launch:
        """Start a run in a process of its own, which outlives this one; `poll` finds its directory.

        Raises OSError where the process cannot be started, and UserError where its directory is not empty.
        """
        name = new_run_name(config.model.name, config.layer.type, config.run.name)
        directory = Path(config.output.dir).resolve() if config.output.dir else self.root / name
        output = config.output.model_copy(update={"dir": str(directory)})
        config_there = config.model_copy(update={"output": output})
        if forks is None:
            reserve(directory)
            arguments = shlex.split(command(config_there))[1:]
            output_file: IO[bytes] = os.fdopen(open_append(directory / LOG), "ab")
        else:  # its directory appears when it is complete
            arguments = ["resume", f"{forks.path}/", "--fork", *changed_flags(config_there, forks.config())]
            output_file = tempfile.TemporaryFile()  # noqa: SIM115 it stays open for `poll`
        process = self._start_child(arguments, output_file)
        launch = Launch(config, preset, forks=forks, starting=True, process=process, directory=directory)
        if forks is None:
            output_file.close()
        else:
            launch.output = output_file
        self.launches.append(launch)
        return launch

    def resume_detached(self, run: Run) -> None:
        """Resume a run in a process of its own. Raises OSError where it cannot be started."""
        with os.fdopen(open_append(run.log_path), "ab") as log:
            process = self._start_child(["resume", f"{run.path}/"], log)
        self.launches.append(Launch(run.config(), resumes=run, starting=True, process=process, directory=run.path))

    def _start_child(self, arguments: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a command in a process that outlives this one."""
        return subprocess.Popen(
            python_module("convnn", *arguments, "--runs", str(self.root), "--plain"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # away from the signals of this terminal
        )

    def poll(self) -> None:
        """Update the detached launches; the app calls this on a timer."""
        for launch in self.launches:
            if launch.process is None or launch.directory is None or launch.run or launch.error:
                continue
            code = launch.process.poll()  # first: a process may end right after it has made its run
            if is_run(launch.directory):
                launch.run = Run(launch.directory, run_name(launch.directory, self.root))
            elif code is not None:
                output = _output_tail(launch.output) if launch.output else _log_tail(launch.directory / LOG)
                launch.error = UserError(f"the detached process ended with code {code}: {output}")

    def drop(self, launch: Launch) -> bool:
        """Take a launch out of the queue; return False where it has already started."""
        with self._lock:
            if launch not in self._waiting:
                return False
            self._waiting.remove(launch)
            self.launches.remove(launch)
            return True

    @property
    def queued(self) -> tuple[Launch, ...]:
        """The launches without a directory, the next one first."""
        current = self.current
        if current is not None and current.state == "starting":
            return (current, *self._waiting)
        return tuple(self._waiting)

    @property
    def live(self) -> Run | None:
        """The run that trains in this process now."""
        launch = self.current
        return launch.run if launch is not None else None

    # -- ending -----------------------------------------------------------------------------------------------------

    def send(self, command: Command) -> None:
        """Send a command to the live run, if there is one."""
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
            except Exception as error:  # not of training but of the loop around it, as on a full disk
                logging.getLogger("convnn").exception("the training loop failed")
                self._log_traceback(launch, error)
                launch.error = UserError(f"{type(error).__name__}: {error}", Exit.FAILED)
            with self._lock:
                self._commands, self.current = None, None
                if not self._waiting:
                    self._idle.set()

    def _train(self, launch: Launch) -> None:
        load_ahead()
        with gc_paused():
            from convnn.training import device
            from convnn.worker.train_run import train_run  # torch comes in here

        device.select_device(launch.config)
        commands: deque[Command] = deque()
        self._commands = commands
        if self.closed_by is not None:
            return
        config = launch.config
        if launch.forks is not None:
            from convnn.worker.fork import fork_run

            launch.resumes, _ = fork_run(launch.forks, config, self.root)
        run = launch.resumes or create_run(
            dumps(config, whole=True),
            model=config.model.name,
            layer=config.layer.type,
            root=self.root,
            name=config.run.name,
            directory=Path(config.output.dir) if config.output.dir else None,
        )
        launch.run = run
        resume = launch.resumes is not None
        with self.output.redirect_to(run.log_path) if self.output else nullcontext():
            launch.ended = train_run(run, config, commands=commands, resume=resume)

    def _log_traceback(self, launch: Launch, error: Exception) -> None:
        """Append the traceback to the log of the run, where the disk allows it."""
        if launch.run is not None:
            with suppress(OSError), os.fdopen(open_append(launch.run.log_path), "ab") as log:
                log.write("".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace"))


def _log_tail(path: Path) -> str:
    try:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL))
            return file.read(LOG_TAIL).decode("utf-8", "replace").strip()
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"
