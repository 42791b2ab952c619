"""The coordinator of a search: it draws trials, queues them as cells of the sweep, and tells what became of each.

One process at a time does this for a search. All that it knows is on the disk, so the next one goes on after a kill: a
trial that has ended is told, one that has not is resumed or started, and one that was not written down is given up.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from convnn.errors import UserError
from convnn.events import PRUNED
from convnn.runs import control
from convnn.runs.control import ControlCommand
from convnn.runs.history import History
from convnn.runs.summary_cache import summaries
from convnn.sweeps.axes import Point
from convnn.sweeps.claims import claim_text
from convnn.sweeps.folder import SweepFolder
from convnn.sweeps.plan import Cell, CellPlanner, done_runs
from convnn.sweeps.queue import Queue
from convnn.sweeps.search.space import parameters_of, point_of
from convnn.sweeps.search.study import SearchStudy
from convnn.sweeps.search.trials import (
    best_value,
    is_complete,
    is_drawn,
    is_pending,
    misses,
    missing_repeats,
    trials_of,
)
from convnn.sweeps.start import queue_cells
from convnn.sweeps.states import INFEASIBLE, SAME, WAITING, CellState, SweepState, read_state
from convnn.sweeps.work import STOP, ensure_worker, live_workers
from convnn.text import plural
from convnn.worker.crash_points import reach

KILL_POINTS = ("search.asked", "search.recorded", "search.queued", "search.told")


class Coordinator:
    """Draws the trials of a search while its caller holds the claim of the folder."""

    def __init__(self, folder: SweepFolder, slots: int | None = None, say: Callable[[str], None] = print) -> None:
        self.folder, self.slots, self.say = folder, slots, say
        self.queue = Queue(folder.root)
        sweep = folder.sweep()
        assert sweep.search is not None
        self.sweep, self.search = sweep, sweep.search
        self.planner = CellPlanner(sweep)
        self.study = SearchStudy(folder.study, self.search, sweep.axes, folder.cells()[0])
        self._worker: subprocess.Popen[bytes] | None = None  # that this process started
        self._histories: dict[str, History] = {}  # of the runs that train, by path
        state = read_state(folder)
        self._tell(state)
        self._resume(state)

    def step(self) -> bool:
        """Tell what has ended, stop what others are better than, draw what there are slots for.

        Returns whether the search goes on.
        """
        state = read_state(self.folder)
        if state.search is not None:  # `--extend` may have changed it meanwhile
            self.search = self.study.search = state.search
        self._tell(state)
        self._stop_early(state)
        if self._is_stopped():
            return False
        if self.queue.paused is None:
            self._draw(self._parallel_runs() - sum(_is_going_on(cell) for cell in state.cells))
            for trial, seed in missing_repeats(state.cells, self.search):
                points = self._points(trial.state)
                self._add(self.planner.trial(trial.number + 1, points, seed), trial.number, trial.state.cell.index)
        if not self.queue.entries()[0]:
            return not self._has_ended()
        if self.queue.paused is None and (self._worker is None or self._worker.poll() is not None):
            self._worker = ensure_worker(self.queue, self.slots)
        return True

    def _has_ended(self) -> bool:
        """Whether nothing is left to draw, or nothing that was drawn goes on, as a person took it out of the queue."""
        state = read_state(self.folder)
        if any(_is_going_on(cell) for cell in state.cells):
            return False
        if is_complete(state.cells, self.search):
            self.say(f"the search has ended: {state.counts_text()}")
            return True
        pending = sum(is_pending(cell) for cell in state.trainable)
        if pending:
            self.say(f"{plural(pending, 'run')} stopped or taken out of the queue: convnn sweep run goes on")
        return pending > 0

    def _is_stopped(self) -> bool:
        """Whether a person told the search or a worker to end."""
        workers = live_workers(self.queue)
        return self.folder.stop.exists() or any(path.with_name(f"{path.name}.{STOP}").exists() for path in workers)

    def _parallel_runs(self) -> int:
        """Return how many runs the workers train at once: a line of what each left in its claim is a slot."""
        texts = [claim_text(path) or "" for path in live_workers(self.queue)]
        return sum(len(text.splitlines()) for text in texts) or self.slots or 1

    def _tell(self, state: SweepState) -> None:
        """Tell the study of every trial that has an outcome."""
        unfinished = self.study.unfinished
        by_index = {cell.cell.index: cell for cell in state.cells}
        for cell in state.cells:
            number = cell.cell.trial
            if number not in unfinished or number is None or cell.cell.repeats is not None:
                continue
            if cell.state == SAME:  # as an earlier one, whose outcome it has
                cell = by_index.get(cell.cell.same_as or 0, cell)
            if cell.state != INFEASIBLE and is_pending(cell):
                continue
            value = best_value(cell, self.search)
            if cell.state in ("done", PRUNED) and cell.run is not None:
                self.study.report(number, self._values(cell))
            if cell.state == "done" and value is not None:
                self.study.complete(number, value)
            elif cell.state == PRUNED:
                self.study.prune(number, value)
            else:
                self.study.fail(number)
            if cell.run is not None:
                self._histories.pop(cell.run.path, None)
            reach("search.told")

    def _stop_early(self, state: SweepState) -> None:
        """Report the epochs of the trials that train, and have those end that the rule stops."""
        for trial in trials_of(state.cells):
            cell = trial.state
            if cell.run is None or not cell.is_live:
                continue
            if self.study.report(trial.number, self._values(cell)):
                with suppress(UserError):  # it has just ended
                    control.send(Path(cell.run.path), ControlCommand.PRUNE)

    def _values(self, cell: CellState) -> dict[int, float]:
        """Return the metric of a run by epoch, where it is finite."""
        assert cell.run is not None
        history = self._histories.setdefault(cell.run.path, History())
        history.update(cell.run.run.events_path, steps=False)
        epochs, values = history.series(self.search.metric)
        return {int(epoch): value for epoch, value in zip(epochs, values, strict=True) if math.isfinite(value)}

    def _draw(self, count: int) -> None:
        """Draw trials until so many are new models that can be trained, or no more are to be drawn."""
        while count > 0 and not is_drawn(cells := read_state(self.folder).cells, self.search):
            number, points = self.study.ask(at_random=misses(cells) > 0)
            reach("search.asked")
            if self._add(self.planner.trial(number + 1, points), number):
                count -= 1
            else:
                self._tell(read_state(self.folder))

    def _add(self, cell: Cell, trial: int, repeats: int | None = None) -> bool:
        """Make a cell of the sweep, and queue it unless it is trained already; return whether it has a run."""
        done = {}
        if not self.sweep.trains_same:
            done = done_runs(summaries(self.folder.root)[0])
        with self.folder.changing():
            recorded = self.folder.add_trial(self.sweep, cell, trial, repeats)
            reach("search.recorded")
            if recorded.run is None:
                return False
            trained = {}
            if cell.key in done:
                trained[recorded.id] = done[cell.key]
            queue_cells(self.folder, [CellState(recorded, WAITING)], trained)
            reach("search.queued")
        return True

    def _resume(self, state: SweepState) -> None:
        """Queue what was drawn and has no outcome: runs that were interrupted, and those that never started."""
        with self.folder.changing():
            queue_cells(self.folder, [cell for cell in state.trainable if is_pending(cell) and not _is_going_on(cell)])

    def _points(self, state: CellState) -> list[Point]:
        """Return the points of a trial by its labels. Raises UserError where the space has no such points."""
        parameters = parameters_of(self.sweep.axes, state.cell.labels)
        if parameters is None:
            message = f"cell {state.cell.index} of {self.folder.name} has values that its axes do not have"
            raise UserError(message, fix="undo the change of sweep.toml or cells.jsonl")
        return [point_of(axis, parameters[axis.name]) for axis in self.sweep.axes]


def _is_going_on(cell: CellState) -> bool:
    """Whether the run of a cell trains or waits in the queue; a cell that is the same as another has no run."""
    return cell.position is not None or cell.is_live
