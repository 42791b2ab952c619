"""`convnn tag`: tags of runs that exist."""

from __future__ import annotations

from typing import Annotated

import typer

from convnn.cli import arguments
from convnn.terminal.console import out

EXAMPLES = """
convnn tag @last baseline
convnn tag 3f2a baseline draft --remove
convnn runs 'tag=baseline'
"""


def tag(
    run: arguments.Run,
    tags: Annotated[list[str], typer.Argument(metavar="TAG", help="one word or several")],
    remove: Annotated[bool, typer.Option("--remove", help="take these tags off the run")] = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Add tags to a run, or remove them; lists and filters know them as `tag`."""
    from convnn.runs.annotate import change_tags
    from convnn.runs.find import find_run
    from convnn.runs.run import runs_root

    target = find_run(run, runs_root(runs))
    present = change_tags(target, remove=tags) if remove else change_tags(target, add=tags)
    out().print_line(f"{target.name}: {', '.join(present) or 'no tags'}")
