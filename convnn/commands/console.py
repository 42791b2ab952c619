"""Where commands write: data to stdout, talk to stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from convnn.errors import Problem, UserError, escaped
from convnn.plain import silence

SCHEMA = "convnn/1"
WIDE = 1000  # characters: no table of ours is wider


def out() -> Console:
    """The console of data: stdout. Never parses markup: names may hold brackets."""
    return Console(markup=False, highlight=False, emoji=False)


def print_table(table: Table) -> None:
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
