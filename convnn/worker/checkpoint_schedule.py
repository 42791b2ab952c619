"""When a run is saved: by epochs, by minutes and on request, in at most a twentieth of its time."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from convnn.costs.memory import optimizer_states
from convnn.errors import Exit, Problem, UserError
from convnn.events import Event, Saved, Warned
from convnn.runs.run import CHECKPOINTS, EVENTS
from convnn.text import memory
from convnn.training.state import Position, StateDict, TrainState
from convnn.worker import checkpoint
from convnn.worker.crash_points import reach
from convnn.worker.failures import storage_error

SHARE = 0.05  # of a run's time that saving may take
FULL = (errno.ENOSPC, errno.EDQUOT)
RETRY_SECONDS = 30.0  # after a failed write


class Checkpointer:
    """Writes the checkpoints of one run.

    `emit` records events. `flush_history` writes the events that are still in memory and raises OSError where it
    cannot: a checkpoint is never ahead of the history. `saved` is the position of the checkpoint that was resumed from.
    """

    def __init__(
        self,
        run: Path,
        state: TrainState,
        emit: Callable[[Event], None],
        flush_history: Callable[[], None],
        saved: Position | None = None,
    ) -> None:
        self.run, self.state, self.emit, self.flush_history = run, state, emit, flush_history
        self.config = state.config
        self._saved = (saved.epoch, saved.global_step) if saved else None  # position of the newest complete checkpoint
        self.seconds = 0.0  # that the last checkpoint took
        self._ended = time.monotonic()  # when it was written
        self._retry_at: float | None = None
        self._stretched = False  # a warning was given
        self._best: tuple[int, StateDict] | None = None  # global step and weights of the best epoch, not yet written

    def try_room(self) -> None:
        """Try whether the disk takes a checkpoint of this run. Raises UserError (storage) where it does not."""
        model = sum(value.nbytes for value in self.state.model.state_dict().values())
        model *= 1 if self.state.ema is None else 2
        parameters = sum(value.nbytes for value in self.state.model.parameters())
        sizes = model, parameters * optimizer_states(self.config)
        try:
            checkpoint.try_room(self.run, sizes)
        except OSError as error:
            problem = storage_error(error, self.run / CHECKPOINTS, in_runs=True).problems[0]
            message = f"a checkpoint of {memory(sum(sizes))} cannot be written: {problem.message}"
            raise UserError(Problem(message, fix=problem.fix), Exit.STORAGE) from error

    def epoch_ended(self, epoch: int) -> None:
        """Save if a checkpoint is due after this epoch; else keep its weights in memory if they are the best so far."""
        best = self.state.best
        is_best = best is not None and best.epoch == epoch
        if is_best:
            self._best = None
        due = self.state.is_complete or (epoch % self.config.checkpoint.every_epochs == 0 and self._affordable())
        saved = due and self.save(best=is_best)
        if is_best and not saved:
            state = self.state.state_dict()
            # a copy: training goes on in these tensors
            ema = None if state.ema is None else _copied(state.ema)
            self._best = self.state.position.global_step, StateDict(_copied(state.model), None, state.plain, ema)

    def step_ended(self) -> None:
        """Save if `every_minutes` have passed, or if a failed write is to be tried again."""
        now, minutes = time.monotonic(), self.config.checkpoint.every_minutes
        due = minutes is not None and now - self._ended >= 60 * minutes and self._affordable()
        retry = self._retry_at is not None and now >= self._retry_at
        if due or retry:
            self.save()

    @property
    def up_to_date(self) -> bool:
        """Whether there is a checkpoint of this very position, before or after the end of an epoch."""
        return self._saved == (self.state.position.epoch, self.state.position.global_step)

    def save(self, *, best: bool = False) -> bool:
        """Write a checkpoint unless there is one of this position; return whether the run can be resumed from here.

        A state that diverged is never written. After a failed write, which a warning reports, the earlier checkpoints
        stay and the next attempt follows later; only a run directory that has vanished raises UserError (storage).
        With `best` it is the best checkpoint, too.
        """
        if self.up_to_date:
            return True
        if self.state.diverged() is not None:
            return False
        timed, start = self.state.epoch_timer.running, time.monotonic()
        self.state.epoch_timer.stop()
        try:
            try:
                self._write(best)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                checkpoint.prune(self.run, keep=1)  # on a small disk the newest one makes way for none but the next
                self._write(best)
            self._retry_at = None
            self._prune()
        except OSError as error:
            self._handle_failure(error)
            return False
        finally:
            self.seconds, self._ended = time.monotonic() - start, time.monotonic()
            if timed:
                self.state.epoch_timer.start()
        return True

    def _prune(self) -> None:
        try:
            checkpoint.prune(self.run)
        except OSError as error:
            self.emit(Warned(message=f"earlier checkpoints could not be removed: {error.strerror or error}"))
        reach("checkpoint.pruned")

    def _write(self, best: bool) -> None:
        self.flush_history()
        step, state = self.state.position.global_step, self.state.state_dict()
        if self._best is not None:
            best_step, weights = self._best
            checkpoint.write(self.run, best_step, weights.model, None, weights.plain, weights.ema)
            checkpoint.write_pointer(self.run, "best", best_step)
            self._best = None
        history_bytes = (self.run / EVENTS).stat().st_size
        plain = {**state.plain, "config_hash": config_hash(state), "history_bytes": history_bytes}
        path = checkpoint.write(self.run, step, state.model, state.optimizer, plain, state.ema)
        checkpoint.write_pointer(self.run, "last", step)
        if best:
            checkpoint.write_pointer(self.run, "best", step)
        self._saved = (self.state.position.epoch, step)
        reach("checkpoint.pointed")
        self.emit(Saved(step=step, path=f"{CHECKPOINTS}/{path.name}"))

    def _handle_failure(self, error: OSError) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if not self.run.is_dir():
            raise UserError(
                Problem(
                    f"the run's directory has vanished: {self.run}",
                    fix="restore it with its checkpoints, or start a new run",
                ),
                Exit.STORAGE,
            ) from error
        self.emit(
            Warned(
                message=f"the checkpoint after step {self.state.position.global_step} could not be written "
                f"({error.strerror or error}); the earlier one stays, and the next attempt is in {RETRY_SECONDS:.0f} s"
            )
        )

    def _affordable(self) -> bool:
        if time.monotonic() - self._ended >= self.seconds / SHARE - self.seconds:
            return True
        if not self._stretched:
            self._stretched = True
            self.emit(
                Warned(
                    message=f"a checkpoint takes {self.seconds:.2g} s: they are written less often than configured, "
                    f"so that they take at most {SHARE:.0%} of the time"
                )
            )
        return False


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}


def config_hash(state: StateDict) -> str:
    """Return the SHA-256 of the options that decide the results."""
    return hashlib.sha256(json.dumps(state.plain["config"], sort_keys=True).encode()).hexdigest()
