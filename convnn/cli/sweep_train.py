"""`convnn sweep train` and `commands`: one cell in this process, and the lines that train every cell."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnn.cli import arguments
from convnn.cli.output import write_data
from convnn.errors import Exit, UserError
from convnn.terminal.console import say

if TYPE_CHECKING:
    from convnn.runs.run import Run
    from convnn.sweeps.folder import SweepFolder


def train(
    name: arguments.SweepName,
    cell: Annotated[int, typer.Argument(metavar="CELL", min=1, help="number of the cell")],
    *,
    plain: arguments.Plain = False,
    live: arguments.Live = False,
    as_json: arguments.JsonEvents = False,
    debug: arguments.Debug = False,
    max_minutes: arguments.MaxMinutes = None,
    requeue: arguments.Requeue = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Train one cell of a sweep in this process, from its newest checkpoint, unless it is done.

    Exit codes are those of `convnn run`: 7 where another process trains the cell.
    """
    from convnn.cli.resume import resume
    from convnn.runs.run import runs_root
    from convnn.sweeps.folder import find_folder

    run = _run_of_cell(find_folder(name, runs_root(runs)), cell)
    if run is None:
        return None
    return resume(
        f"{run.path}/",
        typed={},
        plain=plain,
        live=live,
        as_json=as_json,
        debug=debug,
        max_minutes=max_minutes,
        requeue=requeue,
        runs=runs,
    )


def _run_of_cell(folder: SweepFolder, index: int) -> Run | None:
    """Return the run of a cell, which is made where it is missing; None where nothing is left to train, which is said.

    Raises UserError where the cell has no run of its own.
    """
    from convnn.config import toml
    from convnn.runs.run import Run, create_run, is_run

    cells = {cell.index: cell for cell in folder.cells()[0]}
    cell = cells.get(index)
    fix = f"list them: convnn sweep show {folder.name} --json"
    if cell is None:
        raise UserError(f"{folder.name} has no cell {index}", Exit.NO_RUN, value=index, fix=fix)
    if cell.reason:
        raise UserError(f"cell {index} cannot be trained: {cell.reason}", value=index, fix=fix)
    if cell.same_as is not None:
        say(f"cell {index} is the same model as cell {cell.same_as}, which is trained for both")
        return None
    path = cell.run_path(folder.root)
    assert path is not None  # it has neither a reason nor another cell
    run = Run(path, path.name)
    if is_run(path):
        status = run.recorded_status()
        if status == "done":
            say(f"cell {index} is done: {run.name}")
            return None
        if status == "diverged":
            message = f"cell {index} diverged: its run {run.name} would diverge again"
            raise UserError(message, Exit.DIVERGED, fix=f"train it anew: convnn sweep run {folder.name} --again")
        return run
    if cell.reused:
        message = f"the run that trained cell {index} was removed: {run.name}"
        raise UserError(message, Exit.NO_RUN, fix=f"plan it anew: convnn sweep run {folder.name}")
    text = folder.config_text(cell)
    config = toml.parse_run(text, str(folder.config_path(index)))
    try:
        return create_run(text, model=config.model.name, layer=config.layer.type, root=folder.root, directory=path)
    except UserError:
        if is_run(path):  # another process was first
            return run
        raise


def commands(
    source: arguments.SweepSource,
    *,
    typed: dict[str, Any],
    seeds: arguments.CellSeeds = None,
    name: arguments.NewSweepName = None,
    again: arguments.Again = False,
    extend: arguments.Extend = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Save a sweep and print a command per cell, for GNU parallel, HyperQueue, PBS and others.

    A line may run anywhere that has this runs folder, any number of times: what is done stays, the rest goes on.
    """
    from convnn.runs.run import runs_root
    from convnn.sweeps.slurm import cell_command
    from convnn.sweeps.start import cells_to_train, plan_start, with_seeds

    typed = with_seeds(typed, seeds)
    planned = plan_start(source, runs_root(runs), typed, name=name, extend=extend, again=again)
    for note in planned.notes:
        say(f"note: {note}")
    cells = cells_to_train(planned, again=again)
    write_data("".join(f"{shlex.join(cell_command(planned.folder, cell, '--plain'))}\n" for cell in cells))
