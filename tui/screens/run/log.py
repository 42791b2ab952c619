"""The log pane: events in words, and what was printed, line by line."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from rich.text import Text
from textual.app import ComposeResult
from textual.widgets import RichLog

from convnn.events import Event
from convnn.runs.history import History
from convnn.terminal.report import event_line
from convnn.text import escaped
from tui.screens.run.pane import Changes, Pane, tone_style

MAX_LINES = 1000
PLACEHOLDER = "events of the run, and whatever it prints, appear here"
LOGGED_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} ")


class LogLine(NamedTuple):
    """A line with its time, in seconds since 1970, and its style."""

    time: float
    text: str
    style: str


class LogPane(Pane, can_focus=False):
    """Events in words, and everything that the trainer or a library printed."""

    ID = "log"
    TITLE = "log"
    HELP = (
        "The events of the run, and everything that the trainer, a library or C code printed, from log.txt; of a run "
        "that Slurm trains the output of its job, too. The pane follows the end while the end is in view: scroll up to "
        "stay, press end to follow again."
    )
    MIN_HEIGHT = 5
    DEFAULT_CSS = """
    LogPane > RichLog { background: transparent; padding: 0 0 0 1; overflow-y: auto; scrollbar-size: 0 1; }
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._lines: deque[Text] = deque(maxlen=MAX_LINES)
        self._last_time = 0.0
        self._width = 0

    def compose(self) -> ComposeResult:
        yield RichLog(max_lines=MAX_LINES, wrap=True, min_width=0)

    def on_resize(self) -> None:
        width = self.query_one(RichLog).scrollable_content_region.width
        if width != self._width:  # lines are wrapped when they are written
            self._width = width
            self.query_one(RichLog).clear()
            self._write(self._lines or [Text(PLACEHOLDER, "dim")], follow=True)

    def _write(self, lines: Iterable[Text], follow: bool) -> None:
        if self._width <= 0:
            return
        log = self.query_one(RichLog)
        for line in lines:
            if line.cell_len > self._width:  # with single spaces it may fit
                line = Text(line.plain.replace("  ", " "), line.style)
            log.write(line, width=self._width, scroll_end=follow)

    def show(self, history: History, changes: Changes) -> None:
        """Add the new events and printed lines, in the order of time where it is known."""
        lines = [line for event in changes.events if (line := self._event_line(event, history))]
        time = self._last_time
        if lines and not time:
            time = lines[0].time
        for text in changes.log_lines:
            if match := LOGGED_TIME.match(text):
                time = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").timestamp() + 0.999
            lines.append(LogLine(time, text, "dim"))
        if not lines:
            return
        lines.sort(key=lambda line: line.time)
        self._last_time = max(self._last_time, lines[-1].time)
        texts = [Text(escaped(line.text.replace("\n", " ")), line.style) for line in lines[-MAX_LINES:]]
        if not self._lines:
            self.query_one(RichLog).clear()
        self._lines += texts
        self._write(texts, follow=self.query_one(RichLog).is_vertical_scroll_end)

    def _event_line(self, event: Event, history: History) -> LogLine | None:
        text, tone = event_line(event, history)
        if not text:
            return None
        local_time = event.time.astimezone()
        return LogLine(event.time.timestamp(), f"{local_time:%H:%M:%S}  {text}", tone_style(self, tone))
