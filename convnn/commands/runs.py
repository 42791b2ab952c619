"""`convnn runs`: the runs there are, filtered, sorted, with the columns that tell them apart."""

from __future__ import annotations

from typing import Annotated

import typer

from convnn.commands import tables
from convnn.commands.console import say, write_json


def runs(
    filter: tables.Filter = None,
    *,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="KEYS",
            help="keys to sort by, commas between; -key from the largest",
            autocompletion=tables.keys,
            show_default=False,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", metavar="KEYS", help="columns, commas between", autocompletion=tables.keys, show_default=False
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
            autocompletion=tables.keys,
            show_default=False,
        ),
    ] = None,
    figure: Annotated[
        str,
        typer.Option(
            "--figure",
            metavar="KEY",
            help="with --group: the figure that is averaged",
            autocompletion=tables.keys,
        ),
    ] = "best",
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="with --group: average runs that were not trained to their end, too")
    ] = False,
    format: tables.Format = "table",
    json: tables.Json = False,
    runs: tables.Runs = None,
) -> None:
    """List runs, newest first, with the options that differ between them."""
    from convnn import fields, listing
    from convnn.query import parse
    from convnn.runs import root
    from convnn.status import ASCII_GLYPHS, GLYPHS

    kind = tables.chosen(format, json)
    place = root(runs)
    known = tables.listed(place)
    found = listing.ordered(parse(filter or "", known).of(known), sort)
    if group is not None:
        kept, notes = tables.trained(found, unfinished)
        result = listing.grouped(kept, group, fields.field(figure, fields.metrics_of(kept)))
        result.notes.extend(notes)
        if kind == "json":
            return write_json({"runs": [run.json() for run in kept], "groups": result.json()})
        return tables.show(result.table(), kind)
    if kind == "json":
        return write_json({"runs": [run.json() for run in found]})
    if not found and kind == "table":
        there = (
            f"none of {len(known)} runs in {place} fits"
            if known
            else f"there are no runs in {place}: convnn run starts one"
        )
        return say(there)
    shown = listing.columns(found, columns, everything=everything)
    glyphs = None if kind != "table" else ASCII_GLYPHS if tables.ascii_only() else GLYPHS
    return tables.show(listing.table(found, shown, glyphs), kind)
