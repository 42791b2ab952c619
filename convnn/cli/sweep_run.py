"""`convnn sweep run`: show the plan of a sweep, start it or go on with it, and follow it."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnn.cli import arguments
from convnn.cli.end_hooks import EndHooks
from convnn.errors import Exit, UserError
from convnn.runs.slurm_jobs import SCRIPT
from convnn.startup import Interrupted
from convnn.terminal.console import out, say
from convnn.text import plural

if TYPE_CHECKING:
    from convnn.sweeps.folder import SweepFolder
    from convnn.sweeps.slurm_options import OptionValue
    from convnn.sweeps.start import PlannedSweep
    from convnn.sweeps.states import SweepState

REFRESH_SECONDS = 1.0
WITHOUT_WORKER = 5  # states in a row without a worker before the view ends


def run(
    source: arguments.SweepSource,
    *,
    typed: dict[str, Any],
    seeds: arguments.CellSeeds = None,
    name: arguments.NewSweepName = None,
    again: arguments.Again = False,
    extend: arguments.Extend = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="start without asking")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="return at once; the sweep goes on")] = False,
    slots: arguments.Slots = None,
    slurm: Annotated[bool, typer.Option("--slurm", help="submit an array of Slurm jobs, a cell an element")] = False,
    sbatch: arguments.Sbatch = None,
    plain: arguments.Plain = False,
    max_minutes: Annotated[
        str | None,
        typer.Option(
            "--max-minutes",
            metavar="MINUTES",
            help="stop after this time; the same command goes on with it. With --slurm: of each job",
        ),
    ] = None,
    on_finish: arguments.OnFinish = None,
    no_notify: arguments.NoNotify = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Train the cells of a sweep; called again, it keeps finished cells and continues the others.

    A sweep is a file, or several values of flags: --K 1,4,9 or --K 1..12; `convnn sweep check` shows what it trains. A
    worker in the background trains it: ctrl+c ends only the view. Exit codes: 0 all done, 1 some cells are not, 2
    nothing was started, 75 the time limit was reached. With --slurm it prints the number of the job and returns.
    """
    from convnn.runs.run import runs_root
    from convnn.sweeps.start import plan_start, with_seeds

    typed = with_seeds(typed, seeds)
    minutes = _checked_minutes(max_minutes, slurm=slurm)
    options = sbatch_options(sbatch, slurm=slurm)
    hooks = EndHooks(on_finish, not no_notify)
    if on_finish is not None:
        arguments.refuse({"--detach": detach, "--slurm": slurm}, "--on-finish")
    if slurm:
        arguments.refuse({"--detach": detach}, "--slurm")
    elif detach:
        arguments.refuse({"--max-minutes": max_minutes}, "--detach")
    planned = plan_start(source, runs_root(runs), typed, name=name, extend=extend, again=again)
    if slurm:
        return submit_sweep(planned, options, again=again, yes=yes, slots=slots, max_minutes=max_minutes)
    return start_and_follow(
        planned, hooks, again=again, yes=yes, detach=detach, slots=slots, plain=plain, max_minutes=minutes
    )


def _checked_minutes(text: str | None, *, slurm: bool) -> float | None:
    """Return the minutes of a time limit; with --slurm, where its jobs read it, it may be auto. Raises UserError."""
    from convnn.worker.time_limit import AUTO, parse_minutes

    if text is None or (slurm and text == AUTO):
        return None
    return parse_minutes(text)


def sbatch_options(words: list[str] | None, *, slurm: bool) -> dict[str, OptionValue]:
    """Return what was typed as --sbatch. Raises UserError."""
    from convnn.sweeps.slurm_options import typed_options

    if not slurm:
        arguments.refuse_without({"--sbatch": words}, "--slurm")
    return typed_options(words or [])


