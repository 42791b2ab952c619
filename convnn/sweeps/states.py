"""How far a sweep is: the state of each cell, from its run and from the queue. Nothing here prints or writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from convnn.errors import UserError
from convnn.events import PRUNED
from convnn.json_values import json_value
from convnn.runs.history import Progress
from convnn.runs.run import Run
from convnn.runs.slurm_jobs import QUEUED, REQUEUED, SCRIPT, Element, Job, job_of_element, job_status
from convnn.runs.status import STATUSES
from convnn.runs.summary import Summary, summarize
from convnn.runs.summary_cache import summaries
from convnn.runs.sweep_cells import SweepCell, sweep_names
from convnn.sweeps.folder import SweepFolder
from convnn.sweeps.queue import Entry, Queue
from convnn.sweeps.search.settings import Search
from convnn.sweeps.search.trials import is_complete, trials_of
from convnn.text import plural

INFEASIBLE, SAME, WAITING = "infeasible", "same", "waiting"
"""States of cells beside the statuses of runs: cannot be trained, the model of another, not in the queue yet."""
UNSUCCESSFUL = ("failed", "diverged", "stopped", "interrupted", "died")
QUEUES = (QUEUED, REQUEUED)
ORDER = ("done", "running", "paused", *QUEUES, WAITING, PRUNED, *UNSUCCESSFUL, INFEASIBLE, SAME)
"""In which words and counts name states."""


@dataclass(frozen=True)
class CellState:
    """A cell and how far it is. A cell that is the same model as another has the run and the progress of that one."""

    cell: SweepCell
    state: str  # a status of runs, or one of INFEASIBLE, SAME and WAITING
    run: Summary | None = None  # None before its directory is made
    progress: Progress | None = None  # while it trains
    position: int | None = None  # in the queue, from 1
    job: Job | None = None  # of Slurm, that trains it or is to train it
    cause: str = ""  # why its run ended early

    @property
    def is_done(self) -> bool:
        """Whether its model was trained to the end, by its own run or by that of the cell it is the same as."""
        return self.run is not None and self.run.status == "done"

    @property
    def is_live(self) -> bool:
        return self.state in STATUSES and STATUSES[self.state].is_live

    @property
    def fraction(self) -> float | None:
        """The share of its steps that are trained, while it trains."""
        if self.progress is None:
            return None
        return self.progress.fraction

    @property
    def text(self) -> str:
        """Why there is no value yet: "queued", "34 %", "infeasible: ...", "= cell 3", "diverged"."""
        if self.state == INFEASIBLE:
            return f"infeasible: {self.cell.reason}"
        if self.state == SAME:
            return f"= cell {self.cell.same_as}"
        if self.fraction is not None:
            return f"{self.fraction:.0%}".replace("%", " %")
        if self.state == PRUNED and self.run is not None:
            return f"pruned, epoch {self.run.epoch}"
        return self.state

    def json(self) -> dict[str, Any]:
        """Return the cell as `convnn sweep show --json` writes it."""
        metrics: dict[str, Any] = {}
        if self.run is not None:
            metrics = {name: value._asdict() for name, value in self.run.metrics.items()}
        return {
            "index": self.cell.index,
            "name": self.cell.name,
            "seed": self.cell.seed,
            "block": self.cell.block or None,
            "labels": self.cell.labels,
            "options": self.cell.options,
            "state": self.state,
            "run": self.run and self.run.path,
            "reused": self.cell.reused,
            "same_as": self.cell.same_as,
            "trial": self.cell.trial,
            "repeats": self.cell.repeats,
            "reason": self.cell.reason or self.cause or None,
            "fraction": self.fraction,
            "eta": self.progress and self.progress.eta,
            "position": self.position,
            "job": self.job and self.job.name,
            "metrics": json_value(metrics),
        }


@dataclass(frozen=True)
class SweepState:
    """A sweep and the states of its cells in their order."""

    folder: SweepFolder
    cells: Sequence[CellState]
    warnings: Sequence[str] = ()
    search: Search | None = None  # of a sweep that draws its cells
    is_searching: bool = False  # a coordinator draws them now

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of cells in each state that some cell is in."""
        counts = Counter(cell.state for cell in self.cells)
        return {state: counts[state] for state in ORDER if counts[state]}

    @property
    def trainable(self) -> list[CellState]:
        """The cells with a run of their own."""
        return [cell for cell in self.cells if cell.state not in (INFEASIBLE, SAME)]

    @property
    def is_done(self) -> bool:
        if self.search is not None:
            return is_complete(self.cells, self.search)
        return all(cell.is_done for cell in self.trainable)

    @property
    def has_failed(self) -> bool:
        """Whether a run failed; a trial of a search may diverge, which says something about its options."""
        return any(cell.state == "failed" for cell in self.cells)

    @property
    def is_going_on(self) -> bool:
        """Whether a cell trains, or waits in the queue or in that of Slurm, or others will."""
        return self.is_searching or any(cell.state in QUEUES or cell.is_live for cell in self.cells)

    @property
    def unsuccessful(self) -> list[CellState]:
        """The cells whose runs ended before their last epoch, or not at all."""
        return [cell for cell in self.cells if cell.state in UNSUCCESSFUL]

    @property
    def eta(self) -> float | None:
        """Seconds until the last cell ends, as the cells that train or are done need them; None while unknown."""
        left = sum(cell.state in (*QUEUES, WAITING) for cell in self.trainable) + self.undrawn
        live = [cell for cell in self.cells if cell.is_live]
        seconds = [cell.progress.elapsed + cell.progress.eta for cell in live if cell.progress and cell.progress.eta]
        seconds += [value for cell in self.trainable if cell.run and (value := _training_seconds(cell.run)) is not None]
        running = [cell.progress.eta for cell in live if cell.progress and cell.progress.eta is not None]
        if not seconds or len(running) < len(live):
            return None
        return (sum(running) + left * sum(seconds) / len(seconds)) / max(1, len(live))

    @property
    def undrawn(self) -> int:
        """The number of runs that a search is still to add."""
        if self.search is None:
            return 0
        return max(0, self.search.trials + self.search.repeats - len(self.trainable))

    def plan_json(self) -> dict[str, int]:
        return {
            "cells": len(self.cells),
            "infeasible": self.counts.get(INFEASIBLE, 0),
            "same": self.counts.get(SAME, 0),
            "trained": sum(cell.is_done for cell in self.trainable),
            "reused": sum(cell.cell.reused for cell in self.trainable),
        }

    def counts_text(self) -> str:
        """Return the counts in words: "36 cells: 30 done, 2 running, 4 queued", or "12 of 40 trials: ..."."""
        words = {INFEASIBLE: "cannot be trained", SAME: "the same model as another", WAITING: "not in the queue"}
        counts = ", ".join(f"{count} {words.get(state, state)}" for state, count in self.counts.items())
        if self.search is not None:
            trials = trials_of(self.cells)
            repeats = sum(len(trial.repeats) for trial in trials)
            more = ""
            if repeats:
                more = f" and {plural(repeats, 'repeat')} of the best"
            total = f"{len(trials)} of {plural(self.search.trials, 'trial')}{more}"
        else:
            total = plural(len(self.cells), "cell")
        return f"{total}: {counts}" if counts else total


