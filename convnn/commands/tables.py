"""Tables on stdout in the format asked for, notes on stderr; and the flags that commands with tables share."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from convnn import live
from convnn.commands.console import out, say
from convnn.errors import Problem, UserError
from convnn.nearest import did_you_mean
from convnn.output import FORMATS, Table, blocks, csv_text, latex, markdown, to_ascii
from convnn.summaries import Summary, summaries

MANY = 300  # runs that take a second or so to read

Runs = Annotated[Path | None, typer.Option("--runs", help="folder of the runs, else $CONVNN_RUNS, else ./runs")]
Json = Annotated[bool, typer.Option("--json", help="short for --format json")]


def _formats(incomplete: str) -> list[str]:
    return [name for name in FORMATS if name.startswith(incomplete)]


def _seen(context: typer.Context) -> list[Summary]:
    from convnn.runs import root

    return summaries(root(context.params.get("runs")))[0]


def _filters(context: typer.Context, incomplete: str) -> list[str]:
    from convnn.completion import complete

    return complete(incomplete, _seen(context))


def keys(context: typer.Context, incomplete: str) -> list[str]:
    """What the shell offers for lists of keys with commas between."""
    from convnn import completion

    before = incomplete[: len(incomplete) - len(incomplete.rpartition(",")[2].lstrip("-"))]
    return [before + key for key in completion.keys(_seen(context)) if (before + key).startswith(incomplete)]


Format = Annotated[
    str, typer.Option("--format", metavar="|".join(FORMATS), help="how it is printed", autocompletion=_formats)
]
FILTER_HELP = (
    "condition on runs in one quoted argument, such as 'layer=Branching K>=9 best>80 status=done,failed name~br05 "
    "has:attention_dropout'; a space is AND, a comma one-of; OR, NOT and parentheses"
)
Where = Annotated[
    str | None, typer.Option("--where", metavar="FILTER", help=FILTER_HELP, autocompletion=_filters, show_default=False)
]
Filter = Annotated[
    str | None,
    typer.Argument(metavar="FILTER", help=FILTER_HELP, autocompletion=_filters, show_default=False),
]


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
    return live.ascii_only(sys.stdout.encoding or "")


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
