"""The trials of a search among the cells of its sweep: what was drawn, what became of it, and the repeats of the best.

A draw whose model cannot be trained, or is that of an earlier trial, counts as none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convnn.events import PRUNED
from convnn.metrics import lower_is_better
from convnn.sweeps.search.settings import Search

if TYPE_CHECKING:
    from convnn.sweeps.states import CellState

ENDED = ("done", PRUNED, "failed", "diverged")  # states of runs that no search resumes
MAX_MISSES = 50  # draws in a row without a new model that end a search: there is hardly anything left in its space


@dataclass(frozen=True)
class Trial:
    """A trial that is or was trained, and its repeats with other seeds."""

    number: int  # in the study, from 0
    state: CellState
    repeats: Sequence[CellState] = ()

    @property
    def is_pending(self) -> bool:
        return is_pending(self.state)

    def value(self, search: Search) -> float | None:
        """Return the best value of the metric over its epochs, as the search compares it."""
        return best_value(self.state, search)


def trials_of(cells: Sequence[CellState]) -> list[Trial]:
    draws = [state for state in _draws(cells) if not _is_miss(state)]
    repeats: dict[int, list[CellState]] = {}
    for state in cells:
        if state.cell.trial is not None and state.cell.repeats is not None:
            repeats.setdefault(state.cell.trial, []).append(state)
    return [
        Trial(number, state, repeats.get(number, ())) for state in draws if (number := state.cell.trial) is not None
    ]


def misses(cells: Sequence[CellState]) -> int:
    """Return how many of the last draws in a row were no new model that can be trained."""
    count = 0
    for state in reversed(_draws(cells)):
        if not _is_miss(state):
            break
        count += 1
    return count


def is_drawn(cells: Sequence[CellState], search: Search) -> bool:
    """Return whether a search draws no more trials."""
    return len(trials_of(cells)) >= search.trials or misses(cells) >= MAX_MISSES


def missing_repeats(cells: Sequence[CellState], search: Search) -> list[tuple[Trial, int]]:
    """Return the trials and seeds that are still to be trained to confirm the best ones, once all trials have ended."""
    trials = trials_of(cells)
    if not search.confirm or not is_drawn(cells, search) or any(trial.is_pending for trial in trials):
        return []
    missing = []
    for trial in ranked(trials, search)[: search.confirm]:
        seeds = [seed for seed in range(search.confirm + 1) if seed != trial.state.cell.seed][: search.confirm]
        present = {state.cell.seed for state in trial.repeats}
        missing += [(trial, seed) for seed in seeds if seed not in present]
    return missing


def ranked(trials: Sequence[Trial], search: Search) -> list[Trial]:
    """Return the trials that were trained to their end, by the value of each, the best first."""
    sign = 1 if lower_is_better(search.metric) else -1
    valued = [(value, trial) for trial in trials if trial.state.is_done and (value := trial.value(search)) is not None]
    return [trial for _, trial in sorted(valued, key=lambda item: (sign * item[0], item[1].number))]


def is_complete(cells: Sequence[CellState], search: Search) -> bool:
    """Return whether every trial of a search has ended, and the repeats of the best ones."""
    if not is_drawn(cells, search) or missing_repeats(cells, search):
        return False
    return not any(is_pending(state) for trial in trials_of(cells) for state in (trial.state, *trial.repeats))


def is_pending(state: CellState) -> bool:
    """Return whether the run of a cell may still be trained to its end or stopped early."""
    return state.position is not None or state.state not in ENDED


def best_value(state: CellState, search: Search) -> float | None:
    """Return the best value of the metric of a search over the epochs of a run; None without one."""
    metric = None if state.run is None else state.run.metrics.get(search.metric)
    if metric is None:
        return None
    return metric.best


def _draws(cells: Sequence[CellState]) -> list[CellState]:
    """Return what was drawn in the order of the draws, without repeats."""
    return [state for state in cells if state.cell.trial is not None and state.cell.repeats is None]


def _is_miss(state: CellState) -> bool:
    return bool(state.cell.reason) or state.cell.same_as is not None
