"""The filter of a list of runs. It completes keys and values, and shows what is not understood."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static

from convnn.analysis.completion import complete
from convnn.runs.summary import Summary
from convnn.text import escaped
from tui.keys import bindings

MOST_COMPLETIONS = 12


class FilterInput(Input):
    """The text of a filter."""

    help_title = "filter"
    HELP = (
        "Conditions on runs: layer=Branching K>=9 best>80 status=done,failed name~br05 has:attention_dropout. A space "
        "is AND, a comma one-of; OR, NOT and parentheses. Keys are flag names, places and metrics; a bare word is a "
        "part of a name. Tab completes the last word, enter goes to the matches, esc clears."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("complete", footer=("complete",))
    runs: Sequence[Summary] = ()

    @property
    def completions(self) -> list[str]:
        """Whole texts, the likeliest first."""
        return complete(self.value, self.runs, MOST_COMPLETIONS)

    def action_complete(self) -> None:
        """Complete the last word: as far as all completions agree, else to the first; without any go to the next."""
        completions = self.completions
        if not completions:
            self.screen.focus_next()
            return
        common = os.path.commonprefix(completions)  # noqa: RUF071 character by character
        self.value = common if len(common) > len(self.value) else completions[0]
        self.cursor_position = len(self.value)


class FilterBar(Vertical):
    """The input and, below it, completions and errors."""

    DEFAULT_CSS = """
    FilterBar { height: auto; display: none; background: $panel; }
    FilterBar.-open { display: block; }
    FilterBar Input { height: 1; border: none; padding: 0 1; background: $panel; }
    FilterBar Static { height: auto; max-height: 2; padding: 0 1; color: $text-muted; }
    """

    class Changed(Message):
        """The text of the filter changed."""

    class Submitted(Message):
        """Enter was pressed."""

    def __init__(self) -> None:
        super().__init__()
        self._error = ""

    def compose(self) -> ComposeResult:
        yield FilterInput(placeholder="layer=Branching K>=9 best>80 status=done ...", id="filter-text", compact=True)
        yield Static(markup=False)

    @property
    def input(self) -> FilterInput:
        return self.query_one(FilterInput)

    @property
    def text(self) -> str:
        """The filter; empty where there is none."""
        return self.input.value.strip()

    @text.setter
    def text(self, text: str) -> None:
        self.input.value = text
        self.set_class(bool(text), "-open")

    def open(self) -> None:
        """Show the bar and focus its input, unless a text is being edited."""
        if isinstance(self.screen.focused, Input):
            raise SkipAction
        self.add_class("-open")
        self.screen.set_focus(self.input)

    def close(self) -> bool:
        """Clear the filter and hide the bar; return whether it was open."""
        was_open = self.has_class("-open")
        self.input.value = ""
        self.remove_class("-open")
        return was_open

    def update(self, runs: Sequence[Summary], error: str) -> None:
        """Take the runs whose values complete the text, and what is wrong with it."""
        self.input.runs, self._error = runs, error
        self._show_note()

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed())

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if not self._error:  # else the keys that correct the filter would act on the list
            self.post_message(self.Submitted())

    @on(events.DescendantFocus)
    @on(events.DescendantBlur)
    def _show_note(self) -> None:
        """Show the error and, while the input has the focus, completions."""
        lines = []
        if self._error:
            lines.append(Text(escaped(self._error), self.app.theme_variables["error"]))
        if self.input.has_focus:
            text = self.input.value
            start = max(text.rfind(separator) for separator in (" ", "(")) + 1
            words = [escaped(completion[start:]) for completion in self.input.completions if completion != text]
            if words:
                lines.append(Text("tab: " + "  ".join(words)))
        note = Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
        self.query_one(Static).update(note)
