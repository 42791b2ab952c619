"""`convnn run` in a terminal: progress, loss and accuracy drawn in place; elsewhere plain lines or JSON."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live as Screen
from rich.text import Text

from convnn.events import Event, Finished
from convnn.runs.history import History
from convnn.terminal.lines import Json, Plain, silence
from convnn.terminal.report import curves, figures, packed, state_of, state_text
from convnn.text import ascii_only, duration, escaped, fit, number, printable

FRAME = 0.25  # seconds between two frames, at least
SHARE = 50  # a frame that took t seconds is followed by none for 50 t: drawing costs training under 2 %
SMALLEST = (60, 15)
HINT = "ctrl+c stops after this step, to be resumed; twice within 3 s stops at once"


class View(Protocol):
    """Somebody who is told what happens in a run and shows it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, event: Event) -> None:
        """Show that this happened. Never raises because nobody can see it."""

    def restore(self) -> None:
        """Leave the terminal usable, from any thread, when the process is about to end at once."""


def view(
    name: str,
    about: str = "",
    *,
    history: History | None = None,
    plain: bool = False,
    json: bool = False,
    live: bool = False,
) -> View:
    """The way to show the run `name` here; `about` says what it is, `history` what happened before this process."""
    if json:
        return Json()
    if draws(plain=plain, live=live):
        return Live(name, about, history=history)
    return Plain(name, about, history)


def draws(
    *,
    plain: bool = False,
    live: bool = False,
    terminal: bool | None = None,
    environment: Mapping[str, str] = os.environ,
) -> bool:
    """Whether to draw in place: on a terminal, unless plain lines are asked for; in CI only where live is."""
    if terminal is None:
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
    ci = environment.get("CI", "").lower() in ("true", "1") and not live
    return terminal and not plain and not ci and environment.get("TERM") != "dumb"


class Live:
    """The run drawn in place, at most four times a second; the last frame stays when it ends."""

    def __init__(
        self, name: str, about: str = "", *, history: History | None = None, console: Console | None = None
    ) -> None:
        self.console = console or Console(highlight=False)
        self.ascii = ascii_only(self.console.encoding)
        self.name, self.about = (printable(escaped(word), self.ascii) for word in (name, about))
        self.history = history or History()
        self._screen: Screen | None = None
        self._size = self.console.size
        self._next = 0.0  # when the next frame may be drawn

    def __enter__(self) -> Self:
        self._screen = self._start()
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw()
        if self._screen is None:
            return
        try:
            self._screen.stop()
            for warning in self.history.warnings:
                self.console.print(Text(f"warning: {printable(escaped(warning.message), self.ascii)}", "yellow"))
        except OSError:  # the terminal hung up: nobody is left to tell
            silence(self.console.file)  # type: ignore[arg-type]

    def show(self, event: Event) -> None:
        """Take in what happened; draw it if the last frame is long enough ago or the run ended."""
        self.history.fold([event])
        if time.monotonic() >= self._next or isinstance(event, Finished):
            self._draw()

    def restore(self) -> None:
        """Make the cursor visible below the last frame; of use when the process ends without leaving the view."""
        with suppress(OSError):  # hung up: nothing is left to restore
            os.write(self.console.file.fileno(), b"\r\n\x1b[?25h")

    def frame(self) -> Group:
        """The picture of this moment, a line less than the terminal is high."""
        width, height = self.console.size
        known = packed(figures(self.history), width - 2, 2, ascii=self.ascii)
        head, foot = [self._title(width), *self._bars(width)], [*_indented(known), self._status(width)]
        room = height - 1 - len(head) - len(foot)
        if (width, height) < SMALLEST or height < SMALLEST[1]:
            too_small = f"the curves need a terminal of {SMALLEST[0]}x{SMALLEST[1]}, this is {width}x{height}"
            return Group(*[*head, *foot, Text(fit(too_small, width, self.ascii), "dim")][: max(1, height - 1)])
        panes = curves(self.history, width, room, ascii=self.ascii)
        return Group(*head, *panes, *foot)

    def _title(self, width: int) -> Text:
        state = state_text(state_of(self.history), self.ascii)
        title = Text.assemble(" ", state, "  ", no_wrap=True)
        title.append(fit(self.name, width - title.cell_len - 1, self.ascii), "bold")
        space = width - title.cell_len - cell_len(self.about) - 1
        return title.append(" " * space + self.about, "dim") if self.about and space >= 2 else title

    def _bars(self, width: int) -> list[Text]:
        p, recent = self.history.progress, self.history.series("images_per_s", live=True)[1]
        done, of = p.step_in_epoch, p.steps_per_epoch
        times = [f"{duration(p.elapsed)} so far"] if p.elapsed else []
        times += [f"eta {duration(p.eta)}"] if p.eta else []
        share = p.step / p.steps if p.steps else 0.0
        speed = [f"{number(recent[-1])} images/s"] if recent else []
        return [
            self._bar("epoch", share, f"{p.epoch}/{p.epochs or '?'}", "   ".join(times), width),
            self._bar("step", done / of if of else 0.0, f"{done}/{of or '?'}", "   ".join(speed), width),
        ]

    def _bar(self, name: str, share: float, count: str, more: str, width: int) -> Text:
        full, empty = "#-" if self.ascii else "━─"
        length = max(4, min(60, width - 49))
        filled = round(min(1.0, max(0.0, share)) * length)
        text = Text(f" {name:<6}", no_wrap=True)
        text.append(full * filled, "#2f86d6").append(empty * (length - filled), "dim")
        return text.append(f" {count:>11} {share:>4.0%}   ", "bold").append(more)

    def _status(self, width: int) -> Text:
        """How it ended, or the latest warning, or which key stops it."""
        history, style = self.history, "dim"
        if history.finished:
            cause = f": {history.finished.cause}" if history.finished.cause else ""
            said, style = f"{history.finished.outcome} in {duration(history.elapsed)}{cause}", "bold"
        elif history.warnings:
            count = f"{len(history.warnings)} warnings, the last: " if len(history.warnings) > 1 else "warning: "
            said, style = count + history.warnings[-1].message, "yellow"
        elif history.started is None:
            said = "loading the data and building the model"
        else:
            said = HINT
        return Text(" " + fit(printable(escaped(said), self.ascii), width - 2, self.ascii), style, no_wrap=True)

    def _start(self) -> Screen:
        # without a refresh thread: frames are drawn by the thread that trains, when something happened
        screen = Screen(console=self.console, auto_refresh=False, vertical_overflow="crop")
        screen.start()
        return screen

    def _draw(self) -> None:
        if self._screen is None:
            return
        began = time.perf_counter()
        try:
            if self.console.size != self._size:  # lines have been wrapped anew: what to overwrite is unknown
                self._size = self.console.size
                self._screen.transient = True
                self._screen.stop()
                self.console.clear()
                self._screen = self._start()
            self._screen.update(self.frame(), refresh=True)
        except OSError:  # the terminal hung up: training goes on until the signal ends it
            silence(self.console.file)  # type: ignore[arg-type]
        self._next = time.monotonic() + max(FRAME, SHARE * (time.perf_counter() - began))


def _indented(lines: list[Text]) -> list[Text]:
    return [Text.assemble(" ", line, no_wrap=True) for line in lines]
