"""The panes of the run screen: what each of them is given, and a pane of names and values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from convnn.events import Event
from convnn.runs.history import History
from convnn.runs.run import Run
from convnn.runs.status import STATUSES
from convnn.terminal.report import Tone
from convnn.text import escaped, fit, padded

PANE_KEYS = "123456789L"  # that show and hide the panes, by their numbers from 1; a pane after them has none
PANE_KEYS_TEXT = "1 to 9 and L"


@dataclass(frozen=True)
class Changes:
    """What is new in a run since the panes were shown last."""

    run: Run
    status: str  # a key of convnn.runs.status.STATUSES
    events: Sequence[Event] = ()
    log_lines: Sequence[str] = ()
    host: str | None = None  # the other node that trains it

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes: also when the process died."""
        return not STATUSES[self.status].is_live


class Pane(Widget, can_focus=True):
    """A part of the run screen, numbered by its place in the screen's table."""

    DEFAULT_CLASSES = "pane"
    ID: ClassVar[str]
    TITLE: ClassVar[str]
    HELP: ClassVar[str]  # for the help of the focused pane
    MIN_HEIGHT: ClassVar[int] = 8  # lines that it needs, with its border
    IS_SECONDARY: ClassVar[bool] = False  # hidden at first on a terminal of few lines
    STARTS_HIDDEN: ClassVar[bool] = False  # hidden at first on any terminal

    def __init__(self, number: int) -> None:
        super().__init__(id=self.ID)
        self.key = PANE_KEYS[number - 1 : number]
        self.border_title = Text(f"{self.key} {self.TITLE}".lstrip())
        self.help_title = self.TITLE

    def show(self, history: History, changes: Changes) -> None:
        """Show a run: everything that happened so far, and what of it is new."""
        raise NotImplementedError


def tone_style(widget: Widget, tone: Tone) -> str:
    if tone in ("", "bold", "dim"):
        return tone
    color = widget.app.theme_variables[tone]
    return f"bold {color}" if tone == "error" else color


class TextPane(Pane, VerticalScroll):
    """A pane of names and values, one pair a line; it scrolls."""

    # Textual takes default styles from the first base class alone, and so no overflow from VerticalScroll
    DEFAULT_CSS = "TextPane { padding: 0 0 0 1; overflow: hidden auto; } TextPane > Static { height: auto; }"
    PLACEHOLDER: ClassVar[str]

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._pairs: list[tuple[str, str]] = []
        self._line_count = -1

    def compose(self) -> ComposeResult:
        yield Static(Text(self.PLACEHOLDER, "dim"))

    def on_resize(self) -> None:
        self._update()

    def write(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Show these names and values; a name without a value is a heading."""
        pairs = list(pairs)
        if pairs != self._pairs:
            self._pairs = pairs
            self._update()

    def _update(self) -> None:
        if self._pairs and self.is_mounted:
            text = table(self._pairs, self.scrollable_content_region.width)
            line_count = text.plain.count("\n")
            # a new layout draws the whole screen
            self.query_one(Static).update(text, layout=line_count != self._line_count)
            self._line_count = line_count


def table(pairs: Iterable[tuple[str, str]], width: int) -> Text:
    """Names, dim, in a column and values beside them, each cut to the width; headings are wrapped."""
    pairs = [(escaped(name), escaped(value)) for name, value in pairs]
    column = min(max((cell_len(name) for name, value in pairs if value), default=0) + 2, max(8, width // 2))
    lines = []
    for name, value in pairs:
        if not value:
            lines += [Text(part, "bold") for part in wrap(name, max(8, width))]
            continue
        lines.append(Text.assemble((padded(name, column - 1) + " ", "dim"), fit(value, max(1, width - column))))
    return Text("\n", no_wrap=True).join(lines)
