"""The controls of the form, each one line high: a switch, a choice, a number and a text. Each holds a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text
from textual import events
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from convnn.config.options import TRUE, Option
from convnn.text import escaped
from tui.dialogs.choice import Choice
from tui.keys import bindings
from tui.screens.setup.command_box import is_command
from tui.screens.setup.number_steps import step_number

if TYPE_CHECKING:
    from tui.app import ConvnnApp


class ControlChanged(Message):
    """A control holds a new text."""

    def __init__(self, option: Option, text: str) -> None:
        super().__init__()
        self.option, self.text = option, text


class CommandPasted(Message):
    """A whole command was pasted where a value or nothing is expected."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


BOTH = "true,false"  # of a switch: a run each


class PickControl(Widget, can_focus=True):
    """A value out of a few: left and right go through them."""

    BINDINGS = bindings("pick", "several", "previous-value", "next-value")

    def __init__(self, option: Option, text: str) -> None:
        super().__init__(classes="control")
        self.option, self.text = option, text

    def show(self, text: str) -> None:
        """Show a text without a message."""
        if text != self.text:
            self.text = text
            self.refresh()

    def pick(self, text: str) -> None:
        """Hold another text."""
        self.show(text)
        self.post_message(ControlChanged(self.option, text))


class SwitchControl(PickControl):
    """On or off: space or enter toggles, right is on, left is off."""

    @property
    def is_on(self) -> bool:
        return self.text.lower() in TRUE

    def render(self) -> Text:
        if self.text == BOTH:
            return Text("◉ on and off")
        return Text("◉ on" if self.is_on else "○ off")

    def action_several(self) -> None:
        self.pick(BOTH)

    def action_pick(self) -> None:
        self.pick(self.option.text(not self.is_on))

    def action_change_value(self, distance: int) -> None:
        self.pick(self.option.text(distance > 0))

    def on_click(self) -> None:
        self.action_pick()


class ChoiceControl(PickControl):
    """One of the choices of an option; space or enter lists them."""

    app: ConvnnApp

    def render(self) -> Text:
        return Text(f"{escaped(self.text)} ", no_wrap=True).append("▾", "dim")

    def action_change_value(self, distance: int) -> None:
        choices = self.option.choices
        index = choices.index(self.text) + distance if self.text in choices else 0
        self.pick(choices[index % len(choices)])

    def action_pick(self) -> None:
        self._list_choices()

    def _list_choices(self, letter: str = "") -> None:
        """List the choices, with the cursor on the present one or on the next that begins with a letter."""
        answers = [
            (choice, choice, "default" if choice == self.option.default else "") for choice in self.option.choices
        ]
        dialog = Choice(self.option.key, self.option.help, answers, current=self.text, letter=letter)
        self.app.ask(dialog, self.pick)

    def action_several(self) -> None:
        """List the choices to mark several of them."""
        answers = [(choice, choice, "") for choice in self.option.choices]
        self.app.ask(Choice(self.option.key, self.option.help, answers, marked=self.text.split(",")), self.pick)

    def on_key(self, event: events.Key) -> None:
        """Take a letter that a choice begins with as the wish to go there."""
        letter = event.character or ""
        if letter.isalnum() and any(choice.lower().startswith(letter.lower()) for choice in self.option.choices):
            event.stop()
            event.prevent_default()
            self._list_choices(letter)

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.action_pick()


class TextControl(Input):
    """A text as it is typed."""

    def __init__(self, option: Option, text: str) -> None:
        super().__init__(text, compact=True, classes="control", select_on_focus=True)
        self.option = option

    def update_node_styles(self, animate: bool = True) -> None:
        """Style the control, but not before it is mounted, when that is done anyway."""
        if self.is_attached:
            super().update_node_styles(animate)

    @property
    def text(self) -> str:
        return self.value

    def show(self, text: str) -> None:
        """Show a text."""
        if text != self.value:
            self.value = text

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(ControlChanged(self.option, event.value))

    def _on_paste(self, event: events.Paste) -> None:
        if "--" in event.text and is_command(event.text):
            event.stop()
            event.prevent_default()
            self.post_message(CommandPasted(event.text))


class NumberControl(TextControl):
    """A number, which ctrl+up and ctrl+down step."""

    BINDINGS = bindings("increase", "decrease")

    def action_step_number(self, direction: int) -> None:
        self.value = step_number(self.option, self.value, direction)


Control = SwitchControl | ChoiceControl | NumberControl | TextControl
CONTROLS: dict[str, type[Control]] = {
    "bool": SwitchControl,
    "choice": ChoiceControl,
    "int": NumberControl,
    "float": NumberControl,
}


def make_control(option: Option, text: str) -> Control:
    """Return the control that suits an option."""
    return CONTROLS.get(option.kind, TextControl)(option, text)
