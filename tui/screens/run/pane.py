"""What every pane of the run screen is."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from convnn.runs.history import History
from convnn.text import escaped, fit, printable


class Pane(Widget, can_focus=True):
    """A part of the run screen. It is told what happened; it asks nobody."""

    DEFAULT_CLASSES = "pane"
    HELP: ClassVar[str]  # what it shows, for the help of the focused pane
    TITLE: ClassVar[str]

    def __init__(self, number: int) -> None:
        super().__init__(id=self.TITLE.partition(" ")[0].strip(","))
        self.border_title = Text(f"{number} {self.TITLE}")  # the key that hides it
        self.help_title = self.TITLE

    def show(self, history: History) -> None:
        """Show what happened in a run so far."""
        raise NotImplementedError


class WordsPane(Pane, VerticalScroll):
    """A pane of words and figures, a name and a value a line; longer ones scroll."""

    DEFAULT_CSS = "WordsPane { padding: 0 0 0 1; scrollbar-size-vertical: 1; } WordsPane > Static { height: auto; }"
    SAID_WHEN_EMPTY: ClassVar[str]

    def compose(self) -> ComposeResult:
        yield Static(Text(self.SAID_WHEN_EMPTY, "dim"))

    def on_mount(self) -> None:
        self._pairs: list[tuple[str, str]] = []
        self._lines = -1

    def on_resize(self) -> None:
        self._write()

    def tell(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Show these names and values; a name alone is a heading, a value alone goes under the one before."""
        if (told := list(pairs)) != self._pairs:
            self._pairs = told
            self._write()

    def _write(self) -> None:
        if self._pairs and self.is_mounted:
            ascii = getattr(self.app, "ascii", False)
            text = table(self._pairs, self.scrollable_content_region.width, ascii)
            lines = text.plain.count("\n")
            self.query_one(Static).update(text, layout=lines != self._lines)  # a new layout draws the whole screen
            self._lines = lines


def table(pairs: Iterable[tuple[str, str]], width: int, ascii: bool = False) -> Text:
    """Names, dim, in a column and values beside them, each cut to the width; headings are wrapped."""
    pairs = [(printable(escaped(name), ascii), printable(escaped(value), ascii)) for name, value in pairs]
    column = min(max((cell_len(name) for name, value in pairs if value), default=0) + 2, max(8, width // 2))
    lines = []
    for name, value in pairs:
        if not value:
            lines += [Text(part, "bold") for part in wrap(name, max(8, width))]
            continue
        name = fit(name, column - 1, ascii)
        space = " " * (column - cell_len(name))
        lines.append(Text.assemble((name + space, "dim"), fit(value, max(1, width - column), ascii)))
    return Text("\n", no_wrap=True).join(lines)
