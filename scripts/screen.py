"""A program in an emulated terminal: its screen as text, and keys pressed by their names."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pyte

from tests.support.terminal import Program

PATIENCE = 180.0  # seconds to wait for a text: an epoch on a busy machine may take a minute
QUIET = 0.3  # seconds without output, after which a frame is whole
KEYS = {
    "enter": "\r", "tab": "\t", "esc": "\x1b", "down": "\x1b[B", "ctrl+q": "\x11", "ctrl+s": "\x13", "f4": "\x1bOS",
    "f5": "\x1b[15~",
}  # fmt: skip
UNKNOWN = re.compile(
    r"\x1b\[[<>=?][0-9;:]*\$?[a-zA-Z]|\x1bP.*?\x1b\\", re.S
)  # modes and queries, of which pyte draws some as text
TOAST = "▌"  # the left edge of a toast


class EmulatedProgram(Program):
    """A program whose screen can be read as text."""

    def __init__(self, *words: str, size: tuple[int, int], folder: Path, **environment: str) -> None:
        self.emulated = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.emulated)
        self._read_to = 0
        super().__init__(*words, size=size, cwd=folder, **environment)

    @property
    def screen(self) -> str:
        """The rows of the screen."""
        until = len(self.output)
        if self.output.rfind(b"\x1b", 0, until) > until - 32:  # an escape sequence may be incomplete: wait for its end
            until = self.output.rfind(b"\x1b", 0, until)
        if self.process.poll() is not None:
            until = len(self.output)
        if until > self._read_to:
            self._stream.feed(plain(self.output[self._read_to : until]))
            self._read_to = until
        return "\n".join(row.rstrip() for row in self.emulated.display)

    def keys(self, *names: str) -> None:
        """Press keys one after the other, with a pause between them."""
        for name in names:
            self.press(KEYS.get(name, name))
            time.sleep(0.2)

    def wait_for(self, pattern: str) -> str:
        """Return the screen once it matches, shows no toast and has stopped changing.

        Raises TimeoutError with the screen where that does not happen.
        """
        self._wait(lambda: re.search(pattern, self.screen) and TOAST not in self.screen, repr(pattern))
        length, since = len(self.output), time.monotonic()
        while time.monotonic() - since < QUIET:
            time.sleep(0.02)
            if len(self.output) != length:
                length, since = len(self.output), time.monotonic()
        return self.screen

    def wait_for_exit(self) -> int:
        """Return the exit code once the program has ended and its output was read."""
        self._wait(lambda: self.process.poll() is not None, "its end")
        time.sleep(QUIET)
        return self.process.wait()

    def _wait(self, condition: Callable[[], object], description: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end or (self.process.poll() is not None and not condition()):
                raise TimeoutError(f"waited for {description}; the screen is\n{self.screen}")
            time.sleep(0.05)


def plain(output: bytes) -> bytes:
    """Return the output without the escape sequences that change nothing on the screen."""
    return UNKNOWN.sub("", output.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
