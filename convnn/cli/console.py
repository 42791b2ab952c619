"""Where commands write: data to stdout, talk to stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from convnn import text
from convnn.errors import Problem, UserError, did_you_mean
from convnn.runs.index import summaries
from convnn.runs.summary import Summary
from convnn.tables import FORMATS, Table, blocks, csv_text, latex, markdown
from convnn.terminal.lines import silence
from convnn.text import escaped, to_ascii

SCHEMA = "convnn/1"
WIDE = 1000  # characters: no table of ours is wider


def out() -> Console:
    """The console of data: stdout. Never parses markup: names may hold brackets."""
    return Console(markup=False, highlight=False, emoji=False)


def print_table(table: RichTable) -> None:
    """A table on stdout, folded to the width of a terminal and nowhere else: `grep` wants whole values."""
    console = out()
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = WIDE
    console.print(table)


def err() -> Console:
    """The console of talk: stderr."""
    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def say(message: object) -> None:
    """A line of talk, or several. A terminal that hung up changes no exit code."""
    try:
        for line in str(message).splitlines():
            err().print(escaped(line), soft_wrap=True)
    except OSError:
        silence(sys.stderr)


def write_json(document: dict[str, Any]) -> None:
    """One JSON document of our schema on stdout."""
    sys.stdout.write(json.dumps({"schema": SCHEMA, **document}, indent=2, allow_nan=False) + "\n")


def show_error(error: UserError, as_json: bool = False) -> None:
    """All problems at once, with their fixes; as JSON on stdout where that was asked for."""
    if as_json:
        write_json({"error": {"code": int(error.code), "problems": [problem.json() for problem in error.problems]}})
    console = err()
    if len(error.problems) > 1:
        console.print(f"{len(error.problems)} problems:", style="bold")
    for problem in error.problems:
        console.print(_shown(problem), soft_wrap=True)


def _shown(problem: Problem) -> Text:
    text = Text()
    text.append("error: ", style="bold red")
    for number, line in enumerate(str(problem).splitlines()):
        text.append("\n" * bool(number) + escaped(line), style="" if number == 0 else "dim")
    return text


MANY = 300  # runs that take a second or so to read


def chosen(format: str, json: bool) -> str:
    """The format; --json wins. Raises UserError for one that there is not."""
    if format not in FORMATS:
        message = f"--format is {format!r}: must be one of {', '.join(FORMATS)}{did_you_mean(format, FORMATS)}"
        raise UserError(Problem(message, key="format", value=format))
    return "json" if json else format


def listed(root: Path) -> list[Summary]:
    """All runs of a root, newest first; a damaged one costs a line of warning."""
    found, warnings = summaries(root, lambda count: say(f"reading {count} new runs ...") if count >= MANY else None)
    for warning in warnings:
        say(f"warning: {warning}")
    return found


def trained(found: list[Summary], unfinished: bool) -> tuple[list[Summary], list[str]]:
    """The runs that were trained to their end, unless the others are asked for, too; and a note of those left out."""
    kept = found if unfinished else [run for run in found if run.status == "done"]
    out = len(found) - len(kept)
    few = "1 unfinished run" if out == 1 else f"{out} unfinished runs"
    return kept, [f"{few} left out (--unfinished takes them in)"] * (out > 0)


def ascii_only() -> bool:
    """Whether stdout cannot show more than ASCII."""
    return text.ascii_only(sys.stdout.encoding or "")


def show(table: Table, format: str) -> None:
    """Print a table in any format but JSON; on a terminal no wider than that."""
    if format == "table":
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else None
        printed, hidden = blocks(table, width, ascii=ascii_only())
        for at, block in enumerate(printed):
            out().print("\n" * (at > 0) + block[0], style="bold", soft_wrap=True)
            sys.stdout.write("".join(f"{line}\n" for line in block[1:]))
        if hidden:
            table.notes.append(f"no room here for {', '.join(hidden)} (--format csv has everything)")
    else:
        sys.stdout.write({"csv": csv_text, "md": markdown, "latex": latex}[format](table))
    sys.stdout.flush()
    said(table.notes)


def said(notes: list[str]) -> None:
    """Print what has to be known to read the figures: on stderr, a line each, on a terminal broken between words."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else 0
    for note in notes:
        note = to_ascii(note) if ascii_only() else note
        say(textwrap.fill(note, width, subsequent_indent="  ", break_long_words=False) if width else note)
