"""Write a terminal screen as an SVG that loads no fonts or styles from elsewhere."""

from __future__ import annotations

import io
from itertools import groupby

from pyte.screens import Char, Screen
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

THEME = TerminalTheme((20, 24, 29), (216, 222, 230), [(0, 0, 0)] * 8)  # the default foreground and background
FORMAT = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: 20.26px "DejaVu Sans Mono", Menlo, Consolas, monospace; }}
.{unique_id}-title {{ font: bold 18px sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""  # Rich's own format loads its font from the web; at this size the common fonts are as wide as its cells


def svg(screen: Screen, title: str) -> str:
    """Return the screen in its colors, in a window with a title."""
    console = Console(
        file=io.StringIO(), record=True, width=screen.columns, force_terminal=True, color_system="truecolor"
    )
    for y in range(screen.lines):
        row = [screen.buffer[y][x] for x in range(screen.columns)]
        words = groupby(row, lambda char: (_style(char), char.data == " "))  # some viewers drop spaces inside a text
        parts = [("".join(char.data for char in chars), style) for (style, _), chars in words]
        console.print(Text.assemble(*parts), no_wrap=True, overflow="ignore", crop=False)
    return console.export_svg(title=title, theme=THEME, code_format=FORMAT, unique_id="screen")


def _style(char: Char) -> Style:
    return Style(
        color=_color(char.fg),
        bgcolor=_color(char.bg),
        bold=char.bold,
        italic=char.italics,
        underline=char.underscore,
        strike=char.strikethrough,
        reverse=char.reverse,
    )


def _color(name: str) -> str | None:
    """Return a color as Rich spells it: pyte names the basic colors and writes all others in hexadecimal."""
    if name == "default":
        return None
    return f"#{name}" if len(name) == 6 and set(name) <= set("0123456789abcdef") else name