def read_state(folder: SweepFolder, runs: Sequence[Summary] | None = None) -> SweepState:
    """Return how far a sweep is; `runs` are all runs of the folder, which are read otherwise. Raises OSError."""
    cells, warnings = folder.cells()
    if runs is None:
        runs = summaries(folder.root)[0]
    by_path = {run.path: run for run in runs}
    queue = Queue(folder.root)
    entries = {
        entry.run: (position, entry) for position, entry in enumerate(queue.entries()[0], 1) if entry.run is not None
    }
    causes = {entry.run: entry.cause for entry in reversed(queue.ended()) if entry.run is not None}
    states: dict[int, CellState] = {}
    for cell in cells:
        if cell.reason:
            states[cell.index] = CellState(cell, INFEASIBLE)
        elif cell.same_as is not None:
            states[cell.index] = CellState(cell, SAME)
            if (first := states.get(cell.same_as)) is not None:
                states[cell.index] = CellState(cell, SAME, first.run, first.progress)
        else:
            path, run = cell.run_path(folder.root), None
            if path is not None:
                run = _summary(path, by_path)
            state = _cell_state(cell, run, str(path), entries, causes, queue)
            states[cell.index] = _with_job(state, folder)
    return SweepState(folder, list(states.values()), warnings, folder.search(), folder.is_searching)


def read_states(root: Path) -> list[SweepState]:
    """Return all sweeps of a runs folder by name; one whose files cannot be read has no cells but a warning."""
    runs = summaries(root)[0]
    states = []
    for name in sweep_names(root):
        folder = SweepFolder(root, name)
        try:
            states.append(read_state(folder, runs))
        except (OSError, UserError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            states.append(SweepState(folder, [], [f"{folder.path} cannot be read: {reason}"]))
    return states


def _cell_state(
    cell: SweepCell,
    run: Summary | None,
    path: str,
    entries: Mapping[str, tuple[int, Entry]],
    causes: Mapping[str, str],
    queue: Queue,
) -> CellState:
    position, entry = entries.get(path, (None, None))
    if run is not None and run.status == "done":
        return CellState(cell, "done", run)
    if entry is not None:
        state = queue.status(entry)
        return _with_progress(CellState(cell, state, run, position=position))
    if run is None:
        cause = causes.get(path, "")
        return CellState(cell, "failed" if cause else WAITING, cause=cause)
    return _with_progress(CellState(cell, run.status, run, cause=causes.get(path, "")))


def _with_progress(state: CellState) -> CellState:
    if state.run is None or not state.is_live:
        return state
    return replace(state, progress=state.run.run.live_progress())


def _with_job(state: CellState, folder: SweepFolder) -> CellState:
    """Return the state of a cell with the Slurm job that trains it, if it is not done."""
    if state.state == "done" or state.position is not None:
        return state
    job = job_of_element(Element(folder.path / SCRIPT, state.cell.index))
    if job is None:
        return state
    if state.run is None:  # the status of a run is that of its job already
        state = replace(state, state=job_status(job.state, has_begun=False) or state.state)
    return replace(state, job=job)


def _summary(path: Path, by_path: Mapping[str, Summary]) -> Summary | None:
    """Return the summary of the run at `path`, which a reused one may have outside of the runs folder."""
    if (run := by_path.get(str(path))) is not None or not (path / "config.toml").is_file():
        return run
    try:
        return summarize(Run(path, path.name))
    except UserError:
        return None


def _training_seconds(run: Summary) -> float | None:
    """Return the seconds that a finished run took, by its last epoch."""
    values = [run.metrics[name].last for name in ("train_s", "eval_s") if name in run.metrics]
    known = [value for value in values if value is not None]
    if known and run.status == "done":
        return run.epoch * sum(known)
    return None
