"""A row of the form: the name, the control, and beside it what there is to say; a problem stands under it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from convnn.errors import Problem, escaped
from convnn.options import Option
from tui.widgets.controls import control


@dataclass(frozen=True)
class State:
    """What a field shows beside its value."""

    text: str
    begun: str  # what it held at the beginning
    changed: bool
    from_preset: bool  # the form began with a preset
    silent: str | None  # why it has no effect
    problems: tuple[Problem, ...]
    focused: bool = False


class Field(Horizontal):
    """One option."""

    DEFAULT_CSS = """
    Field { height: auto; }
    Field > .name { width: 20; }
    Field > .control { width: 20; background: $panel; height: 1; padding: 0 1; }
    Field > .control:focus { background: $primary-muted; text-style: bold; }
    Field > .note { width: 1fr; height: auto; padding: 0 0 0 2; color: $text-muted; }
    Field:focus-within > .name { color: $primary; text-style: bold; }
    Field:focus-within > .note { color: $foreground; }
    Field.changed > .name { color: $accent; }
    Field.silent > .name, Field.silent > .control, Field.silent > .note { color: $text-disabled; }
    Field.wrong > .name { color: $error; text-style: bold; }
    Field.wrong > .control { background: $error-muted; }
    """

    def __init__(self, option: Option, text: str) -> None:
        super().__init__(id=f"field-{option.place.replace('.', '-')}")
        self.option = option
        self.control = control(option, text)
        self.name_of = Static(f"  {option.key}", classes="name", markup=False)
        self.note = Static("", classes="note", markup=False)
        self.trouble: Static | None = None
        self.state: State | None = None

    @property
    def help_title(self) -> str:
        return self.option.place

    @property
    def HELP(self) -> str:  # type: ignore[override]
        option = self.option
        unit = f"In {option.unit}. " if option.unit else ""
        lines = [f"{option.help[:1].upper()}{option.help[1:]}.", f"{unit}Allowed: {option.allowed()}.",
                 f"Default: {option.text(option.default) or 'nothing'}. Flag: {option.flag}."]  # fmt: skip
        if self.state and self.state.silent:
            lines.append(f"Now: {self.state.silent}.")
        return "\n".join(lines)

    def compose(self) -> ComposeResult:
        yield self.name_of
        yield self.control
        yield self.note

    def show(self, state: State) -> None:
        """Show what is known of the field now."""
        if state == self.state:
            return
        moved = self.state is None or state.focused != self.state.focused
        self.state = state
        self.control.show(state.text)
        self.set_class(state.changed, "changed")
        self.set_class(state.silent is not None, "silent")
        self.set_class(bool(state.problems), "wrong")
        sign = "✗" if state.problems else "•" if state.changed else " "
        self.name_of.update(f"{sign} {self.option.key}", layout=False)
        self.note.update(self._note(state), layout=moved or state.focused)
        self._show_trouble(state.problems)

    def _note(self, state: State) -> Text:
        option = self.option
        default = f"default {option.text(option.default) or 'nothing'}"
        if state.focused:
            parts = [option.help, *([option.unit] if option.unit else []), option.bounds(), option.hint or "", default]
        elif state.silent:
            parts = [short(state.silent.removeprefix(f"{option.place} has "))]
        elif state.changed:
            parts = [f"{'preset' if state.from_preset else 'default'} {escaped(state.begun) or 'nothing'}"]
        else:
            parts = [option.unit or "", default]
        text = Text(" · ".join(part for part in parts if part))
        if not state.focused:
            text.no_wrap, text.overflow = True, "ellipsis"
        if state.focused and state.silent:
            text.append(f" · {state.silent.removeprefix(option.place + ' has ')}", "italic")
        return text

    def _show_trouble(self, problems: tuple[Problem, ...]) -> None:
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
