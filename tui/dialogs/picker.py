"""Ticks beside words: choose some of them, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from convnn.text import fit
from tui.keys import bound
from tui.widgets.virtual_list import Rows


class Ticks(Rows[tuple[str, str]]):
    """Words, each with what it means, and whether it is chosen."""

    BINDINGS: ClassVar[list[BindingType]] = bound("mark")

    def __init__(self, items: Sequence[tuple[str, str]], chosen: Sequence[str]) -> None:
        super().__init__()
        self.items, self.chosen = list(items), list(chosen)

    def on_mount(self) -> None:
        self.show(self.items)

    def paint(self, item: tuple[str, str], width: int) -> list[Text]:
        word, about = item
        sign = f"{self.chosen.index(word) + 1:>2} " if word in self.chosen else " · "
        line = Text().append(sign, f"bold {self.app.theme_variables['accent']}").append(f"{fit(word, 24):<24} ", "bold")
        return [line.append(fit(about, max(1, width - 29)), "dim not bold")]

    def action_mark(self) -> None:
        """Choose the word at the cursor, as the last one, or no longer."""
        if self.current is not None:
            word = self.current[0]
            self.chosen = [other for other in self.chosen if other != word] + [word] * (word not in self.chosen)
            self.action_down()
            self.refresh()


class Picking(ModalScreen[list[str] | None]):
    """Asks which of several words; None for going back."""

    DEFAULT_CSS = """
    Picking > Vertical { width: 76; max-width: 96%; height: 80%; padding: 1 2;
                         background: $surface; border: round $primary; border-title-style: bold; }
    Picking Ticks { height: 1fr; background: $surface; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bound("back")

    def __init__(self, title: str, items: Sequence[tuple[str, str]], chosen: Sequence[str]) -> None:
        super().__init__()
        self.heading, self.listed, self.begun = title, items, chosen

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Text(self.heading)
            box.border_subtitle = "space ticks, enter takes them, esc goes back"
            yield Ticks(self.listed, self.begun)

    @on(Rows.Opened)
    def take(self) -> None:
        self.dismiss(self.query_one(Ticks).chosen)

    def action_back(self) -> None:
        self.dismiss(None)
