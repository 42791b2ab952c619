"""CheckList beside words: choose some of them, in their order."""

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
from tui.keys import bindings
from tui.widgets.virtual_list import VirtualList


class CheckList(VirtualList[tuple[str, str]]):
    """Words, each with what it means, and whether it is chosen."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("mark")

    def __init__(self, items: Sequence[tuple[str, str]], chosen: Sequence[str]) -> None:
        super().__init__()
        self.items, self.chosen = list(items), list(chosen)

    def on_mount(self) -> None:
        self.set_items(self.items)

    def render_item(self, item: tuple[str, str], width: int) -> list[Text]:
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


class Picker(ModalScreen[list[str] | None]):
    """Asks which of several words; None for going back."""

    DEFAULT_CSS = """
    Picker > Vertical { width: 76; max-width: 96%; height: 80%; padding: 1 2;
                         background: $surface; border: round $primary; border-title-style: bold; }
    Picker CheckList { height: 1fr; background: $surface; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("back")

    def __init__(self, title: str, items: Sequence[tuple[str, str]], chosen: Sequence[str]) -> None:
        super().__init__()
        self.heading, self.listed, self.begun = title, items, chosen

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Text(self.heading)
            box.border_subtitle = "space ticks, enter takes them, esc goes back"
            yield CheckList(self.listed, self.begun)

    @on(VirtualList.Opened)
    def take(self) -> None:
        self.dismiss(self.query_one(CheckList).chosen)

    def action_back(self) -> None:
        self.dismiss(None)
