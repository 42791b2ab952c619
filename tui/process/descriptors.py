"""While the app draws, file descriptors 1 and 2 write to the log of the run instead of the terminal."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import IO, Self

from convnn.errors import UserError
from convnn.files import open_append

BUFFERED = 1 << 16  # bytes printed while no run trains that are copied to the log of the next run
LEAVE_APP_MODE = "\x1b[?2004l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?1004l\x1b[?7h\x1b[?25h"


def check_terminal() -> None:
    """Raise UserError where the app has no terminal to draw on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("convnn tui needs a terminal for stdin and stdout; without one use `convnn run --plain`")
    if os.environ.get("TERM") == "dumb":
        raise UserError("convnn tui cannot draw on TERM=dumb; use `convnn run --plain`")


class TerminalFile(io.TextIOWrapper):
    """A text file on the terminal that ignores what is written after it hung up: Textual's writer must not fail."""

    hung_up = False

    def write(self, text: str) -> int:
        try:
            return len(text) if self.hung_up else super().write(text)
        except OSError:
            self.hung_up = True
            return len(text)

    def flush(self) -> None:
        try:
            if not self.hung_up:
                super().flush()
        except OSError:
            self.hung_up = True


class Terminal:
    """A context in which Textual finds the terminal as `sys.__stderr__` and all prints go into a file.

    The file is an unnamed one or, while a run trains, the `log.txt` of the run. Descriptors are redirected rather than
    read by a thread, so that the log also has the last words of C code that ends the process.
    """

    def __enter__(self) -> Self:
        self._attributes = termios.tcgetattr(0)
        self._unnamed_file = tempfile.TemporaryFile()
        self._saved = (os.dup(1), os.dup(2), sys.__stdout__, sys.__stderr__)
        sys.stdout.flush()
        sys.stderr.flush()
        terminal = io.FileIO(os.dup(1), "w")
        self.file = TerminalFile(io.BufferedWriter(terminal), encoding=sys.stdout.encoding, errors="replace")
        self._prints: IO[str] = open(1, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
        sys.__stdout__ = sys.__stderr__ = self.file  # type: ignore[misc]
        _redirect(self._unnamed_file.fileno())
        return self

    def __exit__(self, *exception: object) -> None:
        stdout, stderr, sys.__stdout__, sys.__stderr__ = self._saved  # type: ignore[misc]
        self._prints.flush()
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.close(stdout)
        os.close(stderr)
        self.file.flush()

    @contextmanager
    def redirect_to(self, path: Path) -> Iterator[None]:
        """Append what Python and C code print while the block runs to the file at `path`."""
        with os.fdopen(open_append(path), "ab") as log:
            log.write(self._take_buffered())
            log.flush()
            _redirect(log.fileno())
            # Textual replaces sys.stdout by a file that drops prints; a closed descriptor breaks subprocesses
            with redirect_stdout(self._prints), redirect_stderr(self._prints):
                try:
                    yield
                finally:
                    self._prints.flush()
                    _redirect(self._unnamed_file.fileno())

    def restore(self) -> None:
        """Make the terminal usable, from any thread, when the process is about to end at once."""
        termios.tcsetattr(0, termios.TCSANOW, self._attributes)
        os.write(self.file.fileno(), LEAVE_APP_MODE.encode())

    @property
    def hung_up(self) -> bool:
        return self.file.hung_up

    def _take_buffered(self) -> bytes:
        """Return the end of what was printed while no run trained, and empty the unnamed file."""
        size = self._unnamed_file.seek(0, os.SEEK_END)
        self._unnamed_file.seek(max(0, size - BUFFERED))
        buffered = self._unnamed_file.read()
        self._unnamed_file.seek(0)
        self._unnamed_file.truncate()
        return buffered


def _redirect(descriptor: int) -> None:
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
