"""`convnn table`: a factorial view of runs, a figure in each cell."""

from __future__ import annotations

from typing import Annotated

import typer

from convnn.commands import tables
from convnn.commands.console import say, write_json


def table(
    *,
    rows: Annotated[
        str,
        typer.Option(
            "--rows", metavar="KEYS", help="options down the side, commas between", autocompletion=tables.keys
        ),
    ],
    cols: Annotated[
        str,
        typer.Option(
            "--cols", metavar="KEYS", help="options along the top, commas between", autocompletion=tables.keys
        ),
    ] = "",
    cell: Annotated[
        str,
        typer.Option(
            "--cell",
            metavar="KEY",
            help="the figure of a run: test_top1 (last epoch), best:test_top1, ...",
            autocompletion=tables.keys,
        ),
    ] = "best",
    where: tables.Where = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="take in runs that were not trained to their end")
    ] = False,
    format: tables.Format = "table",
    json: tables.Json = False,
    runs: tables.Runs = None,
) -> None:
    """Lay runs out by their options: one run is its figure alone, repeats are mean ± sd (n), an empty cell is a dot."""
    from convnn import factorial, fields
    from convnn.query import parse
    from convnn.runs import root

    kind = tables.chosen(format, json)
    known = tables.listed(root(runs))
    metrics = fields.metrics_of(known)
    found = parse(where or "", known).of(known)
    kept, notes = tables.trained(found, unfinished)
    axes = fields.fields(rows, metrics), fields.fields(cols, metrics)
    result = factorial.table(kept, *axes, fields.field(cell, metrics))
    result.notes.extend(notes)
    if kind == "json":
        return write_json(result.json())
    if not kept and kind == "table":
        return say(
            "no run fits" if known else "there are no runs: convnn run starts one, convnn import brings old ones"
        )
    return tables.show(result.table(), kind)
