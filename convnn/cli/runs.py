"""`convnn runs`: the runs there are, filtered, sorted, with the columns that tell them apart."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from convnn.cli import arguments, listing
from convnn.cli.output import print_table, write_json
from convnn.errors import naming_flag
from convnn.terminal.console import say
from convnn.text import plural

EXAMPLES = """
convnn runs 'layer=ConvNN status=done' --sort -best
convnn runs --group repeats
convnn runs --columns name,lr,best --format csv > runs.csv
convnn runs 'layer=ConvNN' --group K --save-view by-K
convnn runs --view by-K
"""


def runs(
    condition: arguments.Filter = None,
    *,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="KEYS",
            help="keys to sort by, separated by commas; -key puts the largest first",
            autocompletion=arguments.complete_keys,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="KEYS",
            help="columns, separated by commas; without it the options that differ",
            autocompletion=arguments.complete_keys,
        ),
    ] = None,
    all_options: Annotated[
        bool, typer.Option("--all", help="every option as a column, and the runs that failed before their first step")
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            metavar="KEYS",
            help="a row per combination of values; `repeats`: a row per configuration, whatever the seed",
            autocompletion=arguments.complete_keys,
        ),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            "--view", metavar="NAME", help="a saved view; flags beside it win", autocompletion=arguments.complete_views
        ),
    ] = None,
    save_view: Annotated[
        str | None,
        typer.Option("--save-view", metavar="NAME", help="keep filter, sort, columns and group under a name"),
    ] = None,
    remove_view: Annotated[
        str | None,
        typer.Option(
            "--remove-view", metavar="NAME", help="forget a saved view", autocompletion=arguments.complete_views
        ),
    ] = None,
    figure: arguments.Figure = "best",
    unfinished: arguments.Unfinished = False,
    format: arguments.Format = "table",
    as_json: arguments.FormatJson = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """List runs, newest first, with the options that differ between them."""
    from convnn.analysis import fields, run_table, views
    from convnn.analysis.filters import parse_filter
    from convnn.runs.run import runs_root

    if remove_view is not None:
        views.remove_view(remove_view)
        return say(f"the view {remove_view} is removed")
    format = listing.checked_format(format, as_json)
    if view is not None:
        saved = views.find_view(view)
        condition, sort = condition or saved.filter, sort or saved.sort
        columns, group = columns or saved.columns, group or saved.group
    root = runs_root(runs)
    summaries = listing.read_summaries(root)
    matches = parse_filter(condition or "", summaries).select(summaries)
    with naming_flag("--sort"):
        matches = run_table.sort_runs(matches, sort)
    if save_view is not None:
        known_metrics = fields.metric_names(summaries)
        with naming_flag("--columns"):
            fields.parse_fields(columns or "", known_metrics)
        if group != run_table.REPEATS:
            with naming_flag("--group"):
                fields.parse_fields(group or "", known_metrics)
        replaced = views.save_view(
            save_view, views.View(filter=condition or "", sort=sort, columns=columns, group=group)
        )
        outcome = "replaced" if replaced else "saved"
        say(f"the view {save_view} is {outcome}; show it with: convnn runs --view {shlex.quote(save_view)}")
    if not condition and not all_options:
        trained = [run for run in matches if not run.failed_early]
        if len(trained) < len(matches):
            failures = plural(len(matches) - len(trained), "run")
            say(f"note: left out: {failures} that failed before the first step (--all lists them)")
        matches = trained
    if group is not None:
        finished, notes = listing.finished_runs(matches, unfinished)
        field = fields.number_field(figure, fields.metric_names(finished), "figure")
        with naming_flag("--group"):
            groups = run_table.group_runs(finished, group, field)
        groups.notes.extend(notes)
        if format == "json":
            return write_json({"runs": [run.json() for run in finished], "groups": groups.json()})
        return print_table(groups.table(), format)
    if format == "json":
        return write_json({"runs": [run.json() for run in matches]})
    if format == "table" and not summaries:
        return say(f"there are no runs in {root}: convnn run starts one")
    if format == "table" and not matches:
        return say(f"no match among {plural(len(summaries), 'run')} in {root}")
    with naming_flag("--columns"):
        fields_by_column = run_table.columns(matches, columns, all_options=all_options)
    if format == "table" and columns is None and not all_options:
        fields_by_column = run_table.ranked(fields_by_column, matches)
    return print_table(run_table.run_table(matches, fields_by_column, glyphs=format == "table"), format)
