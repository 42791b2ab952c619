"""A question with a few answers, each a line with what it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from convnn.text import escaped
from tui.keys import bindings

Answer = tuple[str, str, str]  # the result of the dialog, the label, what it means
CURRENT = "●"  # at the label of the present value


class Choice(ModalScreen[str | None]):
    """Ask a question and return the first item of the chosen answer, or None after esc.

    A question about a value opens on its present one, `current`, and marks it. A letter moves the cursor to the next
    answer that begins with it; `letter` does so at once. With `marked`, space marks several answers and the result is
    all of them with commas between; without a mark it is the one under the cursor.
    """

    DEFAULT_CSS = """
    Choice { align: center middle; }
    Choice > Vertical { width: 76; max-width: 96%; height: auto; max-height: 90%; padding: 1 2;
                        background: $surface; border: round $primary; border-title-style: bold; }
    Choice Static { height: auto; margin-bottom: 1; }
    Choice OptionList, Choice OptionList:focus { height: auto; max-height: 12; border: none; padding: 0;
                                                 background: $surface; background-tint: transparent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("back", "mark-answer", footer=("back",))

    def __init__(
        self,
        question: str,
        message: str,
        answers: Sequence[Answer],
        *,
        current: str | None = None,
        letter: str = "",
        marked: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.question, self.message, self.answers = question, message, answers
        self.current, self.letter = current, letter
        self.marked = None if marked is None else set(marked)

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Text(escaped(self.question))
            marks = "" if self.marked is None else "space marks, "
            box.border_subtitle = f"{marks}enter chooses, esc goes back"
            if self.message:
                yield Static(escaped(self.message), markup=False)
            yield OptionList(*(Option(line) for line in self._lines()))

    def _lines(self) -> list[Table]:
        """Return a label with its meaning for each answer; a long meaning has its lines below each other."""
        labels = [Text.assemble(self._sign(result), (escaped(label), "bold")) for result, label, _ in self.answers]
        width = max(label.cell_len for label in labels)
        lines = []
        for label, (_, _, meaning) in zip(labels, self.answers, strict=True):
            line = Table.grid(padding=(0, 2, 0, 0))
            line.add_column(no_wrap=True, min_width=width)
            line.add_row(label, Text(escaped(meaning), "dim"))
            lines.append(line)
        return lines

    def _sign(self, result: str) -> str:
        """Return whether an answer is marked or, where one of them is the present one, that it is."""
        if self.marked is not None:
            return f"{CURRENT} " if result in self.marked else "○ "
        if self.current is not None:
            return f"{CURRENT} " if result == self.current else "  "
        return ""

    def on_mount(self) -> None:
        results = [result for result, _, _ in self.answers]
        if self.current in results:
            self.query_one(OptionList).highlighted = results.index(self.current)
        if self.letter:
            self._go_to(self.letter)

    def on_key(self, event: events.Key) -> None:
        if event.character is not None and event.character.isalnum():
            self._go_to(event.character)

    def _go_to(self, letter: str) -> None:
        """Move the cursor to the next answer that begins with a letter."""
        options = self.query_one(OptionList)
        start = 0 if options.highlighted is None else options.highlighted + 1
        for index in [*range(start, len(self.answers)), *range(start)]:
            if self.answers[index][1].lower().startswith(letter.lower()):
                options.highlighted = index
                return

    def action_mark_answer(self) -> None:
        options = self.query_one(OptionList)
        if self.marked is None or options.highlighted is None:
            return
        self.marked ^= {self.answers[options.highlighted][0]}
        for index, line in enumerate(self._lines()):
            options.replace_option_prompt_at_index(index, line)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        results = [result for result, _, _ in self.answers if self.marked and result in self.marked]
        if results:
            self.dismiss(",".join(results))
            return
        self.dismiss(self.answers[event.option_index][0])

    def action_back(self) -> None:
        self.dismiss(None)
