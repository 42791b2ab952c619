"""The terminal kept apart from descriptors 1 and 2, which belong to the log of the run while the app draws."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from convnn.errors import UserError

KEPT = 1 << 16  # bytes printed while no run trained that the next run's log begins with
LEAVE = "\x1b[?2004l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?1004l\x1b[?7h\x1b[?25h"


def check_terminal() -> None:
    """Raises UserError where there is no terminal to draw on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("convnn tui needs a terminal: stdin and stdout are not one; `convnn run --plain` does without")
    if os.environ.get("TERM") == "dumb":
        raise UserError("convnn tui cannot draw on TERM=dumb; `convnn run --plain` does without drawing")


class Tty(io.TextIOWrapper):
    """A text file on the terminal that drops what it is given once nobody is there: Textual's writer must not die."""

    gone = False

    def write(self, text: str) -> int:
        try:
            return len(text) if self.gone else super().write(text)
        except OSError:
            self.gone = True
            return len(text)

    def flush(self) -> None:
        try:
            if not self.gone:
                super().flush()
        except OSError:
            self.gone = True


class Terminal:
    """While it is entered, Textual finds the terminal as `sys.__stderr__` and whatever prints goes into a file.

    The file is an unnamed one or, while a run trains, that run's `log.txt`: no thread stands between, so the last
    words of C code that brings the process down are kept as well.
    """

    def __enter__(self) -> Self:
        self._attributes = termios.tcgetattr(0)
        self._spare = tempfile.TemporaryFile()
        self._before = (os.dup(1), os.dup(2), sys.__stdout__, sys.__stderr__)
        sys.stdout.flush()
        sys.stderr.flush()
        raw = io.FileIO(os.dup(1), "w")
        self.file = Tty(io.BufferedWriter(raw), encoding=sys.stdout.encoding, errors="replace")
        self.printed: IO[str] = open(1, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
        sys.__stdout__ = sys.__stderr__ = self.file  # type: ignore[misc]
        self._point(self._spare.fileno())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        out, err, sys.__stdout__, sys.__stderr__ = self._before  # type: ignore[misc]
        self.printed.flush()
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        self.file.flush()

    @contextmanager
    def redirect_to(self, path: Path) -> Iterator[None]:
        """While the block runs, prints of Python and of C code are appended to the file at `path`."""
        with path.open("ab") as log:
            log.write(self._kept())
            log.flush()
            self._point(log.fileno())
            # Textual swallows prints of Python by standing in for stdout; a closed descriptor breaks subprocesses
            with redirect_stdout(self.printed), redirect_stderr(self.printed):
                try:
                    yield
                finally:
                    self.printed.flush()
                    self._point(self._spare.fileno())

    def restore(self) -> None:
        """Make the terminal usable, from any thread, when the process is about to end at once."""
        termios.tcsetattr(0, termios.TCSANOW, self._attributes)
        os.write(self.file.fileno(), LEAVE.encode())

    @property
    def gone(self) -> bool:
        """Whether the terminal hung up."""
        return self.file.gone

    def _point(self, descriptor: int) -> None:
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)

    def _kept(self) -> bytes:
        size = self._spare.seek(0, os.SEEK_END)
        self._spare.seek(max(0, size - KEPT))
        kept = self._spare.read()
        self._spare.seek(0)
        self._spare.truncate()
        return kept
