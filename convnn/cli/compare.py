"""`convnn compare`: runs side by side, what differs first, then figures, curves and what the differences are worth."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnn.cli import arguments, console, listing
from convnn.cli.console import out, write_json
from convnn.errors import Exit, Problem, UserError

if TYPE_CHECKING:
    from convnn.runs.summary import Summary


def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="@last, @2, a path or part of a name; two or more",
            autocompletion=arguments.runs,
            show_default=False,
        ),
    ] = None,
    *,
    where: arguments.Where = None,
    pin: Annotated[
        str | None,
        typer.Option(
            "--pin",
            metavar="RUN",
            help="the run that the others are held against, else the first",
            autocompletion=arguments.runs,
            show_default=False,
        ),
    ] = None,
    figure: Annotated[
        str,
        typer.Option(
            "--figure",
            metavar="KEY",
            help="what groups are compared by: best, test_top1 (last epoch), best:test_loss, ...",
            autocompletion=arguments.keys,
        ),
    ] = "best",
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            help="the curves, and the figures at equal points; else the metric that decides",
            show_default=False,
        ),
    ] = None,
    effect: Annotated[
        float,
        typer.Option("--effect", min=0, help="a difference worth settling, in points; sample sizes are said for it"),
    ] = 1.0,
    curves: Annotated[bool, typer.Option("--curves/--no_curves", help="draw the curves")] = True,
    format: arguments.Format = "table",
    json: arguments.Json = False,
    runs: arguments.Runs = None,
) -> None:
    """Hold runs against each other: differences of configuration, figures at equal points, curves, and repeats."""
    from convnn.analysis import comparison, comparison_report
    from convnn.runs.run import runs_root

    kind = listing.checked_format(format, json)
    place = runs_root(runs)
    known = listing.read_summaries(place)
    chosen = _chosen(names or [], where, pin, known, place)
    result = comparison.compare(chosen, known, key=figure, metric=metric, effect_size=effect)
    if kind == "json":
        return write_json(result.json())
    for table in comparison_report.tables(result):
        if kind == "table" and table.title:
            out().print(table.title, style="bold", soft_wrap=True)
        if table.rows or kind != "table":
            console.print_table(table, kind)
        print()
    if kind == "table" and curves:
        from convnn.terminal.panels import ComparisonCurves

        width = shutil.get_terminal_size((100, 24)).columns
        out().print(ComparisonCurves(result, width), soft_wrap=True)
    sys.stdout.flush()
    return console.say_notes(comparison_report.notes(result))


def _chosen(names: list[str], where: str | None, pin: str | None, known: list[Summary], root: Path) -> list[Summary]:
    """The runs to compare, the pinned one first. Raises UserError where there are fewer than two."""
    from convnn.analysis.filters import parse_filter
    from convnn.runs.find import find_run
    from convnn.runs.summary import summarize

    by_path = {run.path: run for run in known}

    def summary(name: str) -> Summary:
        run = find_run(name, root)
        return by_path.get(str(run.path)) or summarize(run)

    asked = [summary(pin)] if pin else []
    asked += [summary(name) for name in names]
    asked += parse_filter(where, known).select(known) if where is not None else []
    found = list({run.path: run for run in asked}.values())
    if len(found) < 2:
        said = "one run" if found else "no run"
        raise UserError(
            Problem(f"{said} to compare: two are needed", fix="give RUN RUN ..., or --where FILTER"), Exit.USAGE
        )
    return found
