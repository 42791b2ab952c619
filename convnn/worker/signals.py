"""Signals while a run trains: the first stops it after the step, a second Ctrl-C within 3 s ends the process at once.

USR1 and USR2 save and go on; in a Slurm job they save and end with 75, as the job is about to end or to be preempted.

A signal that was ignored when the process started stays ignored: so `nohup` and a shell's `&` protect a run.

Python handles a signal between two bytecodes, which a long operator delays; a thread reading `signal.set_wakeup_fd`
does not wait for that. Files are valid at any moment: every write is atomic or an append.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from _thread import interrupt_main
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from enum import Enum

from convnn import startup
from convnn.errors import Exit
from convnn.runs.control import ControlCommand
from convnn.slurm_job import current_job
from convnn.startup import Interrupted


class Interruption(Enum):
    """What ends a run from outside: the cause that its last event names, and the exit code of its process."""

    CTRL_C = "Ctrl-C", Exit.INTERRUPTED
    TERMINATED = "terminated", Exit.TERMINATED
    HUNG_UP = "hung up", Exit.HUNG_UP
    TIME_LIMIT = "the time limit was reached", Exit.TIME_LIMIT
    JOB_SIGNAL = "a signal to its Slurm job", Exit.TIME_LIMIT

    def __init__(self, cause: str, code: Exit) -> None:
        self.cause, self.code = cause, code

    @classmethod
    def of_code(cls, code: int) -> Interruption:
        """Return the one that ends a process with this exit code."""
        return next(interruption for interruption in cls if interruption.code == code)


Command = ControlCommand | Interruption  # what the loop obeys between two steps

SIGNALS: dict[signal.Signals, Command] = {
    signal.SIGINT: Interruption.CTRL_C,
    signal.SIGTERM: Interruption.TERMINATED,
    signal.SIGHUP: Interruption.HUNG_UP,
    signal.SIGUSR1: ControlCommand.CHECKPOINT,
    signal.SIGUSR2: ControlCommand.CHECKPOINT,
}
# as `sbatch --signal` sends them
JOB_SIGNALS = dict.fromkeys((signal.SIGUSR1, signal.SIGUSR2), Interruption.JOB_SIGNAL)
TWICE = 3.0  # seconds within which a second Ctrl-C ends the process at once
_starting = False  # a signal that ends the run is raised on the main thread


@contextmanager
def obeyed(send: Callable[[Command], None], restore: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Call `send` with the command of each signal while the block runs, and `restore` before a sudden end.

    Only on the main thread; the earlier handlers come back afterwards.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)

    commands = {**SIGNALS, **JOB_SIGNALS} if current_job() is not None else SIGNALS

    def handle(number: int, _: object) -> None:
        command = commands[signal.Signals(number)]
        send(command)
        if _starting and isinstance(command, Interruption):
            raise Interrupted(command.code)

    obeyed_signals = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, handle) for number in obeyed_signals}
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read, restore), daemon=True, name="signals").start()
    while startup.early_signals:
        send(commands[signal.Signals(startup.early_signals.pop(0))])
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(write)  # ends the thread, which closes the other end


@contextmanager
def raised(commands: deque[Command], deadline: float | None = None) -> Iterator[None]:
    """Raise Interrupted for a signal that ends the run while the block runs, and for one in `commands` before it.

    For the start of a run, which may take minutes before there is a step to wait for. It is raised on the main thread;
    elsewhere, and where a library swallows it, the command in `commands` ends the run at its first step. At `deadline`,
    a time of `time.monotonic`, it is raised for the time limit.
    """
    global _starting
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _starting = True
    try:
        for command in tuple(commands):
            if isinstance(command, Interruption):
                raise Interrupted(command.code)
        with nullcontext() if deadline is None else _limited(deadline):
            yield
    finally:
        _starting = False


@contextmanager
def _limited(deadline: float) -> Iterator[None]:
    """Raise Interrupted on the main thread, which runs this, at a time of `time.monotonic`."""
    if time.monotonic() >= deadline:
        raise Interrupted(Interruption.TIME_LIMIT.code)
    is_limited = True

    def interrupt() -> None:
        if is_limited:
            interrupt_main(signal.SIGALRM)  # runs the handler, sends no signal

    def handle(number: int, _: object) -> None:
        if is_limited:
            raise Interrupted(Interruption.TIME_LIMIT.code)

    handler = signal.signal(signal.SIGALRM, handle)
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), interrupt)
    timer.daemon = True
    timer.start()
    try:
        try:
            yield
        finally:
            is_limited = False
            timer.cancel()
    finally:
        signal.signal(signal.SIGALRM, handler)


def _watch(read: int, restore: Callable[[], None]) -> None:
    """End the process on the second Ctrl-C within TWICE seconds, whatever the main thread is doing."""
    last = -TWICE
    while data := os.read(read, 64):
        for number in data:
            if number != signal.SIGINT:
                continue
            now = time.monotonic()
            if now - last < TWICE:
                restore()
                os._exit(Exit.INTERRUPTED)
            last = now
    os.close(read)