def submit_sweep(
    planned: PlannedSweep,
    options: dict[str, OptionValue],
    *,
    again: bool = False,
    yes: bool = False,
    slots: int | None = None,
    max_minutes: str | None = None,
) -> None:
    """Show a plan, ask, and submit what is left of it as an array of Slurm jobs, with these options of sbatch."""
    from convnn.sweeps.slurm import common_processes, sweep_job, try_job
    from convnn.sweeps.start import check_grid, start_jobs

    check_grid(planned)
    folder, plan = planned.folder, planned.plan
    sweep = replace(plan.sweep, slurm={**(plan.sweep.slurm or {}), **options})
    planned = replace(planned, plan=replace(plan, sweep=sweep))
    _show_plan(planned)
    if planned.is_done and not again:
        return say("nothing is left to train")
    cells = [cell.index for cell in plan.to_train] or [1]
    processes = common_processes(cell.config for cell in plan.to_train)
    job = sweep_job(folder, cells, sweep.slurm or {}, slots, max_minutes, processes)
    out().print_line(f"  sbatch: {try_job(job)}")
    _confirm(yes)
    number, count = start_jobs(planned, again=again, slots=slots, max_minutes=max_minutes)
    if number is None:
        return say("nothing is left to submit: every cell is done, or waits already")
    out().print_line(f"job {number}, {plural(count, 'element')}, submitted from {folder.path / SCRIPT}")
    return say(f"look at it with: convnn sweep show {folder.name}; stop it with: convnn sweep stop {folder.name} --now")


def coordinate(name: arguments.SweepName, slots: arguments.Slots = None, runs: arguments.RunsFolder = None) -> None:
    """Draw the trials of a search: what `convnn sweep run` starts in the background."""
    from convnn.runs.run import runs_root
    from convnn.sweeps.folder import find_folder
    from convnn.sweeps.search.process import coordinate as serve

    serve(find_folder(name, runs_root(runs).absolute()), slots, say)


def run_seeds(
    preset: str | None,
    typed: dict[str, Any],
    seeds: str,
    root: Path,
    *,
    yes: bool,
    detach: bool,
    plain: bool,
    slurm: bool,
    options: dict[str, OptionValue],
    max_minutes: str | None,
    hooks: EndHooks,
) -> None:
    """Train a configuration with several seeds: the smallest sweep."""
    import tomli_w

    from convnn.presets.store import read
    from convnn.sweeps.file import parse_sweep
    from convnn.sweeps.start import plan_sweep_start, with_seeds

    typed = with_seeds(typed, seeds)
    name = typed.pop("run.name", None)
    sweep = parse_sweep("", "defaults")
    if preset is not None:
        sweep = parse_sweep(tomli_w.dumps({"base": preset}), read(preset).name)
    planned = plan_sweep_start(sweep, root, typed, name=None if name is None else str(name))
    if slurm:
        return submit_sweep(planned, options, yes=yes, max_minutes=max_minutes)
    return start_and_follow(planned, hooks, yes=yes, detach=detach, plain=plain)


def start_and_follow(
    planned: PlannedSweep,
    hooks: EndHooks,
    *,
    again: bool = False,
    yes: bool = False,
    detach: bool = False,
    slots: int | None = None,
    plain: bool = False,
    max_minutes: float | None = None,
) -> None:
    """Show a plan, ask, start it and follow it; ends with the exit code of the sweep."""
    from convnn.cli.queue import start_worker
    from convnn.sweeps.queue import Queue
    from convnn.sweeps.search.process import ensure_coordinator
    from convnn.sweeps.start import start
    from convnn.sweeps.states import read_state
    from convnn.terminal.sweep_view import progress_text

    folder = planned.folder
    _show_plan(planned)
    if planned.is_done and not again:
        say("nothing is left to train")
        return say(f"the table: convnn sweep show {folder.name}")
    _confirm(yes)
    entries = start(planned, again=again)
    queue = Queue(folder.root)
    say(f"{folder.name} is in {folder.path}")
    is_search = planned.plan.sweep.search is not None
    if is_search and ensure_coordinator(folder, slots):
        say("the search goes on in the background, and queues its trials")
    state = read_state(folder)
    is_queued = bool(entries) or any(cell.position is not None for cell in state.cells)
    if is_queued and (not is_search or queue.paused is not None):  # the coordinator of a search starts a worker
        start_worker(queue, slots)
    if detach:
        return say(f"{progress_text(read_state(folder))}; look at it with: convnn sweep show {folder.name}")
    deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
    state = _follow(folder, plain=plain, deadline=deadline)
    is_late = deadline is not None and time.monotonic() >= deadline and state.is_going_on
    if is_late:
        state = _stop(folder)
    _show_end(state)
    code = Exit.DONE if state.is_done and not state.has_failed else Exit.FAILED
    if is_late and not state.is_done:
        code = Exit.TIME_LIMIT
    status = "done"
    if code != Exit.DONE:
        status = "failed" if state.has_failed else "unfinished"
    hooks.call(f"{state.name} {status}", code, partial(_json, state), STATUS=status, SWEEP=state.name)
    raise typer.Exit(code)


