"""What happened and what was printed, line by line."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from datetime import datetime

from rich.text import Text
from textual.app import ComposeResult
from textual.widgets import RichLog

from convnn.events import Changed, Epoch, Event, Finished, Paused, Resumed, Saved, Started, Warned
from convnn.runs.history import History
from convnn.terminal.report import epoch_line
from convnn.text import duration, escaped, printable
from tui.screens.run.pane import Pane

MOST = 1000  # lines that are kept
EMPTY = "what happens in the run, and what it prints, appears here"
STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} ")
Line = tuple[float, str, str]  # seconds since 1970, words, how they look


class LogPane(Pane, can_focus=False):
    """Events in words, and whatever the run or a library printed."""

    TITLE = "log"
    HELP = (
        "What happened in the run, and everything that the trainer, a library or C code printed, from log.txt. It "
        "follows the end while the end is in view: scroll up to stay, press end to follow again."
    )
    DEFAULT_CSS = """
    LogPane > RichLog { background: transparent; padding: 0 0 0 1; overflow-y: auto; scrollbar-size: 0 1; }
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.history = History()
        self._lines: deque[Text] = deque(maxlen=MOST)
        self._last = 0.0  # when the latest line was said
        self._width = 0

    def compose(self) -> ComposeResult:
        yield RichLog(max_lines=MOST, wrap=True, min_width=0)

    def on_resize(self) -> None:
        width = self.query_one(RichLog).scrollable_content_region.width
        if width != self._width:  # lines are wrapped when they are written
            self._width = width
            self.query_one(RichLog).clear()
            self._write(self._lines or [Text(EMPTY, "dim")], follow=True)

    def _write(self, lines: Iterable[Text], follow: bool) -> None:
        log = self.query_one(RichLog)
        for line in lines if self._width > 0 else ():
            if line.cell_len > self._width:  # the same with less air may fit
                line = Text(line.plain.replace("  ", " "), line.style)
            log.write(line, width=self._width, scroll_end=follow)

    def show(self, history: History) -> None:
        self.history = history

    def tell(self, events: Iterable[Event], printed: Iterable[str]) -> None:
        """Add what happened and what was printed since the last call, in the order of time where that is known."""
        lines = [line for event in events if (line := self._line(event))]
        since = lines[0][0] if lines and not self._last else self._last
        for text in printed:
            if stamp := STAMP.match(text):
                since = datetime.strptime(stamp[1], "%Y-%m-%d %H:%M:%S").timestamp() + 0.999
            lines.append((since, text, "dim"))
        told: list[Text] = []
        for time, text, style in sorted(lines, key=lambda line: line[0])[-MOST:]:
            self._last = max(self._last, time)
            plain = printable(escaped(text.replace("\n", " ")), getattr(self.app, "ascii", False))
            told.append(Text(plain, style))
        if told and not self._lines:
            self.query_one(RichLog).clear()
        self._lines += told
        self._write(told, follow=self.query_one(RichLog).is_vertical_scroll_end)

    def _line(self, event: Event) -> Line | None:
        words, style = self._words(event)
        if not words:
            return None
        local = event.time.astimezone()
        return event.time.timestamp(), f"{local:%H:%M:%S}  {words}", style

    def _words(self, event: Event) -> tuple[str, str]:
        colours = self.app.theme_variables
        match event:
            case Started():
                return f"started on {event.device}", ""
            case Epoch():
                return epoch_line(event, self.history), ""
            case Saved():
                return f"saved {event.path}", "dim"
            case Paused():
                return f"paused in epoch {event.epoch}, after step {event.step}", colours["warning"]
            case Resumed():
                return f"resumed in epoch {event.epoch}, after step {event.step}  {event.note}", colours["warning"]
            case Changed():
                return f"changed: {event.what}", colours["warning"]
            case Warned():
                return f"warning: {event.message}", colours["warning"]
            case Finished():
                wrong = event.outcome in ("failed", "diverged")
                cause = f": {event.cause}" if event.cause else ""
                took = f" in {duration(self.history.elapsed)}" if self.history.elapsed else ""
                return f"{event.outcome}{took}{cause}", f"bold {colours['error']}" if wrong else "bold"
        return "", ""
