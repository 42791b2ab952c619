"""What a process does before anything else: it makes its environment usable, and signals end it at any moment."""

from __future__ import annotations

import os
import pwd
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

WIDEST = 10_000  # columns or lines of a terminal that are believed
SIZES = ("COLUMNS", "LINES", "TERMINAL_WIDTH")  # Rich and Typer take them as they are
USER_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # as getpass looks for them
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # a hang-up ends the process by itself
SAVING_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
early_signals: list[int] = []  # SAVING_SIGNALS that came before there was a run to save
before_sudden_end: list[Callable[[int], None]] = []  # called with the exit code


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command, with the exit code that says so."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


def prepare() -> None:
    """Make this process, and the children that inherit its environment, independent of how it was started."""
    _open_standard_descriptors()
    for name in SIZES:
        size = os.environ.get(name, "1")
        if not (size.isascii() and size.isdecimal() and 0 < int(size[:9]) <= WIDEST):
            del os.environ[name]
    _name_user()
    sys.unraisablehook = _unraisable
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and a shell's & leave it
            signal.signal(number, _interrupt)
    for number in SAVING_SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda number, _: early_signals.append(number))


def end_on_signals() -> None:
    """From now on a signal ends the process at once: the interpreter is about to end, where exceptions are printed."""
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, lambda number, _: end(128 + number))


def end(code: int) -> None:
    """End the process at once, without a traceback from wherever it is."""
    for call in before_sudden_end:
        call(code)
    with suppress(OSError):  # the terminal hung up
        os.write(2, b"interrupted\n")
    os._exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise Interrupted; while a module is imported, which may turn an exception into any other, end the process."""
    code = 128 + number
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            end(code)
        frame = frame.f_back
    raise Interrupted(code)


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """End the process where Interrupted was raised in a finalizer or a callback, which would only print it."""
    if isinstance(unraisable.exc_value, Interrupted):
        end(unraisable.exc_value.code)
    sys.__unraisablehook__(unraisable)


def _open_standard_descriptors() -> None:
    """Open the null device as each closed one of 0, 1 and 2, which the next file would become."""
    for descriptor, mode in enumerate(("r", "w", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free one: this
        if (sys.stdin, sys.stdout, sys.stderr)[descriptor] is None:
            stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, ("stdin", "stdout", "stderr")[descriptor], stream)


def _name_user() -> None:
    """Name a user without an entry in the password database, as in a container, by number, and give it a home."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        if not any(os.environ.get(name) for name in USER_NAMES):
            os.environ["LOGNAME"] = str(os.getuid())
        os.environ.setdefault("HOME", "/")
