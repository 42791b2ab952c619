"""`convnn export`: the metrics of runs for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convnn.cli import arguments
from convnn.cli.output import write_data, write_json
from convnn.terminal.console import say

EXAMPLES = """
convnn export @last --csv > curves.csv
convnn export 3f2a 77c0 --json --steps
convnn export 3f2a --tensorboard logs && tensorboard --logdir logs
"""


def export(
    names: arguments.NamedRuns,
    *,
    csv: Annotated[bool, typer.Option("--csv", help="print a line per epoch")] = False,
    as_json: arguments.Json = False,
    steps: Annotated[bool, typer.Option("--steps", help="the recorded steps instead of the epochs")] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            "--tensorboard",
            metavar="DIR",
            help="write a TensorBoard log into DIR/NAME (pip install 'convnn\\[tensorboard]')",
        ),
    ] = None,
    runs: arguments.RunsFolder = None,
) -> None:
    """Write the metrics of runs as CSV or JSON, or as TensorBoard logs."""
    from convnn.runs.export import csv_text, epoch_rows, step_rows, write_tensorboard
    from convnn.runs.find import find_run
    from convnn.runs.run import runs_root

    formats = {"--csv": csv, "--json": as_json, "--tensorboard": tensorboard is not None}
    arguments.only_one(formats, "no format is given", "choose --csv, --json or --tensorboard DIR")
    root = runs_root(runs)
    sources = {run.path: run for run in (find_run(name, root) for name in names)}.values()
    if tensorboard is not None:
        for run in sources:
            say(f"written to {write_tensorboard(run, tensorboard)}")
        return None
    kind, rows_of = "epochs", epoch_rows
    if steps:
        kind, rows_of = "steps", step_rows
    rows = {run: rows_of(run.history(steps=steps)) for run in sources}
    if as_json:
        return write_json({"runs": [{"name": run.name, kind: run_rows} for run, run_rows in rows.items()]})
    return write_data(csv_text({run.name: run_rows for run, run_rows in rows.items()}))
