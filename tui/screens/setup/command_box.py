"""The box with the command that does what the form says; another command in it fills the form."""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.widgets import TextArea

from tui.keys import bindings


def is_command(text: str) -> bool:
    """Return whether a pasted text is a command of this program or of the original scripts."""
    return "convnn" in text or "main.py" in text


class CommandBox(TextArea):
    """Shows the form's command; enter, or a paste, submits another one."""

    BINDINGS = bindings("back", "open")
    DEFAULT_CSS = """
    CommandBox { height: auto; max-height: 5; border: round $border; padding: 0 1; background: $background;
                 border-title-color: $text-muted; scrollbar-size-vertical: 1; }
    CommandBox:focus { border: round $primary; border-title-color: $primary; }
    """
    help_title = "command line"
    HELP = (
        "The command that does what the form says; ctrl+y copies it. Type or paste another one here - `convnn run ...` "
        "or `python main.py ...`, also over several lines - and press enter to fill the form from it. If a part of it "
        "is not understood, that part is listed and nothing is changed."
    )

    class Submitted(Message):
        """A command to fill the form from."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("", soft_wrap=True, show_line_numbers=False, highlight_cursor_line=False, id=id)
        self.command = ""

    def on_mount(self) -> None:
        self.border_title = "command"
        self.border_subtitle = "f2 paste or edit, ctrl+y copy"

    def show(self, command: str) -> None:
        """Show the form's command, unless another one is being written."""
        is_unedited = self.text == self.command
        self.command = command
        if (is_unedited or not self.has_focus) and self.text != command:
            self.text = command
            if self.has_focus:
                self.select_all()  # as on focus: what is typed replaces it

    def on_focus(self) -> None:
        self.select_all()

    def on_blur(self) -> None:
        self.text = self.command

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Submitted(self.text))

    async def _on_paste(self, event: events.Paste) -> None:
        """Replace the text by a whole command and submit it; insert anything else."""
        if is_command(event.text):
            event.stop()
            event.prevent_default()
            self.text = "\n".join(event.text.strip().splitlines())
            self.post_message(self.Submitted(self.text))
