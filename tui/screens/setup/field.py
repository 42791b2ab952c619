"""A row of the form: the name, the control, and beside it what there is to say; a problem stands under it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rich.containers import Lines
from rich.text import Text
from textual.app import ComposeResult
from textual.geometry import Size
from textual.widget import Widget
from textual.widgets import Static

from convnn.config.options import Option
from convnn.errors import Problem
from convnn.text import escaped
from tui.screens.setup.controls import control
from tui.theme import muted


@dataclass(frozen=True)
class State:
    """What a field shows beside its value."""

    text: str
    begun: str  # what it held at the beginning
    changed: bool
    origin: str  # what the form began with: "default", "preset" or "run"
    inactive: str | None  # why it has no effect
    problems: tuple[Problem, ...]
    focused: bool = False


NAME, CONTROL = 20, 20  # cells


class Field(Widget):
    """One option. It draws name and note itself, around its control: a widget for each would open the form slowly."""

    DEFAULT_CSS = """
    Field { layout: horizontal; height: auto; }
    Field > .control { margin: 0 0 0 20; width: 20; background: $panel; height: 1; padding: 0 1; }
    Field > .control:focus { background: $primary-muted; text-style: bold; }
    Field > .control.silent { color: $text-disabled; }
    Field > .control.wrong { background: $error-muted; }
    """

    def __init__(self, option: Option, state: State) -> None:
        super().__init__(id=f"field-{option.key.replace('.', '-')}")
        self.option, self.state = option, state
        self.control = control(option, state.text)
        self._mark()
        self.trouble: Static | None = None

    @property
    def help_title(self) -> str:
        return self.option.key

    @property
    def HELP(self) -> str:  # type: ignore[override]
        option = self.option
        unit = f"In {option.unit}. " if option.unit else ""
        lines = [
            f"{option.help[:1].upper()}{option.help[1:]}.",
            f"{unit}Allowed: {option.allowed()}.",
            f"Default: {self._word(option.text(option.default))}. Flag: {option.flag}.",
        ]
        if self.state.inactive:
            lines.append(f"Now: {self.state.inactive}.")
        return "\n".join(lines)

    def compose(self) -> ComposeResult:
        yield self.control

    def show(self, state: State) -> None:
        """Show what is known of the field now."""
        if state == self.state:
            return
        before, self.state = self.state, state
        self._mark()
        self.refresh(layout=state.focused or before.focused)
        if state.problems != before.problems:
            self.show_trouble()

    def _mark(self) -> None:
        self.control.set_class(self.state.inactive is not None, "silent")
        self.control.set_class(bool(self.state.problems), "wrong")

    # -- drawing ----------------------------------------------------------------------------------------------------

    def _lines(self, width: int) -> Lines:
        """The note as lines: one, or with the focus as many as it needs."""
        room = max(10, width - NAME - CONTROL - 2)
        note = self.note
        if self.state.focused:
            return note.wrap(self.app.console, room)
        note.truncate(room, overflow="ellipsis")
        return Lines([note])

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines(width)) if self.state.focused else 1

    def render(self) -> Text:
        state = self.state
        variables, silent = self.app.theme_variables, muted(self.app, 0.38)
        name = variables["accent"] if state.changed else silent if state.inactive else ""
        if state.problems or state.focused:
            name = f"bold {variables['error' if state.problems else 'primary']}"
        colour = "" if state.focused else silent if state.inactive else muted(self.app)
        sign = "✗" if state.problems else "•" if state.changed else " "
        text = Text(no_wrap=True)
        for at, line in enumerate(self._lines(self.size.width)):
            text.append(f"{sign} {self.option.field}".ljust(NAME) if at == 0 else "\n" + " " * NAME, name)
            text.append(" " * (CONTROL + 2)).append(line.plain.rstrip(), colour)
        return text

    @property
    def note(self) -> Text:
        """What stands beside the control."""
        return self._note(self.state)

    def _note(self, state: State) -> Text:
        option = self.option
        default = f"default {self._word(option.text(option.default))}"
        if state.focused:
            parts = [option.help, *([option.unit] if option.unit else []), option.bounds(), option.hint or "", default]
        elif state.inactive:
            parts = [short(state.inactive.removeprefix(f"{option.key} has "))]
        elif state.changed:
            parts = [f"{state.origin} {self._word(escaped(state.begun))}"]
        else:
            parts = [option.unit or "", default]
        text = Text(" · ".join(part for part in parts if part))
        if state.focused and state.inactive:
            text.append(f" · {state.inactive.removeprefix(option.key + ' has ')}", "italic")
        return text

    def _word(self, text: str) -> str:
        """A value as the control shows it."""
        return {"true": "on", "false": "off"}.get(text, text) if self.option.kind == "bool" else text or "nothing"

    def show_trouble(self) -> None:
        """Show the problems under the field."""
        problems = self.state.problems
        if problems and self.trouble is None:
            self.trouble = Static(classes="trouble", markup=False)
            assert self.parent is not None
            self.parent.mount(self.trouble, after=self)  # type: ignore[attr-defined]
        if self.trouble is not None:
            self.trouble.display = bool(problems)
            self.trouble.update(told(problems))

    def on_click(self) -> None:
        self.control.focus()


def short(reason: str) -> str:
    """Why an option has no effect, in few words: "only with similarity_type Loc_Col"."""
    needs = re.fullmatch(r"no effect with (\S+) \S+ \(it needs (.+)\)", reason)
    return f"only with {needs[1]} {needs[2]}" if needs else reason


def told(problems: tuple[Problem, ...]) -> Text:
    """Problems with their fixes, and the key that applies one."""
    text = Text()
    for problem in problems:
        text.append("\n" * bool(text)).append(escaped(problem.message), "bold")
        if problem.fix:
            key = "f4 " if problem.change else ""
            text.append(f"\n→ {key}", "bold").append(escaped(problem.fix))
    return text
