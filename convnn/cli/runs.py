"""`convnn runs`: the runs there are, filtered, sorted, with the columns that tell them apart."""

from __future__ import annotations

from typing import Annotated

import typer

from convnn.cli import arguments, console, listing
from convnn.cli.console import say, write_json


def runs(
    filter: arguments.Filter = None,
    *,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="KEYS",
            help="keys to sort by, commas between; -key from the largest",
            autocompletion=arguments.keys,
            show_default=False,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="KEYS",
            help="columns, commas between",
            autocompletion=arguments.keys,
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="every option as a column, not only those that differ")
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            metavar="KEYS",
            help="a row for each combination of values, or `repeats`: for runs that are the same but for the seed",
            autocompletion=arguments.keys,
            show_default=False,
        ),
    ] = None,
    figure: Annotated[
        str,
        typer.Option(
            "--figure",
            metavar="KEY",
            help="with --group: the figure that is averaged",
            autocompletion=arguments.keys,
        ),
    ] = "best",
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="with --group: average runs that were not trained to their end, too")
    ] = False,
    format: arguments.Format = "table",
    json: arguments.Json = False,
    runs: arguments.Runs = None,
) -> None:
    """List runs, newest first, with the options that differ between them."""
    from convnn.analysis import fields, run_table
    from convnn.analysis.filters import parse_filter
    from convnn.runs.run import runs_root

    kind = listing.checked_format(format, json)
    place = runs_root(runs)
    known = listing.read_summaries(place)
    found = run_table.sort_runs(parse_filter(filter or "", known).select(known), sort)
    if group is not None:
        kept, notes = listing.finished_runs(found, unfinished)
        result = run_table.group_runs(kept, group, fields.get_field(figure, fields.metric_names(kept)))
        result.notes.extend(notes)
        if kind == "json":
            return write_json({"runs": [run.json() for run in kept], "groups": result.json()})
        return console.print_table(result.table(), kind)
    if kind == "json":
        return write_json({"runs": [run.json() for run in found]})
    if not found and kind == "table":
        there = (
            f"none of {len(known)} runs in {place} fits"
            if known
            else f"there are no runs in {place}: convnn run starts one"
        )
        return say(there)
    shown = run_table.columns(found, columns, all_options=everything)
    return console.print_table(run_table.run_table(found, shown, glyphs=kind == "table"), kind)
