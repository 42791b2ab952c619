"""What a terminal that is too small for the app shows."""

from __future__ import annotations

from rich.text import Text
from textual.screen import ModalScreen

from tui.keys import bindings

SMALLEST = (60, 15)  # columns, rows


class TooSmall(ModalScreen[None]):
    """One line with the size that the app needs; everything else goes on behind it."""

    BINDINGS = bindings("leave")
    DEFAULT_CSS = "TooSmall { background: $background; }"

    def render(self) -> Text:
        width, height = self.app.size
        return Text(f"convnn needs {SMALLEST[0]}x{SMALLEST[1]}, this is {width}x{height}", no_wrap=True)
