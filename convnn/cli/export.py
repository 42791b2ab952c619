"""`convnn export`: the curves of a run for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convnn.cli import arguments
from convnn.cli.console import say, write_data
from convnn.errors import Problem, UserError


def export(
    run: Annotated[
        str,
        typer.Argument(help="run: @last, @2, @best:test_top1, a path or part of a name", autocompletion=arguments.runs),
    ],
    *,
    csv: Annotated[bool, typer.Option("--csv", help="a line an epoch, on stdout")] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            "--tensorboard",
            metavar="DIR",
            help="a TensorBoard log in DIR/NAME (pip install 'convnn\\[tensorboard]')",
            show_default=False,
        ),
    ] = None,
    runs: arguments.Runs = None,
) -> None:
    """Write the curves of a run as CSV, or as a TensorBoard log."""
    from convnn.runs import export as exports
    from convnn.runs.find import find_run
    from convnn.runs.run import runs_root

    if csv == (tensorboard is not None):
        raise UserError(Problem("what to export as is not said", fix="give one of --csv and --tensorboard DIR"))
    found = find_run(run, runs_root(runs))
    if tensorboard is not None:
        return say(f"written to {exports.write_tensorboard(found, tensorboard)}")
    write_data(exports.csv_text(found.history(steps=False)))
    return None
