"""Help for the focused pane: what it shows, and every key that does something there."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.keys import bindings


class HelpScreen(ModalScreen[None]):
    """What a pane is about, and its keys."""

    DEFAULT_CSS = """
    HelpScreen > #help { width: 76; max-width: 96%; height: auto; max-height: 92%; padding: 1 2;
                         scrollbar-size-vertical: 1; border: round $primary; background: $surface; }
    HelpScreen #help-text { margin-bottom: 1; }
    """
    BINDINGS = bindings("back", "help", "leave")

    def __init__(self, pane: str, text: str | Text, keys: Iterable[tuple[str, Binding]]) -> None:
        super().__init__()
        self.pane, self.text, self.keys = pane, text, list(keys)

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help") as box:
            box.border_title = self.pane
            box.border_subtitle = "esc closes"
            yield Static(self.text, markup=False, id="help-text")
            yield Static(self._key_table(), markup=False)

    def on_mount(self) -> None:
        self.query_one("#help").focus()

    def _key_table(self) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        for key, binding in self.keys:
            table.add_row(Text(key, "bold", no_wrap=True), Text(binding.tooltip or binding.description))
        return table

    def action_back(self) -> None:
        self.dismiss()

    action_help = action_leave = action_back
