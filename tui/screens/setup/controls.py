"""The controls of the form, each a line high: a switch, a choice, a number and a text. What they hold is a word."""

from __future__ import annotations

from rich.text import Text
from textual import events
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from convnn.config.options import TRUE, Option
from convnn.text import escaped
from tui.dialogs.choice import Choice
from tui.keys import bindings
from tui.screens.setup.number_steps import stepped


class Typed(Message):
    """A person gave a field a new word."""

    def __init__(self, option: Option, text: str) -> None:
        super().__init__()
        self.option, self.text = option, text


class Pasted(Message):
    """A whole command was pasted into a field."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Picked(Widget, can_focus=True):
    """A value out of a few: `up` and `down` go through them."""

    BINDINGS = bindings("increase", "decrease")

    def __init__(self, option: Option, text: str) -> None:
        super().__init__(classes="control")
        self.option, self.text = option, text

    @property
    def word(self) -> str:
        """What it holds."""
        return self.text

    def show(self, text: str) -> None:
        """Show this word."""
        if text != self.text:
            self.text = text
            self.refresh()

    def pick(self, text: str) -> None:
        self.show(text)
        self.post_message(Typed(self.option, text))


class Switch(Picked):
    """On or off: space turns it over, up is on, down is off."""

    BINDINGS = bindings("mark")

    @property
    def on(self) -> bool:
        return self.text.lower() in TRUE

    def render(self) -> Text:
        return Text("◉ on" if self.on else "○ off")

    def action_mark(self) -> None:
        self.pick(self.option.text(not self.on))

    def action_increase(self) -> None:
        self.pick(self.option.text(True))

    def action_decrease(self) -> None:
        self.pick(self.option.text(False))

    def on_click(self) -> None:
        self.action_mark()


class Select(Picked):
    """One of the choices; enter lists them all."""

    BINDINGS = bindings("open", "left", "right")

    def render(self) -> Text:
        return Text(f"{escaped(self.text)} ", no_wrap=True).append("▾", "dim")

    def _turn(self, by: int) -> None:
        choices = self.option.choices
        at = choices.index(self.text) + by if self.text in choices else 0
        self.pick(choices[at % len(choices)])

    def action_increase(self) -> None:
        self._turn(-1)

    def action_decrease(self) -> None:
        self._turn(1)

    action_left, action_right = action_increase, action_decrease

    def action_open(self) -> None:
        def chosen(word: str | None) -> None:
            if word is not None:
                self.pick(word)

        answers = [(word, word, "default" if word == self.option.default else "") for word in self.option.choices]
        self.app.push_screen(Choice(self.option.key, self.option.help, answers), chosen)

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.action_open()


class Line(Input):
    """Text, as it is typed."""

    def __init__(self, option: Option, text: str) -> None:
        super().__init__(text, compact=True, classes="control", select_on_focus=True)
        self.option = option

    @property
    def word(self) -> str:
        """What it holds."""
        return self.value

    def show(self, text: str) -> None:
        """Show this word."""
        if text != self.value:
            self.value = text

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(Typed(self.option, event.value))

    def _on_paste(self, event: events.Paste) -> None:
        if "--" in event.text and ("convnn" in event.text or "main.py" in event.text):
            event.stop()
            event.prevent_default()
            self.post_message(Pasted(event.text))


class Number(Line):
    """A number: `up` and `down` step it."""

    BINDINGS = bindings("increase", "decrease")

    def action_increase(self) -> None:
        self.value = stepped(self.option, self.value, 1)

    def action_decrease(self) -> None:
        self.value = stepped(self.option, self.value, -1)


Control = Switch | Select | Number | Line
KINDS: dict[str, type[Control]] = {"bool": Switch, "choice": Select, "int": Number, "float": Number}


def control(option: Option, text: str) -> Control:
    """The control that suits an option."""
    return KINDS.get(option.kind, Line)(option, text)
