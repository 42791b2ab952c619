"""A program in a pseudo-terminal: what it draws, and how it is when it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .processes import Script, set_signals

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "COLORTERM": "truecolor"}
PATIENCE = 60.0  # seconds: only a test that fails waits as long


class Program:
    """`python words` on a terminal of its own, as a shell would start it.

    With `is_forked` the words are a script, which starts in a process that has imported torch.
    """

    def __init__(
        self,
        *words: str | Path,
        size: tuple[int, int] = (80, 24),
        cwd: Path = ROOT,
        python: str | Path = sys.executable,
        is_forked: bool = False,
        **environment: str,
    ) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        arguments, variables = list(map(str, words)), ENVIRONMENT | environment
        self.process: subprocess.Popen[bytes] | Script
        if is_forked:
            self.process = Script(arguments, os.ttyname(self.slave), cwd, variables)
        else:
            self.process = subprocess.Popen(
                [python, *arguments],
                stdin=self.slave,
                stdout=self.slave,
                stderr=self.slave,
                cwd=cwd,
                env=os.environ | variables,
                preexec_fn=_own_terminal,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    @property
    def text(self) -> str:
        """What was drawn, without its escape codes."""
        return re.sub(r"\x1b\[[0-9;?<>=$]*[a-zA-Z]|\x1b[()][A-Z]", "", self.output.decode("utf-8", "replace"))

    def until(self, condition: Callable[[], object], description: str) -> None:
        """Wait for something to happen."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"waited for {description}; the last it drew: {self.text[-2000:]}"
            time.sleep(0.05)

    def wait(self) -> int:
        """The exit code, when it has ended."""
        return self.process.wait(PATIENCE)

    def restored(self) -> bool:
        """Whether the terminal is as it was: the main screen, a cursor, echo and signals."""
        drawn = self.output
        screen = drawn.rfind(b"\x1b[?1049l") > drawn.rfind(b"\x1b[?1049h")
        cursor = drawn.rfind(b"\x1b[?25h") > drawn.rfind(b"\x1b[?25l")
        return screen and cursor and termios.tcgetattr(self.slave) == self.before

    def hang_up(self) -> None:
        """Close the terminal, as a closed window or a lost connection does."""
        os.close(self.slave)
        self.slave = -1
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for descriptor in (self.slave, self.master):
            if descriptor >= 0:
                os.close(descriptor)

    def _read(self) -> None:
        while True:
            try:
                self.output += os.read(self.master, 1 << 16)
            except OSError:  # hung up, or closed
                return


def _own_terminal() -> None:
    set_signals()
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
