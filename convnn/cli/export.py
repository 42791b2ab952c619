"""`convnn export`: the metrics of a run for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convnn.cli import arguments
from convnn.cli.output import write_data
from convnn.errors import Problem, UserError
from convnn.terminal.console import say

EXAMPLES = """
convnn export @last --csv > curves.csv
convnn export 3f2a --tensorboard logs && tensorboard --logdir logs
"""


def export(
    run: arguments.Run,
    *,
    csv: Annotated[bool, typer.Option("--csv", help="print a line per epoch")] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            "--tensorboard",
            metavar="DIR",
            help="write a TensorBoard log into DIR/NAME (pip install 'convnn\\[tensorboard]')",
            show_default=False,
        ),
    ] = None,
    runs: arguments.RunsFolder = None,
) -> None:
    """Write the metrics of a run as CSV, or as a TensorBoard log."""
    from convnn.runs.export import csv_text, write_tensorboard
    from convnn.runs.find import find_run
    from convnn.runs.run import runs_root

    if csv == (tensorboard is not None):
        message = "--csv and --tensorboard exclude each other" if csv else "no format is given"
        raise UserError(Problem(message, fix="choose --csv or --tensorboard DIR"))
    source = find_run(run, runs_root(runs))
    if tensorboard is not None:
        return say(f"written to {write_tensorboard(source, tensorboard)}")
    return write_data(csv_text(source.history(steps=False)))
