"""The dark and the light theme, the colors of statuses, and the ASCII characters of terminals that have no others."""

from __future__ import annotations

import locale
import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.segment import Segment
from textual.app import App
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

from convnn.files import config_folder, open_regular, write_atomic
from convnn.text import ASCII_SIGNS, ascii_only

DARK = Theme(
    name="convnn-dark",
    primary="#5aa9e6",
    secondary="#7f9cb5",
    accent="#e6b15a",
    warning="#e0a443",
    error="#ef6b73",
    success="#6cc08b",
    foreground="#d8dee6",
    background="#14181d",
    surface="#1a1f26",
    panel="#232a33",
    variables={"border": "#3a4552", "scrollbar": "#2d3641", "scrollbar-background": "#1a1f26"},
)
LIGHT = Theme(
    name="convnn-light",
    primary="#1f6fb2",
    secondary="#5a7388",
    accent="#9a6400",
    warning="#945f00",
    error="#b3261e",
    success="#1e7b3f",
    foreground="#1f2830",
    background="#f7f8f9",
    surface="#ffffff",
    panel="#e7ebef",
    dark=False,
    variables={"border": "#b4bec8", "scrollbar": "#ccd4db", "scrollbar-background": "#f0f2f4"},
)
THEMES = {"dark": DARK, "light": LIGHT}
MOST_SETTINGS = 1 << 16  # bytes of the settings that are read
# a cell for a cell, so that nothing moves
ASCII = ASCII_SIGNS | {ord("±"): "~"}


class AsciiFilter(LineFilter):
    """Replaces every character that is not ASCII by a similar one that is, cell by cell."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(ascii_cells(text), style, control) for text, style, control in segments]


def ascii_cells(text: str) -> str:
    """Return the text in ASCII, as many cells wide as before."""
    if text.isascii():
        return text
    return "".join(
        character if character.isascii() else "?" * cell_len(character) for character in text.translate(ASCII)
    )


@cache
def _blend(background: str, foreground: str, opacity: float) -> str:
    return Color.parse(background).blend(Color.parse(foreground), opacity).hex6


def muted(app: App[Any], opacity: float = 0.6) -> str:
    """Return the color of secondary text: the foreground with an opacity over the background."""
    variables = app.theme_variables
    return _blend(variables["background"], variables["foreground"], opacity)


def wants_ascii() -> bool:
    """Return whether this terminal has no more than ASCII."""
    return ascii_only(locale.getpreferredencoding(False), os.environ)


def remembered_theme() -> str | None:
    """Return "dark" or "light" where one was chosen in the app before, else None."""
    try:
        with open_regular(_settings_path()) as file:
            name = tomllib.loads(file.read(MOST_SETTINGS).decode("utf-8")).get("theme")
    except (OSError, ValueError):  # none yet, or damaged: the terminal decides
        return None
    return name if name in THEMES else None


def remember_theme(name: str) -> None:
    """Write the theme into the user's settings. Raises OSError, or ValueError for a user without a home."""
    path = _settings_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, f'theme = "{name}"\n')


def _settings_path() -> Path:
    return config_folder() / "settings.toml"


def wants_light() -> bool:
    """Return whether the terminal names a light background in COLORFGBG."""
    return os.environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15")