def _json(state: SweepState) -> dict[str, Any]:
    from convnn.cli.sweep_show import sweep_json
    from convnn.runs.summary_cache import summaries
    from convnn.sweeps.results import results

    return sweep_json(state, results(state, summaries(state.folder.root)[0]))


def _show_plan(planned: PlannedSweep) -> None:
    from convnn.cli.sweep import plan_lines

    for note in planned.notes:
        say(f"note: {note}")
    if planned.plan.sweep.about:
        out().print_line(planned.plan.sweep.about, "bold")
    for line in plan_lines(planned.plan, planned.trained, planned.cost):
        out().print_line(line)
    if planned.state is not None:
        out().print_line(f"  it was started before: {planned.state.counts_text()}")


def _confirm(yes: bool) -> None:
    """Ask whether to start. Raises UserError where nobody can answer, and typer.Exit for no."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError("not a terminal, so nobody can confirm the plan", key="yes", fix="give --yes")
    if not typer.confirm("start?", default=True, err=True):
        say("nothing was started")
        raise typer.Exit(Exit.USAGE)


def _stop(folder: SweepFolder) -> SweepState:
    """Have the runs of a sweep save and end, as its time is over; return its state after that."""
    from convnn.sweeps.states import read_state
    from convnn.sweeps.stop import stop_sweep

    say("the time limit is reached: its runs save and end")
    stop_sweep(folder, now=True)
    while (state := read_state(folder)).is_going_on:
        time.sleep(REFRESH_SECONDS)
    return state


def _follow(folder: SweepFolder, *, plain: bool, deadline: float | None) -> SweepState:
    """Show the sweep until nothing of it trains or waits, nobody trains it, or the deadline; ctrl+c ends the view."""
    from convnn.sweeps.queue import Queue
    from convnn.sweeps.states import read_state
    from convnn.sweeps.work import live_workers
    from convnn.terminal.sweep_view import LiveGrid, PlainCells

    queue, unserved = Queue(folder.root), 0
    try:
        with PlainCells() if plain or not out().is_terminal else LiveGrid() as view:
            while True:
                state = read_state(folder)
                view.show(state)
                is_served = state.is_searching or any(cell.progress or cell.job for cell in state.cells)
                is_served = is_served or bool(live_workers(queue))
                unserved = 0 if is_served and queue.paused is None else unserved + 1
                is_late = deadline is not None and time.monotonic() >= deadline
                if not state.is_going_on or unserved > WITHOUT_WORKER or is_late:
                    return state
                time.sleep(REFRESH_SECONDS)
    except KeyboardInterrupt as interruption:
        say(f"the sweep goes on in the background; follow it again with: convnn sweep run {folder.name}")
        code = interruption.code if isinstance(interruption, Interrupted) else Exit.INTERRUPTED
        raise typer.Exit(code) from None


def _show_end(state: SweepState) -> None:
    """Print the counts at the end of a view and, where something is left, how to go on."""
    from convnn.sweeps.queue import Queue
    from convnn.sweeps.search.process import log_tail

    out().print_line(state.counts_text())
    for cell in state.unsuccessful[:5]:
        say(f"{cell.cell.name} seed {cell.cell.seed} {cell.state}: {cell.cause}".removesuffix(": "))
    if state.is_going_on:
        reason = Queue(state.folder.root).paused
        say(f"the queue is paused: {reason}" if reason is not None else "no worker serves the queue")
    if state.search is not None and (reason := log_tail(state.folder)):
        say(reason)
    if not state.is_done:
        say(f"continue with: convnn sweep run {state.name}")
    say(f"the table: convnn sweep show {state.name}")
