"""A row of the form: the name of an option, its control, and a note; its problems are shown below."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Static

from convnn.config.fixes import form_fix
from convnn.config.options import Option
from convnn.errors import Problem
from convnn.text import escaped, fit
from tui.screens.setup.controls import make_control
from tui.screens.setup.draft import CheckedDraft, Draft
from tui.theme import muted

NAME_WIDTH, CONTROL_WIDTH = 20, 20  # cells


@dataclass(frozen=True)
class FieldState:
    """What a field shows."""

    text: str
    initial_text: str
    is_changed: bool
    origin: str  # what the form started from: "default", "preset" or "run"
    inactive: str | None  # why the option has no effect
    problems: tuple[Problem, ...]
    is_focused: bool = False

    @classmethod
    def of(cls, option: Option, draft: Draft, checked: CheckedDraft, *, is_focused: bool = False) -> FieldState:
        origin = "default"
        if draft.base is not None:
            origin = "preset" if draft.preset else "run"
        return cls(
            text=draft.text(option),
            initial_text=draft.initial_text(option),
            is_changed=option.key in draft.typed,
            origin=origin,
            inactive=checked.inactive.get(option.key),
            problems=checked.problems_of(option.key),
            is_focused=is_focused,
        )


class FormField(Widget):
    """One option. It draws name and note itself, around its control: a widget for each would open the form slowly."""

    DEFAULT_CSS = """
    FormField { layout: horizontal; height: 1; }
    FormField > .control { margin: 0 0 0 20; width: 20; background: $panel; height: 1; padding: 0 1; }
    FormField > .control:focus { background: $primary-muted; text-style: bold; }
    FormField > .control.-inactive { color: $text-disabled; }
    FormField > .control.-invalid { background: $error-muted; }
    """

    def __init__(self, option: Option, state: FieldState) -> None:
        super().__init__(id=f"field-{option.key.replace('.', '-')}")
        self.option, self.state = option, state
        self.control = make_control(option, state.text)
        self.problem_box: Static | None = None  # below the field, from its first problem on
        self._style_control()

    @property
    def help_title(self) -> str:
        return self.option.key

    @property
    def HELP(self) -> str:  # type: ignore[override]
        option = self.option
        allowed = f"Allowed: {option.allowed()}."
        if option.unit:
            allowed = f"In {option.unit}. {allowed}"
        lines = [
            f"{option.help[:1].upper()}{option.help[1:]}.",
            allowed,
            f"Default: {self._displayed(option.text(option.default))}. Flag: {option.flag}.",
        ]
        if self.state.inactive:
            lines.append(f"Now: {self.state.inactive}.")
        return "\n".join(lines)

    def compose(self) -> ComposeResult:
        yield self.control

    def show(self, state: FieldState) -> None:
        if state == self.state:
            return
        previous, self.state = self.state, state
        self._style_control()
        self.refresh()
        if state.problems != previous.problems:
            self.show_problems()

    def _style_control(self) -> None:
        self.control.set_class(self.state.inactive is not None, "-inactive")
        self.control.set_class(bool(self.state.problems), "-invalid")

    def show_problems(self) -> None:
        problems = self.state.problems
        if problems and self.problem_box is None:
            self.problem_box = Static(classes="problems", markup=False)
            assert isinstance(self.parent, Widget)
            self.parent.mount(self.problem_box, after=self)
        if self.problem_box is not None:
            self.problem_box.display = bool(problems)
            self.problem_box.update(problem_text(problems))

    def on_click(self) -> None:
        self.control.focus()

    def render(self) -> Text:
        state = self.state
        name_style, note_style = self._styles()
        sign = " "
        if state.problems:
            sign = "✗"
        elif state.is_changed:
            sign = "•"
        elif state.initial_text != self.option.text(self.option.default):
            sign = "·"  # set by the preset or the run
        text = Text(no_wrap=True).append(f"{sign} {self.option.field}".ljust(NAME_WIDTH), name_style)
        note = fit(self.note, max(1, self.size.width - NAME_WIDTH - CONTROL_WIDTH - 2))
        return text.append(" " * (CONTROL_WIDTH + 2)).append(note, note_style)

    def _styles(self) -> tuple[str, str]:
        state, colors = self.state, self.app.theme_variables
        inactive = muted(self.app, 0.38)
        note_style = muted(self.app)
        name_style = ""
        if state.inactive:
            name_style = note_style = inactive
        if state.is_changed:
            name_style = colors["accent"]
        if state.is_focused:
            name_style, note_style = f"bold {colors['primary']}", ""
        if state.problems:
            name_style = f"bold {colors['error']}"
        return name_style, note_style

    @property
    def note(self) -> str:
        if self._inactive_reason:
            return short_reason(self._inactive_reason)
        if self.state.is_changed:
            return f"{self.state.origin} {self._displayed(escaped(self.state.initial_text))}"
        return _joined(self.option.unit, self._default)

    def about(self) -> Text:
        """Return why the option has no effect, what it does, its values and its default."""
        option = self.option
        unit = option.unit
        if unit and unit in option.help:
            unit = None
        about = _joined(option.help, unit, option.bounds(), option.hint, self._default)
        reason = ""
        if self._inactive_reason:  # before the rest, for which there may be no room
            reason = f"{self._inactive_reason} · "
        return Text.assemble((f"{option.field}  ", "bold"), (reason, "italic"), about)

    @property
    def _default(self) -> str:
        return f"default {self._displayed(self.option.text(self.option.default))}"

    @property
    def _inactive_reason(self) -> str:
        return (self.state.inactive or "").removeprefix(f"{self.option.key} has ")

    def _displayed(self, text: str) -> str:
        """A value as the control shows it."""
        if self.option.kind == "bool":
            return {"true": "on", "false": "off"}.get(text, text)
        return text or "nothing"


def _joined(*parts: str | None) -> str:
    return " · ".join(part for part in parts if part)


def short_reason(reason: str) -> str:
    """Why an option has no effect, in a few words: "only with similarity_type Loc_Col", "only with step or plateau"."""
    match = re.fullmatch(r"no effect with (\S+) \S+ \(it needs (.+)\)", reason)
    if match is None:
        return reason
    option, values = match.groups()
    return f"only with {values}" if " or " in values else f"only with {option} {values}"


def problem_text(problems: Iterable[Problem]) -> Text:
    """Problems with their fixes, and the key that applies a fix."""
    blocks = []
    for problem in problems:
        block = Text().append(escaped(problem.message), "bold")
        if fix := form_fix(problem):
            key = "f4 " if problem.change else ""
            block.append(f"\n→ {key}", "bold").append(escaped(fix))
        blocks.append(block)
    return Text("\n").join(blocks)
