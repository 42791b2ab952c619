"""A program in a pseudo-terminal as a person sees it: what stands on its screen, and keys by their names."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pyte

from tests.support.terminal import Program

PATIENCE = 180.0  # seconds: an epoch on a machine that is busy with other things may take a minute
QUIET = 0.3  # seconds without output, after which a frame is whole
KEYS = {
    "enter": "\r", "tab": "\t", "esc": "\x1b", "down": "\x1b[B", "ctrl+q": "\x11", "ctrl+s": "\x13", "f4": "\x1bOS",
    "f5": "\x1b[15~",
}  # fmt: skip
UNKNOWN = re.compile(r"\x1b\[[<>=?][0-9;:]*\$?[a-zA-Z]|\x1bP.*?\x1b\\", re.S)  # modes and questions: pyte draws some
TOAST = "▌"  # the edge of a message that goes by itself


class Seen(Program):
    """A program whose screen can be read."""

    def __init__(self, *words: str, size: tuple[int, int], folder: Path, **environment: str) -> None:
        self.emulated = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.emulated)
        self._read_to = 0
        super().__init__(*words, size=size, cwd=folder, **environment)

    @property
    def screen(self) -> str:
        """The rows of the screen as they are now."""
        until = len(self.output)
        if self.output.rfind(b"\x1b", 0, until) > until - 32:  # a sequence may be on its way: it comes next time
            until = self.output.rfind(b"\x1b", 0, until)
        if self.process.poll() is not None:
            until = len(self.output)
        if until > self._read_to:
            self._stream.feed(plain(self.output[self._read_to : until]))
            self._read_to = until
        return "\n".join(row.rstrip() for row in self.emulated.display)

    def keys(self, *names: str) -> None:
        """Press keys as a person would, one after the other."""
        for name in names:
            self.press(KEYS.get(name, name))
            time.sleep(0.2)

    def shows(self, words: str) -> str:
        """Wait until a line of the screen matches, messages that pass have passed, and the frame is whole."""
        self._wait(lambda: re.search(words, self.screen) and TOAST not in self.screen, repr(words))
        length, since = len(self.output), time.monotonic()
        while time.monotonic() - since < QUIET:
            time.sleep(0.02)
            if len(self.output) != length:
                length, since = len(self.output), time.monotonic()
        return self.screen

    def ends(self) -> int:
        """The exit code, when it has ended and its last words were read."""
        self._wait(lambda: self.process.poll() is not None, "its end")
        time.sleep(QUIET)
        return self.process.wait()

    def _wait(self, happened: Callable[[], object], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not happened():
            if time.monotonic() > end or (self.process.poll() is not None and not happened()):
                raise TimeoutError(f"waited for {what}; the screen is\n{self.screen}")
            time.sleep(0.05)


def plain(output: bytes) -> bytes:
    """Output without the sequences that say nothing about what is seen."""
    return UNKNOWN.sub("", output.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
