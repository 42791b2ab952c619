"""The memory of a search: Optuna's study in `study.log`, a line of JSON for each change; nothing in it is unpickled.

Every trial of it is a cell of the sweep, too: where the file is lost or damaged, it is made again from the cells.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from convnn.files import open_append, with_time
from convnn.metrics import lower_is_better
from convnn.runs.sweep_cells import SweepCell
from convnn.sweeps.axes import Axis, Point
from convnn.sweeps.search.samplers import STARTUP_TRIALS, make_sampler
from convnn.sweeps.search.settings import Search, StopRule
from convnn.sweeps.search.space import distribution, parameters_of, point_of

NAME = "search"  # of the study
LONGEST_LINE = 1 << 20  # bytes of a change
PRUNED_ATTRIBUTE = "pruned"  # of a trial that was chosen to be stopped early

optuna.logging.disable_default_handler()


class _NoLock(JournalFileOpenLock):
    """No lock file: the claim of the coordinator admits one writer, and a kill leaves nothing to wait for."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


class SearchStudy:
    """Proposes the trials of a search, and remembers what became of each by its number."""

    def __init__(self, path: Path, search: Search, axes: Sequence[Axis], cells: Sequence[SweepCell]) -> None:
        self.search, self.axes = search, axes
        self.space = {axis.name: distribution(axis) for axis in axes}
        _drop_partial_line(path)
        try:
            self._open(path)
        except OSError:  # of the disk: the lines are no worse
            raise
        except Exception:  # whatever Optuna raises for lines that are no journal: they are kept beside it
            path.rename(path.with_name(with_time(path.name)))
            self._open(path)
        self._reconcile(cells)

    def _open(self, path: Path) -> None:
        self._storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_NoLock(str(path))))
        is_lower = lower_is_better(self.search.metric)
        direction = StudyDirection.MINIMIZE if is_lower else StudyDirection.MAXIMIZE
        self._study = optuna.create_study(
            storage=self._storage, study_name=NAME, direction=direction, load_if_exists=True
        )
        trials = self._study.get_trials(deepcopy=False)
        if self._study.direction != direction or not all(map(self._is_of_search, trials)):
            raise ValueError("a study of another search")

    def _is_of_search(self, trial: FrozenTrial) -> bool:
        """Whether samplers and pruners can go by a trial: it may hold whatever Optuna reads from a line."""
        numbers = [*(trial.values or ()), *trial.intermediate_values.values()]
        is_drawn = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        return all(isinstance(number, int | float) for number in numbers) and (
            not is_drawn or trial.distributions == self.space
        )

    def _reconcile(self, cells: Sequence[SweepCell]) -> None:
        """Bring the study up to date with the cells: a trial that was never written down is given up."""
        by_number = {cell.trial: cell for cell in reversed(cells) if cell.trial is not None}
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            if trial.number not in by_number:
                self.fail(trial.number)
        for number in range(len(self._study.get_trials(deepcopy=False)), max(by_number, default=-1) + 1):
            self._study.add_trial(self._lost_trial(by_number.get(number)))

    def _lost_trial(self, cell: SweepCell | None) -> FrozenTrial:
        parameters = None if cell is None else parameters_of(self.axes, cell.labels)
        if parameters is None:
            return create_trial(state=TrialState.FAIL)
        return create_trial(state=TrialState.RUNNING, params=parameters, distributions=self.space)

    @property
    def unfinished(self) -> set[int]:
        """The numbers of the trials that were not told how they ended."""
        return {trial.number for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}

    def ask(self, *, at_random: bool = False) -> tuple[int, list[Point]]:
        """Return the number of a new trial and its points; `at_random` whatever the method would propose."""
        count = len(self._study.get_trials(deepcopy=False))
        method = "random" if at_random and self.search.method != "qmc" else self.search.method
        self._study.sampler = make_sampler(method, self.search, self.space, count)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self._study.ask(self.space)
        return trial.number, [point_of(axis, trial.params[axis.name]) for axis in self.axes]

    def report(self, number: int, values: Mapping[int, float]) -> bool:
        """Note the values of a trial by epoch, and return whether it is to be stopped early."""
        study_id = self._storage.get_study_id_from_name(NAME)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        trial = self._storage.get_trial(trial_id)
        if trial.state.is_finished() or trial.user_attrs.get(PRUNED_ATTRIBUTE):
            return not trial.state.is_finished()
        for epoch in sorted(values.keys() - trial.intermediate_values.keys()):
            self._storage.set_trial_intermediate_value(trial_id, epoch, values[epoch])
            if _pruner(self.search.stop).prune(self._study, self._storage.get_trial(trial_id)):
                self._storage.set_trial_user_attr(trial_id, PRUNED_ATTRIBUTE, True)
                return True
        return False

    def complete(self, number: int, value: float) -> None:
        """Tell the value of a trial that was trained to its end."""
        self._study.tell(number, value, skip_if_finished=True)

    def prune(self, number: int, value: float | None) -> None:
        """Tell that a trial was stopped early, with its value so far.

        To gp and cmaes, which leave such trials out, it is a trial like any other: they would draw beside it again.
        """
        if self.search.method in ("gp", "cmaes") and value is not None:
            self.complete(number, value)
        else:
            self._study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)

    def fail(self, number: int) -> None:
        self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)


def _pruner(rule: StopRule) -> BasePruner:
    if rule.method == "asha":
        return SuccessiveHalvingPruner(min_resource=rule.min_epochs, reduction_factor=rule.eta)
    if rule.method == "median":
        return MedianPruner(n_startup_trials=STARTUP_TRIALS // 2, n_warmup_steps=rule.min_epochs - 1)
    return NopPruner()


def _drop_partial_line(path: Path) -> None:
    """Cut off a last line that a kill left without its end. Raises OSError where the file is a link."""
    descriptor = open_append(path)
    try:
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, LONGEST_LINE, max(0, size - LONGEST_LINE))
        end = tail.rfind(b"\n") + 1
        if end or size <= LONGEST_LINE:  # else it is no line of ours
            os.ftruncate(descriptor, size - len(tail) + end)
    finally:
        os.close(descriptor)
