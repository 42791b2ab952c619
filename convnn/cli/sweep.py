"""`convnn sweep`: plan, start, follow and look at runs over several values of options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnn.cli import arguments
from convnn.cli import sweep_run as sweep_running
from convnn.cli import sweep_show as sweep_results
from convnn.cli import sweep_train as sweep_training
from convnn.cli.config_flags import with_config_flags
from convnn.cli.output import print_table, write_json
from convnn.config.options import OPTIONS
from convnn.json_values import json_value
from convnn.tables import Column, Table
from convnn.terminal.console import out
from convnn.text import one_line, plural

if TYPE_CHECKING:
    from convnn.runs.summary import Summary
    from convnn.sweeps.costs import SweepCost
    from convnn.sweeps.folder import SweepFolder
    from convnn.sweeps.plan import Cell, SweepPlan
    from convnn.sweeps.search.settings import Search

sweep = typer.Typer(help="Train and compare runs over several values of options.", rich_markup_mode="rich")
EXAMPLES = """
convnn sweep check quickstart --K 1,4,9 --seeds 3
convnn sweep run quickstart --K 1,4,9 --seeds 3
convnn sweep show quickstart-K --format latex
"""
VARIED_OPTIONS = [option for option in OPTIONS if option.section != "output" and option.key != "run.name"]
MAX_ROWS = 5  # of cells that cannot be trained, and of those that are the same model


@sweep.callback(invoke_without_command=True)
def default(context: typer.Context, as_json: arguments.Json = False, runs: arguments.RunsFolder = None) -> None:
    """Train and compare runs over several values of options; without a command list the sweeps."""
    if context.invoked_subcommand is None:
        sweep_results.list_(as_json, runs)


def check(
    name: arguments.SweepSource,
    *,
    typed: dict[str, Any],
    seeds: arguments.CellSeeds = None,
    all_cells: Annotated[bool, typer.Option("--all", help="list every cell")] = False,
    as_json: arguments.Json = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Show the cells of a sweep: those to train, those that cannot be trained and why, and those that are one model."""
    from convnn.runs.run import runs_root
    from convnn.runs.summary_cache import summaries
    from convnn.sweeps.costs import sweep_cost
    from convnn.sweeps.folder import SweepFolder, find_sweep, named
    from convnn.sweeps.plan import plan_sweep, trained_cells
    from convnn.sweeps.start import with_seeds

    typed = with_seeds(typed, seeds)
    root = runs_root(runs)
    past_runs = summaries(root)[0]
    planned_sweep = find_sweep(name, root)[0]
    plan = plan_sweep(planned_sweep, typed)
    if planned_sweep.path is None:  # a preset: the names are those that `sweep run` gives
        plan = plan_sweep(named(plan.sweep, None, is_preset=True))
    trained = trained_cells(plan, past_runs)
    left = [cell for cell in plan.to_train if cell.index not in trained]
    cost = sweep_cost(plan, left, past_runs)
    answer = None
    if plan.sweep.slurm is not None:
        answer = _try_slurm(SweepFolder(root, plan.sweep.name), plan, left)
    if as_json:
        return write_json(_document(plan, trained, cost, answer))
    console = out()
    if plan.sweep.about:
        console.print_line(plan.sweep.about, "bold")
    for line in plan_lines(plan, trained, cost):
        console.print_line(line)
    if answer is not None:
        console.print_line(f"  sbatch: {answer}")
    if all_cells:
        print()
        return print_table(_cell_table(plan.cells, trained), "table")
    groups = {"cannot be trained:": plan.infeasible}
    if plan.sweep.search is None:
        groups["the same model as another:"] = plan.same
    for title, cells in groups.items():
        if cells:
            print()
            console.print_line(title)
            print_table(_cell_table(cells[:MAX_ROWS], trained), "table")
            if len(cells) > MAX_ROWS:
                console.print_line(f"and {len(cells) - MAX_ROWS} more (--all lists every cell)")
    return None


sweep.command("check")(with_config_flags(check, OPTIONS))
sweep.command("run")(with_config_flags(sweep_running.run, VARIED_OPTIONS))
sweep.command("train")(sweep_training.train)
sweep.command("commands")(with_config_flags(sweep_training.commands, VARIED_OPTIONS))
sweep.command("list")(sweep_results.list_)
sweep.command("show")(sweep_results.show)
sweep.command("stop")(sweep_results.stop)
sweep.command("rm")(sweep_results.rm)
sweep.command("coordinate", hidden=True)(sweep_running.coordinate)


