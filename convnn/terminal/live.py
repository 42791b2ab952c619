"""`convnn run` in a terminal: progress, loss and accuracy drawn in place; elsewhere plain lines or JSON."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from convnn.events import Event, Finished
from convnn.runs.history import History
from convnn.terminal.console import draws_in_place, out, silence
from convnn.terminal.panes import STYLES, CurvePanes, pair_lines, status_text
from convnn.terminal.plain_view import JsonLines, PlainLines, RunView
from convnn.terminal.report import ProgressBar, followed_status, key_values, progress_bars, status_sentence
from convnn.text import fit, one_line

FRAME_SECONDS = 0.25  # between two frames, at least
DRAWING_SHARE = 50  # a frame that took t seconds is followed by none for 50 t: drawing costs training under 2 %
SMALLEST = (60, 15)
SHORTEST_BAR, LONGEST_BAR = 4, 60  # columns
NOTES_ROOM = 30  # columns, so that the bar keeps its length while times become longer
BAR_COLOR = "#2f86d6"
STOP_HINT = "ctrl+c stops after this step, to be resumed; twice within 3 s stops at once"
FOLLOW_HINT = "ctrl+c ends this view; the run continues"
RESUME_HINT = "resume it in convnn tui"


def run_view(
    name: str,
    about: str = "",
    *,
    history: History | None = None,
    plain: bool = False,
    json: bool = False,
    live: bool = False,
    hint: str = STOP_HINT,
) -> RunView:
    """Return the view of the run `name` that fits this process.

    `about` says what the run is, and `hint` what ctrl+c does; the caller folds each event into `history` before it
    shows it.
    """
    if json:
        return JsonLines()
    if draws_in_place(plain=plain, live=live):
        return LiveView(name, about, history=history, hint=hint)
    return PlainLines(name, about, history)


class LiveView(RunView):
    """The run drawn in place, at most four times a second; the last frame stays when it ends."""

    def __init__(
        self,
        name: str,
        about: str = "",
        *,
        history: History | None = None,
        console: Console | None = None,
        hint: str = STOP_HINT,
    ) -> None:
        self.console = console or out()
        self.hint = hint
        self.name, self.about = one_line(name), one_line(about)
        self.history = history or History()
        self._live: Live | None = None
        self._size = self.console.size
        self._next_frame = 0.0  # on the monotonic clock

    def __enter__(self) -> Self:
        self._live = self._start()
        self._draw()
        return self

    def __exit__(self, *exception: object) -> None:
        self._draw()
        if self._live is None:
            return
        try:
            self._live.stop()
            for note in self.history.remarks:
                self.console.print(Text(f"note: {one_line(note.message)}"))
            for warning in self.history.warnings:
                self.console.print(Text(f"warning: {one_line(warning.message)}", STYLES["warning"]))
        except OSError:  # the terminal hung up
            silence(self.console.file)  # type: ignore[arg-type]

    def show(self, event: Event, line: str = "") -> None:
        """Draw if the last frame is long enough ago or the run ended."""
        if time.monotonic() >= self._next_frame or isinstance(event, Finished):
            self._draw()

    def restore(self) -> None:
        """Make the cursor visible below the last frame."""
        with suppress(OSError):  # hung up: nothing is left to restore
            os.write(self.console.file.fileno(), b"\r\n\x1b[?25h")

    def frame(self) -> Group:
        """Return the picture of this moment, a line less than the terminal is high."""
        width, height = self.console.size
        values = [Text.assemble(" ", line, no_wrap=True) for line in pair_lines(key_values(self.history), width - 2, 2)]
        bars = _bar_lines(progress_bars(self.history, followed_status(self.history)), width)
        header, footer = [self._title(width), *bars], [*values, self._status(width)]
        if width < SMALLEST[0] or height < SMALLEST[1]:
            too_small = f"the curves need a terminal of {SMALLEST[0]}x{SMALLEST[1]}, this is {width}x{height}"
            return Group(*[*header, *footer, Text(fit(too_small, width), "dim")][: max(1, height - 1)])
        panes: RenderableType = CurvePanes(self.history, height - 1 - len(header) - len(footer))
        return Group(*header, panes, *footer)

    def _title(self, width: int) -> Text:
        title = Text.assemble(" ", status_text(followed_status(self.history)), "  ", no_wrap=True)
        title.append(fit(self.name, width - title.cell_len - 1), "bold")
        space = width - title.cell_len - cell_len(self.about) - 1
        if self.about and space >= 2:
            title.append(" " * space + self.about, "dim")
        return title

    def _status(self, width: int) -> Text:
        """Return how the run ended, or its latest warning, or which key stops it."""
        sentence, tone = status_sentence(self.history, followed_status(self.history))
        if self.history.paused:
            sentence += f": {RESUME_HINT}"
        if not sentence:
            sentence, tone = self.hint, "dim"
        return Text(" " + fit(sentence, width - 2), STYLES[tone], no_wrap=True)

    def _start(self) -> Live:
        # without a refresh thread: frames are drawn by the thread that trains, when something happened
        live = Live(console=self.console, auto_refresh=False, vertical_overflow="crop")
        live.start()
        return live

    def _draw(self) -> None:
        if self._live is None:
            return
        start = time.perf_counter()
        try:
            if self.console.size != self._size:  # the terminal wrapped the lines anew: what to overwrite is unknown
                self._size = self.console.size
                self._live.transient = True
                self._live.stop()
                self.console.clear()
                self._live = self._start()
            self._live.update(self.frame(), refresh=True)
        except OSError:  # the terminal hung up: training goes on until the signal ends it
            silence(self.console.file)  # type: ignore[arg-type]
        self._next_frame = time.monotonic() + max(FRAME_SECONDS, DRAWING_SHARE * (time.perf_counter() - start))


def _bar_lines(bars: Sequence[ProgressBar], width: int) -> list[Text]:
    """Return a line per bar, of one length, which leaves room for what stands beside them."""
    counts = [f"{bar.done}/{bar.total or '?'}" for bar in bars]
    count_width = max(11, *map(len, counts))
    room = width - len(" epoch   100%   ") - count_width
    notes = [_fitting(bar.notes, room - SHORTEST_BAR) for bar in bars]
    length = max(SHORTEST_BAR, min(LONGEST_BAR, room - max(NOTES_ROOM, *map(cell_len, notes))))
    lines = []
    for bar, count, note in zip(bars, counts, notes, strict=True):
        filled = round(bar.fraction * length)
        line = Text(f" {bar.name:<6}", no_wrap=True)
        line.append("━" * filled, BAR_COLOR).append("─" * (length - filled), "dim")
        lines.append(line.append(f" {count:>{count_width}} {bar.fraction:>4.0%}   ", "bold").append(note))
    return lines


def _fitting(notes: Sequence[str], width: int) -> str:
    """Return the notes beside a bar; where there is no room for all, the last ones, such as the time left."""
    texts = ["", *("   ".join(notes[start:]) for start in range(len(notes)))]
    return next((text for text in texts[1:] if cell_len(text) <= width), texts[-1])
