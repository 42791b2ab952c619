"""A question with a few answers, each a line with what it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from convnn.text import escaped
from tui.keys import bindings

Answer = tuple[str, str, str]  # the result of the dialog, the label, what it means


class Choice(ModalScreen[str | None]):
    """Ask a question and return the first item of the chosen answer, or None after esc."""

    DEFAULT_CSS = """
    Choice { align: center middle; }
    Choice > Vertical { width: 76; max-width: 96%; height: auto; max-height: 90%; padding: 1 2;
                        background: $surface; border: round $primary; border-title-style: bold; }
    Choice Static { height: auto; margin-bottom: 1; }
    Choice OptionList, Choice OptionList:focus { height: auto; max-height: 12; border: none; padding: 0;
                                                 background: $surface; background-tint: transparent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("back", footer=("back",))

    def __init__(self, question: str, message: str, answers: Sequence[Answer]) -> None:
        super().__init__()
        self.question, self.message, self.answers = question, message, answers

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Text(escaped(self.question))
            box.border_subtitle = "enter chooses, esc goes back"
            if self.message:
                yield Static(escaped(self.message), markup=False)
            label_width = max(len(label) for _, label, _ in self.answers) + 2
            yield OptionList(
                *(
                    Option(Text.assemble((label.ljust(label_width), "bold"), (meaning, "dim")), id=result)
                    for result, label, meaning in self.answers
                )
            )

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id)

    def action_back(self) -> None:
        self.dismiss(None)
