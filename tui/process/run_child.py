"""A run in a child process, which this one follows: rank 0 of a run on several processes has no thread of the app."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO

from convnn.errors import Exit, UserError
from convnn.events import Finished
from convnn.runs import control
from convnn.runs.file_lock import INHERITED
from convnn.runs.lock import handed_over
from convnn.runs.run import Run
from convnn.sweeps.queue import events_size
from convnn.text import last_message
from convnn.worker.detached import start_detached
from convnn.worker.signals import SIGNALS, Command, Interruption

POLL_SECONDS = 0.1
SIGNAL_OF = {command: number for number, command in SIGNALS.items()} | {Interruption.JOB_SIGNAL: signal.SIGUSR1}


class RunChild:
    """`convnn resume RUN` detached from the terminal (setsid), which writes its messages to a file.

    It holds the lock of the run from the start, and outlives this process unless that ends it. Raises UserError (HELD)
    where another process trains the run, and OSError.
    """

    def __init__(self, run: Run, root: Path, messages: IO[bytes]) -> None:
        self.run = run
        self._events_size = events_size(run)
        self._messages = messages
        with handed_over(run.path) as lock:
            control.discard(run.path)  # a command that comes from here on is for the child
            self._process = start_detached(
                ["resume", f"{run.path}/", "--plain"],
                root,
                self._messages,
                stdout=subprocess.DEVNULL,
                env={**os.environ, INHERITED: " ".join(map(str, lock.descriptors))},
                pass_fds=lock.descriptors,
            )
            with suppress(OSError):  # a full disk: the note is for people
                lock.give_to(self._process.pid)

    def follow(self, commands: deque[Command]) -> Finished:
        """Pass commands on until the child ends, and return how the run ended. Raises UserError where nothing says."""
        while self._process.poll() is None:
            while commands:
                self._send(commands.popleft())
            time.sleep(POLL_SECONDS)
        finished = self.run.history().finished
        if finished is None or events_size(self.run) == self._events_size:
            raise UserError(self._cause(), Exit.FAILED)
        return finished

    def kill(self) -> None:
        """End the child at once, and with it the other processes of the run."""
        self._process.kill()

    def _send(self, command: Command) -> None:
        if isinstance(command, Interruption):
            self._process.send_signal(SIGNAL_OF[command])
        else:
            with suppress(UserError, OSError):  # it has just ended, or the disk takes nothing: it will say so itself
                control.send(self.run.path, command)

    def _cause(self) -> str:
        code = self._process.returncode
        if code < 0:
            return f"its process was killed by {signal.Signals(-code).name}"
        self._messages.seek(0)
        return last_message(self._messages.read().decode("utf-8", "replace")) or f"exit code {code}"
