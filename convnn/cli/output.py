"""Where commands write: data to stdout, messages to stderr."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import Any

from rich.table import Table as Grid
from rich.text import Text

from convnn.errors import Problem, UserError
from convnn.events import SCHEMA
from convnn.json_values import json_text
from convnn.tables import FORMATS, Table, blocks, csv_text, latex, markdown
from convnn.terminal.console import EscapingConsole, err, indented, out, say
from convnn.text import escaped

UNLIMITED = 1000  # columns: no table of ours is wider
WRITERS = {"csv": csv_text, "md": markdown, "latex": latex}


def write_data(text: str) -> None:
    """Write data for other programs to stdout: always UTF-8, whatever the terminal shows."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(text)
    sys.stdout.flush()


def write_json(document: dict[str, Any]) -> None:
    """Write one JSON document of our schema to stdout."""
    write_data(json_text({"schema": SCHEMA, **document}, indent=2) + "\n")


def data_width(console: EscapingConsole) -> int:
    """Return the columns for data: those of a terminal, and no limit elsewhere."""
    if console.is_terminal:
        return console.width
    return UNLIMITED


def print_grid(grid: Grid) -> None:
    """Print a Rich table, folded to the width of a terminal and nowhere else: `grep` wants whole values."""
    console = out()
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = UNLIMITED
    console.print(grid)


def cell(text: str, style: str = "") -> Text:
    """Return the cell of a Rich table: a name that holds a line break stays on one line."""
    return Text(escaped(text), style)


def print_table(table: Table, format: str) -> None:
    """Print a table in any format of `FORMATS` but JSON, on a terminal no wider than that, then its notes."""
    assert format in FORMATS
    if format != "table":
        write_data(WRITERS[format](table))
    else:
        console = out()
        width = None
        if sys.stdout.isatty() or os.environ.get("COLUMNS"):
            width = shutil.get_terminal_size().columns
        parts, hidden = blocks(table.mapped(console.displayable), width)
        for index, (header, *rows) in enumerate(parts):
            if index:
                console.print()
            console.print_line(header, "bold")
            # written at once: the cells are escaped, and laying out a thousand lines takes longer than making them
            console.file.write("".join(f"{row}\n" for row in rows))
        if hidden:
            table.notes.append(f"no room here for {', '.join(hidden)} (--format csv has everything)")
    say_notes(table.notes)


def print_sentences(sentences: list[str], style: str = "") -> None:
    """Print sentences that are a part of the result, a line each; on a terminal broken between words."""
    console = out()
    for sentence in sentences:
        console.print(Text(_broken(sentence, sys.stdout.isatty()), style), soft_wrap=True)


def say_notes(notes: list[str]) -> None:
    """Print what has to be known to read the metrics: on stderr, a line each, on a terminal broken between words."""
    for note in notes:
        say(_broken(note, sys.stderr.isatty()))


def _broken(sentence: str, is_terminal: bool) -> str:
    width = shutil.get_terminal_size().columns if is_terminal else UNLIMITED
    return textwrap.fill(sentence, width, subsequent_indent="  ", break_long_words=False)


def show_error(error: UserError, as_json: bool = False) -> None:
    """Print all problems at once, with their fixes; as JSON on stdout where that was requested."""
    if as_json:
        write_json({"error": {"code": int(error.code), "problems": [problem.json() for problem in error.problems]}})
    console = err()
    if len(error.problems) > 1:
        console.print(f"{len(error.problems)} problems:", style="bold")
    for problem in error.problems:
        _print_problem(console, problem)


def _print_problem(console: EscapingConsole, problem: Problem) -> None:
    first, *rest = indented(str(problem))
    console.print(Text.assemble(("error: ", "bold red"), first), soft_wrap=True)
    for line in rest:
        console.print_line(line, "dim")
