"""`convnn compare`: runs side by side, what differs first, then metrics, curves and what the differences are worth."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnn.cli import arguments, listing
from convnn.cli.output import print_sentences, print_table, say_notes, write_json
from convnn.errors import UserError
from convnn.terminal.console import out

if TYPE_CHECKING:
    from convnn.runs.summary import Summary

EXAMPLES = """
convnn compare @last @2
convnn compare --where 'dataset=cifar10 layer=ConvNN,Conv2d' --figure best:test_top1
convnn compare 3f2a 77c0 --pin 3f2a --no_curves --format md
"""


def compare(
    names: arguments.Runs = None,
    *,
    where: arguments.Where = None,
    pin: Annotated[
        str | None,
        typer.Option(
            "--pin",
            metavar="RUN",
            help="the run that the others are compared with; without it the first",
            autocompletion=arguments.complete_runs,
        ),
    ] = None,
    figure: arguments.Figure = "best",
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="METRIC",
            help="metric of the curves and of the values at equal points; without it the monitored one",
        ),
    ] = None,
    effect: Annotated[
        float,
        typer.Option(
            "--effect",
            metavar="POINTS",
            min=0,
            help="smallest difference of interest, in points: sample sizes are given for it",
        ),
    ] = 1.0,
    unfinished: Annotated[
        bool,
        typer.Option(
            "--unfinished", help="average runs that were not trained to their end, too; no claim is made of them"
        ),
    ] = False,
    curves: Annotated[bool, typer.Option("--curves/--no_curves", help="draw the curves", show_default=False)] = True,
    format: arguments.Format = "table",
    as_json: arguments.FormatJson = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Compare runs: differences of configuration, metrics at equal points, curves, and repeats."""
    from convnn.analysis import comparison, comparison_report
    from convnn.runs.run import runs_root

    format = listing.checked_format(format, as_json)
    root = runs_root(runs)
    summaries = listing.read_summaries(root)
    selected = _selected(names or [], where, pin, summaries, root)
    result = comparison.compare(
        selected, summaries, key=figure, metric=metric, effect_size=effect, unfinished=unfinished
    )
    if format == "json":
        return write_json(result.json())
    console = out()
    for table in comparison_report.tables(result):
        if format == "table" and table.title:
            print_sentences([table.title], "bold")
        if table.rows or format != "table":
            print_table(table, format)
        print()
    if format == "table" and curves:
        from convnn.terminal.panes import ComparisonCurves

        width = shutil.get_terminal_size((100, 24)).columns
        console.print(ComparisonCurves(result, width), soft_wrap=True)
    caveats, verdicts = comparison_report.caveats(result), comparison_report.verdicts(result)
    notes = comparison_report.notes(result)
    if format != "table":
        return say_notes([*caveats, *notes, *verdicts])
    print_sentences(caveats)  # a part of the result, as the tables, the curves and the verdicts are
    sys.stdout.flush()
    say_notes(notes)
    return print_sentences(verdicts)


def _selected(
    names: list[str], where: str | None, pin: str | None, summaries: list[Summary], root: Path
) -> list[Summary]:
    """Return the runs to compare, the pinned one first. Raises UserError where there are fewer than two."""
    from convnn.analysis.filters import parse_filter

    if pin is not None:
        names = [pin, *names]
    selected = listing.named_summaries(names, summaries, root)
    if where is not None:
        selected += parse_filter(where, summaries).select(summaries)
    unique = list({summary.path: summary for summary in selected}.values())
    if len(unique) < 2:
        count = "one run" if unique else "no run"
        fix = "give RUN RUN ..., or --where FILTER"
        if where is not None:
            fix = "give --where a filter of more runs: `convnn runs FILTER` lists them"
        raise UserError(f"{count} to compare: two are needed", fix=fix)
    return unique
