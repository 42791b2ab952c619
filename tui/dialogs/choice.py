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

from tui.keys import bindings

Answer = tuple[str, str, str]  # the word that is returned, how it is called, what it means


class Choice(ModalScreen[str | None]):
    """Asks, and returns the word of the answer; None for going back."""

    DEFAULT_CSS = """
    Choice { align: center middle; }
    Choice > Vertical { width: 76; max-width: 96%; height: auto; max-height: 90%; padding: 1 2;
                        background: $surface; border: round $primary; border-title-style: bold; }
    Choice Static { height: auto; margin-bottom: 1; }
    Choice OptionList, Choice OptionList:focus { height: auto; max-height: 12; border: none; padding: 0;
                                                 background: $surface; background-tint: transparent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("back", footer=("back",))

    def __init__(self, title: str, said: str, answers: Sequence[Answer]) -> None:
        super().__init__()
        self.heading, self.said, self.answers = title, said, answers

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Text(self.heading)
            box.border_subtitle = "enter chooses, esc goes back"
            if self.said:
                yield Static(self.said, markup=False)
            wide = max(len(name) for _, name, _ in self.answers) + 2
            yield OptionList(
                *(
                    Option(Text.assemble((name.ljust(wide), "bold"), (meaning, "dim")), id=word)
                    for word, name, meaning in self.answers
                )
            )

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id)

    def action_back(self) -> None:
        self.dismiss(None)
