"""`convnn table`: runs laid out by their options, a metric in each cell."""

from __future__ import annotations

from typing import Annotated

import typer

from convnn.cli import arguments, listing
from convnn.cli.output import print_table, write_json
from convnn.errors import naming_flag
from convnn.terminal.console import say

EXAMPLES = """
convnn table --rows K --cols layer --cell best:test_top1
convnn table --rows branch_ratio --cols similarity_type --where 'dataset=cifar10' --format latex
"""


def table(
    *,
    rows: Annotated[
        str,
        typer.Option(
            "--rows",
            metavar="KEYS",
            help="options down the side, separated by commas",
            autocompletion=arguments.complete_keys,
        ),
    ],
    cols: Annotated[
        str,
        typer.Option(
            "--cols",
            metavar="KEYS",
            help="options along the top, separated by commas",
            autocompletion=arguments.complete_keys,
        ),
    ] = "",
    cell: Annotated[
        str,
        typer.Option(
            "--cell",
            metavar="KEY",
            help="metric in the cells: best, test_top1 (last epoch), best:test_loss, ...",
            autocompletion=arguments.complete_keys,
        ),
    ] = "best",
    where: arguments.Where = None,
    unfinished: arguments.Unfinished = False,
    format: arguments.Format = "table",
    as_json: arguments.FormatJson = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Show a metric of runs in a table over their options.

    A cell shows the value of one run, mean ± sd (n) of repeats, and a dot where there is no run.
    """
    from convnn.analysis import fields
    from convnn.analysis.filters import parse_filter
    from convnn.analysis.pivot import pivot
    from convnn.runs.run import runs_root

    format = listing.checked_format(format, as_json)
    summaries = listing.read_summaries(runs_root(runs))
    metrics = fields.metric_names(summaries)
    matches = parse_filter(where or "", summaries).select(summaries)
    finished, notes = listing.finished_runs(matches, unfinished)
    with naming_flag("--rows"):
        row_fields = fields.parse_fields(rows, metrics)
    with naming_flag("--cols"):
        col_fields = fields.parse_fields(cols, metrics)
    result = pivot(finished, row_fields, col_fields, fields.number_field(cell, metrics, "cell"))
    result.notes.extend(notes)
    if format == "json":
        return write_json(result.json())
    if format == "table" and not summaries:
        return say("there are no runs: convnn run starts one, convnn import brings old ones")
    if format == "table" and not finished:
        return say("no run matches")
    return print_table(result.table(), format)
