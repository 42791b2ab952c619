"""`convnn sweep list`, `show`, `stop` and `rm`: sweeps that were started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnn.cli import arguments, listing
from convnn.cli.output import print_sentences, print_table, say_notes, write_json
from convnn.tables import Column, Table
from convnn.terminal.console import out, say
from convnn.text import duration, plural

if TYPE_CHECKING:
    from convnn.sweeps.folder import SweepFolder
    from convnn.sweeps.results import Results
    from convnn.sweeps.states import SweepState


def list_(as_json: arguments.Json = False, runs: arguments.RunsFolder = None) -> None:
    """List the sweeps and how far they are."""
    from convnn.runs.run import runs_root
    from convnn.sweeps.states import read_states

    root = runs_root(runs)
    states = read_states(root)
    if as_json:
        documents = [
            {"sweep": state.name, "path": str(state.folder.path), "cells": len(state.cells), "counts": state.counts}
            for state in states
        ]
        return write_json({"sweeps": documents})
    for warning in (warning for state in states for warning in state.warnings):
        say(f"warning: {warning}")
    if not states:
        return say(f"there are no sweeps in {root}; start one: convnn sweep run PRESET --K 1,4,9 --seeds 3")
    columns = [Column("sweep"), Column("cells", right=True), Column("done", right=True), Column("state")]
    rows = []
    for state in states:
        done = sum(cell.is_done for cell in state.cells)
        others = [f"{count} {word}" for word, count in state.counts.items() if word not in ("done", "same")]
        left = ""
        if state.is_going_on and state.eta:
            left = f", about {duration(state.eta)} left"
        progress = ", ".join(others) or "all done"
        if state.search is not None and not state.is_done:  # most of it is not drawn yet
            progress = state.counts_text()
        rows.append([state.name, str(len(state.cells)), str(done), progress + left])
    return print_table(Table(columns, rows, key_columns=1), "table")


def show(
    name: arguments.SweepName,
    *,
    figure: arguments.Figure = "best",
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="CELL", help="name or number of the cell to compare with, else the best"),
    ] = None,
    effect: Annotated[
        float, typer.Option("--effect", metavar="SIZE", min=0, help="difference that the runs needed are told for")
    ] = 1.0,
    format: arguments.Format = "table",
    as_json: arguments.FormatJson = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Show the grid of a sweep: mean ± sd (n) over the seeds or why there is none, the best cell, and a verdict."""
    from convnn.runs.run import runs_root
    from convnn.sweeps.folder import find_folder
    from convnn.sweeps.results import results
    from convnn.sweeps.states import read_state

    format = listing.checked_format(format, as_json)
    root = runs_root(runs)
    folder = find_folder(name, root)
    summaries = listing.read_summaries(root)
    state = read_state(folder, summaries)
    for warning in state.warnings:
        say(f"warning: {warning}")
    result = results(state, summaries, key=figure, baseline=baseline, effect_size=effect)
    if format == "json":
        return write_json(sweep_json(state, result))
    table = result.table()
    if format != "table":
        print_table(table, format)
        return say_notes(result.sentences())
    console = out()
    console.print_line(f"{state.name}  {state.counts_text()}", "bold")
    console.print_line(table.title)
    print_table(table, format)
    print()
    sys.stdout.flush()
    return print_sentences(result.sentences())


def sweep_json(state: SweepState, result: Results) -> dict[str, Any]:
    """Return a sweep with its cells and their results as JSON values."""
    cells = [cell.json() for cell in state.cells]
    return {"sweep": state.name, "plan": state.plan_json(), "cells": cells, **result.json()}


def stop(
    name: arguments.SweepName,
    now: Annotated[bool, typer.Option("--now", help="the runs that train save and end, too")] = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Remove the cells of a sweep from the queue; those that train go on. `convnn sweep run NAME` continues it."""
    from convnn.sweeps.stop import stop_sweep

    folder = _folder(name, runs)
    removed, live = stop_sweep(folder, now=now)
    say(f"{plural(removed, 'cell')} removed from the queue")
    if live:
        outcome = "to save and end" if now else "still training (--now makes them save and end)"
        say(f"{plural(live, 'run')} {outcome}")
    say(f"continue with: convnn sweep run {folder.name}")


def rm(name: arguments.SweepName, runs: arguments.RunsFolder = None) -> None:
    """Move a sweep to the trash; its runs stay, and `convnn rm --where tag=NAME` removes them."""
    from convnn.sweeps.folder import remove
    from convnn.sweeps.stop import check_at_rest

    folder = _folder(name, runs)
    check_at_rest(folder)
    say(f"{folder.name} is in {remove(folder)}; its runs are kept")


def _folder(name: str, runs: Path | None) -> SweepFolder:
    from convnn.runs.run import runs_root
    from convnn.sweeps.folder import find_folder

    return find_folder(name, runs_root(runs))
