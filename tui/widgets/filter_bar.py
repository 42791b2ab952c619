"""The filter line: it completes keys and values, and says under itself what is not understood."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from convnn.analysis.completion import complete
from convnn.runs.summary import Summary
from convnn.text import escaped
from tui.keys import bindings

SHOWN = 12  # completions


class FilterInput(Input):
    """The text of a filter."""

    help_title = "filter"
    HELP = (
        "Conditions on runs: layer=Branching K>=9 best>80 status=done,failed name~br05 has:attention_dropout. A space "
        "is AND, a comma one-of; OR, NOT and parentheses. Keys are flag names, options and metrics; a bare word is a "
        "part of a name. Tab completes the last word, enter goes to the runs, esc clears."
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings("complete", footer=("complete",))
    runs: Sequence[Summary] = ()

    @property
    def completions(self) -> list[str]:
        """Whole texts, the likeliest first."""
        return complete(self.value, self.runs, SHOWN)

    def action_complete(self) -> None:
        """The last word as far as it is clear, else as the first that fits."""
        found = self.completions
        if not found:
            return
        common = "".join(c[0] for c in takewhile(lambda c: len(set(c)) == 1, zip(*found, strict=False)))
        self.value = common if len(common) > len(self.value) else found[0]
        self.cursor_position = len(self.value)


class FilterLine(Vertical):
    """The input, and under it what fits or what is wrong."""

    DEFAULT_CSS = """
    FilterLine { height: auto; display: none; background: $panel; }
    FilterLine.shown { display: block; }
    FilterLine Input { height: 1; border: none; padding: 0 1; background: $panel; }
    FilterLine Static { height: auto; max-height: 2; padding: 0 1; color: $text-muted; }
    """

    def compose(self) -> ComposeResult:
        yield FilterInput(placeholder="layer=Branching K>=9 best>80 status=done ...", id="filter-text", compact=True)
        yield Static(markup=False)

    @property
    def input(self) -> FilterInput:
        return self.query_one(FilterInput)

    def say(self, runs: Sequence[Summary], wrong: str) -> None:
        """Say what is wrong and, while somebody types, what fits."""
        self.input.runs = runs
        text, words = self.input.value, []
        if self.input.has_focus:
            start = max(text.rfind(mark) for mark in (" ", "(")) + 1
            words = [escaped(whole[start:]) for whole in self.input.completions if whole != text]
        note = Text(no_wrap=True, overflow="ellipsis")
        note.append(wrong, self.app.theme_variables["error"])
        note.append("\n" * bool(wrong and words)).append("tab: " + "  ".join(words) if words else "")
        self.query_one(Static).update(note)