def _try_slurm(folder: SweepFolder, plan: SweepPlan, left: Sequence[Cell]) -> str:
    """Return what sbatch says of the array that would train these cells. Raises UserError where it would refuse it."""
    from convnn.slurm_job import NoSlurmError
    from convnn.sweeps.slurm import common_processes, sweep_job, try_job

    cells = [cell.index for cell in left] or [1]
    try:
        processes = common_processes(cell.config for cell in left)
        return try_job(sweep_job(folder, cells, plan.sweep.slurm or {}, processes=processes))
    except NoSlurmError:
        return "not on this machine, so that [slurm] is not tried"


def plan_lines(plan: SweepPlan, trained: Mapping[int, Summary], cost: SweepCost) -> list[str]:
    """Return the cells in numbers, and the cost of those that are left to train."""
    if plan.sweep.search is not None:
        return _search_lines(plan, plan.sweep.search, cost)
    left = [cell for cell in plan.to_train if cell.index not in trained]
    counts = [
        f"{plural(len(left), 'cell')} to train",
        f"{len(trained)} already trained",
        f"{len(plan.infeasible)} cannot be trained",
        f"{len(plan.same)} the same model as another",
    ]
    if plan.skipped:
        counts.append(f"{plan.skipped} skipped")
    lines = [f"{plan.sweep.name}: {plural(len(plan.cells), 'cell')}", f"  {', '.join(counts)}"]
    lines += [f"  {line}" for line in cost.lines()]
    if plan.repeated_names:
        names = ", ".join(plan.repeated_names[:3])
        lines.append(f"  note: cells share a name, such as {names}: name more options in `name`")
    return lines


def _search_lines(plan: SweepPlan, search: Search, cost: SweepCost) -> list[str]:
    """Return the space of a search, how it draws and stops trials, and what it costs at most."""
    from convnn.sweeps.search.settings import missing_package
    from convnn.sweeps.search.space import describe

    lines = [f"{plan.sweep.name}: {plural(search.trials, 'trial')} by {search.method} on {search.metric}"]
    if search.confirm:
        lines[0] += f", the best {search.confirm} again with {plural(search.confirm, 'seed')}"
    lines += [f"  {axis.name}: {describe(axis)}" for axis in plan.sweep.axes]
    lines.append(f"  {search.stop.text}")
    if plan.infeasible:
        lines.append(f"  {len(plan.infeasible)} of {len(plan.cells)} random combinations cannot be trained")
    lines += [f"  {line}" for line in cost.lines()]
    if search.stop.method != "none":
        lines.append("  what is stopped early costs less")
    if (problem := missing_package(search)) is not None:
        lines.append(f"  note: {problem.message}: {problem.fix}")
    return lines


def _cell_table(cells: Sequence[Cell], trained: Mapping[int, Summary]) -> Table:
    columns = [Column("cell", right=True), Column("name"), Column("seed", right=True), Column("state")]
    rows = [[str(cell.index), cell.name, str(cell.seed), _state(cell, trained)] for cell in cells]
    return Table(columns, rows, key_columns=1)


def _state(cell: Cell, trained: Mapping[int, Summary]) -> str:
    if cell.reason:
        return one_line(cell.reason)
    if cell.same_as is not None:
        return f"= cell {cell.same_as}"
    if cell.index in trained:
        return f"trained: {trained[cell.index].name}"
    return "to train"


def _document(plan: SweepPlan, trained: Mapping[int, Summary], cost: SweepCost, sbatch: str | None) -> dict[str, Any]:
    counts = {
        "cells": len(plan.cells),
        "infeasible": len(plan.infeasible),
        "same": len(plan.same),
        "trained": len(trained),
        "skipped": plan.skipped,
        "cost": cost.json(),
        "sbatch": sbatch,
    }
    cells = [_cell_json(cell, trained) for cell in plan.cells]
    if (search := plan.sweep.search) is not None:  # its cells are drawn later
        counts["cells"] = search.trials
        document = {"search": search.json(), "cells": [], "examples": cells}
    else:
        document = {"cells": cells}
    return {"sweep": plan.sweep.name, "plan": counts, **document}


def _cell_json(cell: Cell, trained: Mapping[int, Summary]) -> dict[str, Any]:
    state, run = "to train", None
    if cell.is_infeasible:
        state = "infeasible"
    elif cell.same_as is not None:
        state = "same"
    elif cell.index in trained:
        state, run = "done", trained[cell.index].name
    return {
        "index": cell.index,
        "name": cell.name,
        "seed": cell.seed,
        "options": {key: json_value(cell.varied[key]) for key in cell.varied_keys},
        "state": state,
        "run": run,
        "same_as": cell.same_as,
        "reason": cell.reason or None,
    }
