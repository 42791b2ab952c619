"""A list with checks: choose some of its items, in an order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from convnn.text import escaped, fit, padded
from tui.keys import bindings
from tui.widgets.virtual_list import VirtualList

NAME_WIDTH = (24, 44)  # cells, at least and at most


class CheckList(VirtualList[tuple[str, str]]):
    """Names with what they mean; the chosen ones are numbered in the order of choosing."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("mark")

    def __init__(self, items: Sequence[tuple[str, str]], chosen: Sequence[str]) -> None:
        super().__init__()
        self.items, self.chosen = list(items), list(chosen)
        low, high = NAME_WIDTH
        self.name_width = max(low, min(high, max((cell_len(escaped(name)) for name, _ in items), default=0)))

    def on_mount(self) -> None:
        self.set_items(self.items)

    def render_item(self, item: tuple[str, str], width: int) -> list[Text]:
        name, meaning = item
        check = " · "
        if name in self.chosen:
            check = f"{self.chosen.index(name) + 1:>2} "
        line = Text().append(check, f"bold {self.app.theme_variables['accent']}")
        line.append(padded(escaped(name), self.name_width) + " ", "bold")
        return [line.append(fit(escaped(meaning), max(1, width - self.name_width - 5)), "dim not bold")]

    def action_mark(self) -> None:
        """Choose the name under the cursor as the last one, or take it out."""
        if self.current is None:
            return
        name = self.current[0]
        if name in self.chosen:
            self.chosen.remove(name)
        else:
            self.chosen.append(name)
        self.action_move_row(1)
        self.refresh()


class Picker(ModalScreen[list[str] | None]):
    """Return the chosen names, or None after esc; with `at_least_one`, the name at the cursor where none is chosen."""

    DEFAULT_CSS = """
    Picker > Vertical { width: 76; max-width: 96%; height: auto; max-height: 80%; padding: 1 2;
                        background: $surface; border: round $primary; border-title-style: bold; }
    Picker CheckList { height: auto; max-height: 100%; background: $surface; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("back")

    def __init__(
        self, question: str, items: Sequence[tuple[str, str]], chosen: Sequence[str], *, at_least_one: bool = False
    ) -> None:
        super().__init__()
        self.question, self.items, self.chosen_at_start = question, items, chosen
        self.at_least_one = at_least_one

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Text(self.question)
            box.border_subtitle = "space checks, enter accepts, esc goes back"
            yield CheckList(self.items, self.chosen_at_start)

    @on(VirtualList.Opened)
    def _accept(self, event: VirtualList.Opened) -> None:
        chosen = self.query_one(CheckList).chosen
        self.dismiss([event.item[0]] if self.at_least_one and not chosen else chosen)

    def action_back(self) -> None:
        self.dismiss(None)
