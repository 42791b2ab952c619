"""`convnn table`: a factorial view of runs, a figure in each cell."""

from __future__ import annotations

from typing import Annotated

import typer

from convnn.cli import arguments, console, listing
from convnn.cli.console import say, write_json


def table(
    *,
    rows: Annotated[
        str,
        typer.Option(
            "--rows", metavar="KEYS", help="options down the side, commas between", autocompletion=arguments.keys
        ),
    ],
    cols: Annotated[
        str,
        typer.Option(
            "--cols", metavar="KEYS", help="options along the top, commas between", autocompletion=arguments.keys
        ),
    ] = "",
    cell: Annotated[
        str,
        typer.Option(
            "--cell",
            metavar="KEY",
            help="the figure of a run: test_top1 (last epoch), best:test_top1, ...",
            autocompletion=arguments.keys,
        ),
    ] = "best",
    where: arguments.Where = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="take in runs that were not trained to their end")
    ] = False,
    format: arguments.Format = "table",
    json: arguments.Json = False,
    runs: arguments.Runs = None,
) -> None:
    """Lay runs out by their options: one run is its figure alone, repeats are mean ± sd (n), an empty cell is a dot."""
    from convnn.analysis import fields
    from convnn.analysis.filters import parse_filter
    from convnn.analysis.pivot import pivot
    from convnn.runs.run import runs_root

    kind = listing.checked_format(format, json)
    known = listing.read_summaries(runs_root(runs))
    metrics = fields.metric_names(known)
    found = parse_filter(where or "", known).select(known)
    kept, notes = listing.finished_runs(found, unfinished)
    axes = fields.parse_fields(rows, metrics), fields.parse_fields(cols, metrics)
    result = pivot(kept, *axes, fields.get_field(cell, metrics))
    result.notes.extend(notes)
    if kind == "json":
        return write_json(result.json())
    if not kept and kind == "table":
        return say(
            "no run fits" if known else "there are no runs: convnn run starts one, convnn import brings old ones"
        )
    return console.print_table(result.table(), kind)
