"""The command that would do the same, and the place where another one can be typed or pasted."""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.widgets import TextArea

from tui.keys import bindings


class CommandLine(TextArea):
    """Shows the form's command; enter, or a paste, fills the form from another one."""

    BINDINGS = bindings("back", "open")
    DEFAULT_CSS = """
    CommandLine { height: auto; max-height: 5; border: round $border; padding: 0 1; background: $background;
                  border-title-color: $text-muted; scrollbar-size-vertical: 1; }
    CommandLine:focus { border: round $primary; border-title-color: $primary; }
    """
    help_title = "command line"
    HELP = (
        "The command that does what the form says; ctrl+y copies it. Type or paste another one here - `convnn run ...` "
        "or `python main.py ...`, over several lines too - and press enter: it fills the form. What is not understood "
        "is listed, and then nothing is changed."
    )

    class Given(Message):
        """A person gave a command."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("", soft_wrap=True, show_line_numbers=False, highlight_cursor_line=False, id=id)
        self.command = ""

    def on_mount(self) -> None:
        self.border_title = "command"

    def show(self, command: str) -> None:
        """Show the form's command, unless somebody is writing another one."""
        untouched = self.text == self.command
        self.command = command
        if untouched or not self.has_focus:
            self.text = command

    def on_focus(self) -> None:
        self.select_all()

    def on_blur(self) -> None:
        self.text = self.command

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Given(self.text))

    async def _on_paste(self, event: events.Paste) -> None:
        """A whole command replaces what is there and is read at once; anything else is text."""
        if "convnn" in event.text or "main.py" in event.text:
            event.stop()
            event.prevent_default()
            self.text = "\n".join(event.text.strip().splitlines())
            self.post_message(self.Given(self.text))
