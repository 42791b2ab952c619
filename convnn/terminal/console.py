"""Where the commands and the live view write: consoles that escape control characters and keep to what can be shown.

Text from outside (names, paths, the messages of exceptions) is kept raw in memory; nothing else needs to escape it.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from convnn.text import ascii_only, escaped, to_ascii

INDENT = "  "


class EscapingConsole(Console):
    """A Rich console that shows control characters as visible escapes and, on an ASCII terminal, nothing but ASCII.

    Line breaks and Rich's own control codes pass; markup, highlighting and emoji codes are off, because a name may
    look like them.
    """

    def __init__(self, *, stderr: bool = False, file: TextIO | None = None, **options: object) -> None:
        super().__init__(stderr=stderr, file=file, markup=False, highlight=False, emoji=False, **options)  # type: ignore[arg-type]

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of a renderable as they may reach the terminal."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control or (text.isascii() and text.isprintable()):
                yield segment
            else:
                yield Segment("\n".join(map(self.displayable, text.split("\n"))), style)

    @cached_property
    def is_ascii_only(self) -> bool:
        """Whether the terminal shows no more than ASCII: asked once, as a table asks for each of its cells."""
        return self.options.ascii_only

    @property
    def shows_images(self) -> bool:
        """Whether the terminal has the colors and characters that images are drawn with."""
        return not (self.is_ascii_only or self.no_color or self.color_system in (None, "standard"))

    def displayable(self, text: str) -> str:
        """Return a piece of a line as this console shows it."""
        text = escaped(text)
        if self.is_ascii_only:
            return to_ascii(text)
        return text

    def print_line(self, text: str, style: str = "") -> None:
        """Print text as exactly one line, however wide the terminal is."""
        self.print(Text(escaped(text), style), soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """Raise the error again: the caller knows what a reader that went away means."""
        raise  # called where it is handled


def out() -> EscapingConsole:
    """Return the console of data: stdout."""
    return EscapingConsole()


def err() -> EscapingConsole:
    """Return the console of messages: stderr."""
    return EscapingConsole(stderr=True)


def draws_in_place(
    *,
    plain: bool = False,
    live: bool = False,
    terminal: bool | None = None,
    environment: Mapping[str, str] = os.environ,
) -> bool:
    """Return whether to draw in place: on a terminal, unless plain lines are requested; in CI only with `live`."""
    if terminal is None:
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
    ci = environment.get("CI", "").lower() in ("true", "1") and not live
    return terminal and not plain and not ci and environment.get("TERM") != "dumb"


def say(message: object) -> None:
    """Print a message on stderr; lines after its first are indented. A terminal that hung up changes no exit code."""
    try:
        for line in indented(str(message)):
            err().print_line(line)
    except OSError:
        silence(sys.stderr)


def indented(message: str) -> list[str]:
    """Return the lines of a message, all but the first indented: a name that holds a line break starts no message."""
    first, *rest = message.splitlines() or [""]
    return [first, *(INDENT + line.removeprefix(INDENT) for line in rest)]


def silence(stream: TextIO) -> None:
    """Discard what is written to the stream from now on, and what could not be written: its reader is gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def prepare_streams() -> None:
    """Let stdout and stderr take any text: ASCII where the terminal shows no more, escapes for what they cannot encode.

    Rich and Typer draw their boxes by the encoding, too. A closed descriptor becomes the null device.
    """
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = "ascii" if ascii_only(stream.encoding) else stream.encoding
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
