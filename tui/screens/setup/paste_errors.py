"""The dialog that lists which parts of a pasted command were not understood; nothing of it was applied."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from convnn.errors import Problem
from convnn.text import escaped
from tui.keys import bindings


class PasteErrors(ModalScreen[None]):
    """The problems of a pasted command."""

    BINDINGS = bindings("back", "open", footer=("back",))
    DEFAULT_CSS = """
    PasteErrors > VerticalScroll { width: 74; max-width: 96%; height: auto; max-height: 90%; padding: 1 2;
                                   background: $surface; border: round $error; border-title-style: bold; }
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__()
        self.problems = problems

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = "nothing was changed"
            box.border_subtitle = "esc closes"
            yield Static(self._text(), markup=False)

    def _text(self) -> Text:
        text = Text()
        for problem in self.problems:
            text.append(f"{escaped(problem.message)}\n", "bold")
            if problem.fix:
                text.append(f"  → {escaped(problem.fix)}\n")
        return text

    def action_back(self) -> None:
        self.dismiss()

    action_open = action_back
