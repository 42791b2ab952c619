"""`convnn note`: a line of a person's own in the history of a run."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from convnn.cli import arguments
from convnn.errors import UserError
from convnn.terminal.console import out
from convnn.text import one_line

EXAMPLES = """
convnn note @last "lr was too high from epoch 40 on"
"""


def note(
    run: arguments.Run,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="one line")],
    runs: arguments.RunsFolder = None,
) -> None:
    """Write a line into the history of a run, with the time and your name."""
    from convnn.events import Changed
    from convnn.runs.event_log import append_event
    from convnn.runs.find import find_run
    from convnn.runs.run import runs_root

    line = one_line(text)
    if not line:
        raise UserError("the note is empty")
    target = find_run(run, runs_root(runs))
    append_event(target.events_path, Changed(description=line, by=getpass.getuser()))
    out().print_line(f"noted in {target.name}")
