"""`convnn note`: a line of a person's own in the history of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from convnn.cli import arguments
from convnn.terminal.console import out

EXAMPLES = """
convnn note @last "lr was too high from epoch 40 on"
"""


def note(
    run: arguments.Run,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="one line")],
    runs: arguments.RunsFolder = None,
) -> None:
    """Write a line into the history of a run, with the time and your name."""
    from convnn.runs.annotate import add_note
    from convnn.runs.find import find_run
    from convnn.runs.run import runs_root

    target = find_run(run, runs_root(runs))
    add_note(target, text)
    out().print_line(f"noted in {target.name}")
