"""A question that is answered with a line of text."""

from __future__ import annotations

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from convnn.text import escaped
from tui.keys import bindings


class Prompt(ModalScreen[str | None]):
    """Return the text, which is not empty, or None after esc."""

    DEFAULT_CSS = """
    Prompt > Vertical { width: 76; max-width: 96%; height: auto; padding: 1 2;
                        background: $surface; border: round $primary; border-title-style: bold; }
    Prompt Input { background: $panel; padding: 0 1; }
    """
    BINDINGS = bindings("back", footer=("back",))

    def __init__(self, question: str, placeholder: str) -> None:
        super().__init__()
        self.question, self.placeholder = question, placeholder

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Text(escaped(self.question))
            box.border_subtitle = "enter accepts, esc goes back"
            yield Input(placeholder=self.placeholder, compact=True)

    @on(Input.Submitted)
    def _accept(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self.dismiss(event.value)

    def action_back(self) -> None:
        self.dismiss(None)
