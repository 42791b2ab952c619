"""When a run is saved: by epochs, by minutes and on request, in at most a twentieth of its time."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from convnn import predictions
from convnn.costs.memory import optimizer_states
from convnn.errors import Exit, UserError
from convnn.events import Event, Saved, Warned
from convnn.hardware import free_memory
from convnn.predictions import Predictions
from convnn.runs.run import CHECKPOINTS, EVENTS
from convnn.text import memory
from convnn.training import device as training_device
from convnn.training.state import Position, StateDict, TrainState
from convnn.worker import checkpoint
from convnn.worker.crash_points import reach
from convnn.worker.failures import storage_error

SHARE = 0.05  # of a run's time that saving may take
BACKGROUND_DEVICES = ("cuda", "mps")  # on which training goes on while a checkpoint is written
FULL = (errno.ENOSPC, errno.EDQUOT)
RETRY_SECONDS = 30.0  # after a failed write


@dataclass(frozen=True)
class CheckpointJob:
    """What is written as a checkpoint, and the weights of an earlier best epoch that wait to be written before it."""

    epoch: int
    step: int  # of the whole run
    state: StateDict
    is_best: bool
    earlier_best: tuple[int, StateDict] | None
    predictions: Predictions | None  # of the best epoch, not yet written

    @property
    def best(self) -> tuple[int, StateDict] | None:
        """The step and the weights of the best epoch among those to be written."""
        if self.is_best:
            return self.step, replace(self.state, optimizer=None)
        return self.earlier_best

    def on_host(self) -> CheckpointJob | None:
        """Return a copy that training does not change, in the memory of the host; None where it has no room."""
        state, best, free = self.state, self.earlier_best, free_memory("cpu")[1]
        needed = state.nbytes + (0 if best is None else best[1].nbytes)
        if free is not None and free < 2 * needed:  # the copy, and what writing it takes
            return None
        try:
            if best is not None:
                best = best[0], best[1].copied(training_device.host_copies)
            state = replace(state.copied(training_device.host_copies), plain=copy.deepcopy(state.plain))
        except (RuntimeError, MemoryError):  # such as where pages cannot be locked
            return None
        return replace(self, state=state, earlier_best=best)


class Checkpointer:
    """Writes the checkpoints of one run, those that are due, off the CPU, on a thread that does file work only.

    At most one is being written; whoever asks for one by `save` waits for it.

    `emit` records events. `flush_history` writes the events that are still in memory and raises OSError where it
    cannot: a checkpoint is never ahead of the history. `saved` is the position of the checkpoint that was resumed from.
    `check_lock` raises LockLostError where another process took the run over, maybe while a checkpoint was written.
    """

    def __init__(
        self,
        run: Path,
        state: TrainState,
        emit: Callable[[Event], None],
        flush_history: Callable[[], None],
        saved: Position | None = None,
        check_lock: Callable[[], None] = lambda: None,
    ) -> None:
        self.run, self.state, self.emit, self.flush_history = run, state, emit, flush_history
        self.check_lock = check_lock
        self.config = state.config
        self._saved = (saved.epoch, saved.global_step) if saved else None  # position of the newest complete checkpoint
        self._seconds = 0.0  # that the last checkpoint took
        self._blocked_seconds = 0.0  # of them training waited
        self._ended = time.monotonic()  # when training went on
        self._writes_in_background = state.device.type in BACKGROUND_DEVICES
        self._writer: ThreadPoolExecutor | None = None  # of one thread
        self._in_flight: tuple[CheckpointJob, Future[tuple[float, list[str]]]] | None = None
        self._retry_at: float | None = None
        self._stretched = False  # a warning was given
        self._best: tuple[int, StateDict] | None = None  # global step and weights of the best epoch, not yet written
        self._written_predictions: Predictions | None = None

    def try_room(self) -> None:
        """Try whether the disk takes a checkpoint of this run. Raises UserError (storage) where it does not."""
        model = sum(value.nbytes for value in self.state.model.state_dict().values())
        model *= 1 if self.state.ema is None else 2
        trained = sum(value.nbytes for group in self.state.optimizer.param_groups for value in group["params"])
        sizes = model, trained * optimizer_states(self.config)
        try:
            checkpoint.try_room(self.run, sizes)
        except OSError as error:
            problem = storage_error(error, self.run / CHECKPOINTS, in_runs=True).problems[0]
            message = f"a checkpoint of {memory(sum(sizes))} cannot be written: {problem.message}"
            raise UserError(message, Exit.STORAGE, fix=problem.fix) from error

    def epoch_ended(self, epoch: int) -> None:
        """Save if a checkpoint is due after this epoch; else keep its weights if they are the best so far."""
        best = self.state.best
        is_best = best is not None and best.epoch == epoch
        if is_best:
            self._best = None
        if self.state.is_complete:
            saved = self.save(best=is_best)
        else:
            due = epoch % self.config.checkpoint.every_epochs == 0 and self._affordable()
            saved = due and self._save_meanwhile(best=is_best)
        if is_best and not saved:
            weights = replace(self.state.state_dict(), optimizer=None).copied(training_device.clones)
            self._best = self.state.position.global_step, weights

    def step_ended(self) -> None:
        """Save if `every_minutes` have passed, or if a failed write is to be tried again."""
        if self._in_flight is not None and self._in_flight[1].done():
            self.finish_write()
        now, minutes = time.monotonic(), self.config.checkpoint.every_minutes
        due = minutes is not None and now - self._ended >= 60 * minutes and self._affordable()
        retry = self._retry_at is not None and now >= self._retry_at
        if due or retry:
            self._save_meanwhile()

    @property
    def seconds_to_save(self) -> float:
        """How long `save` takes as far as it is known, with the write that it waits for."""
        return self._seconds * (1 if self._in_flight is None else 2)

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
        with self._training_paused():
            self.finish_write()
            if self.up_to_date:
                return True
            return self._save(best, in_background=False)

    def finish_write(self) -> None:
        """Wait for the write in flight, if there is one, and record how it ended. Raises UserError as `save` does."""
        if self._in_flight is None:
            return
        (job, result), self._in_flight = self._in_flight, None
        try:
            self._seconds, warnings = result.result()
        except OSError as error:
            self._best = self._best or job.best
            self._handle_failure(error, job.step)
        else:
            self._record(job, warnings)

    def close(self) -> None:
        """Wait for the write in flight without recording it: the run ends by an exception, which is reported."""
        if self._writer is not None:
            self._writer.shutdown()

    def _save_meanwhile(self, *, best: bool = False) -> bool:
        """Save or, off the CPU, begin to: a thread writes while training goes on. Return whether it does.

        On the CPU the digests and the copies of a write take the cores that train, and a second state the memory.
        """
        if self.up_to_date:
            return True
        if self._in_flight is not None:
            return False
        with self._training_paused():
            return self._save(best, in_background=self._writes_in_background)

    @contextmanager
    def _training_paused(self) -> Iterator[None]:
        timed = self.state.epoch_timer.running
        self.state.epoch_timer.stop()
        try:
            yield
        finally:
            if timed:
                self.state.epoch_timer.start()

    def _save(self, best: bool, *, in_background: bool) -> bool:
        if self.state.diverged() is not None:
            return False
        start, step = time.monotonic(), self.state.position.global_step
        try:
            job = self._prepare(best)
            if in_background and (copied := job.on_host()) is not None:
                self._writer = self._writer or ThreadPoolExecutor(1, "checkpoint")
                self._in_flight = copied, self._writer.submit(self._write, copied)
                return True
            try:
                self._seconds, warnings = self._write(job)
            except OSError:
                self._best = job.earlier_best
                raise
        except OSError as error:
            self._handle_failure(error, step)
            return False
        finally:
            self._blocked_seconds, self._ended = time.monotonic() - start, time.monotonic()
        self._record(job, warnings)
        return True

    def _prepare(self, best: bool) -> CheckpointJob:
        """Return what is to be written. Raises OSError where the history cannot be written up to here."""
        self.flush_history()
        state, position = self.state.state_dict(), self.state.position
        history_bytes = (self.run / EVENTS).stat().st_size
        plain = {**state.plain, "config_hash": config_hash(state), "history_bytes": history_bytes}
        earlier_best, self._best = self._best, None
        job_state = replace(state, plain=plain)
        latest: Predictions | None = self.state.best_predictions
        if latest is self._written_predictions:
            latest = None
        return CheckpointJob(position.epoch, position.global_step, job_state, best, earlier_best, latest)

    def _write(self, job: CheckpointJob) -> tuple[float, list[str]]:
        """Write files, on any thread; return the seconds it took and what else than the checkpoint failed."""
        start, warnings = time.monotonic(), []
        if job.predictions is not None:
            try:  # before a checkpoint after them, from which a resumed run goes on
                predictions.write(self.run, job.predictions)
            except OSError as error:
                warnings.append(f"{predictions.NAME} could not be written: {error.strerror or error}")
        try:
            self._write_files(job)
        except OSError as error:
            if error.errno not in FULL:
                raise
            checkpoint.prune(self.run, keep=1)  # on a small disk the newest one makes way for none but the next
            self._write_files(job)
        try:
            checkpoint.prune(self.run)
        except OSError as error:
            warnings.append(f"earlier checkpoints could not be removed: {error.strerror or error}")
        reach("checkpoint.pruned")
        return time.monotonic() - start, warnings

    def _write_files(self, job: CheckpointJob) -> None:
        if job.earlier_best is not None:
            best_step, weights = job.earlier_best
            checkpoint.write(self.run, best_step, weights)
            self.check_lock()
            checkpoint.write_pointer(self.run, "best", best_step)
        checkpoint.write(self.run, job.step, job.state)
        self.check_lock()
        checkpoint.write_pointer(self.run, "last", job.step)
        if job.is_best:
            checkpoint.write_pointer(self.run, "best", job.step)
        reach("checkpoint.pointed")

    def _record(self, job: CheckpointJob, warnings: list[str]) -> None:
        self._written_predictions = job.predictions or self._written_predictions
        self._saved, self._retry_at = (job.epoch, job.step), None
        self.emit(Saved(step=job.step, path=f"{CHECKPOINTS}/{job.step:08d}"))
        for warning in warnings:
            self.emit(Warned(message=warning))

    def _handle_failure(self, error: OSError, step: int) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if not self.run.is_dir():
            fix = "restore it with its checkpoints, or start a new run"
            raise UserError(f"the run's directory has vanished: {self.run}", Exit.STORAGE, fix=fix) from error
        message = (
            f"the checkpoint after step {step} could not be written ({error.strerror or error}); "
            f"the earlier one stays, and the next attempt is in {RETRY_SECONDS:.0f} s"
        )
        self.emit(Warned(message=message))

    def _affordable(self) -> bool:
        blocked = self._blocked_seconds
        if self._in_flight is None and time.monotonic() - self._ended >= blocked / SHARE - blocked:
            return True
        if not self._stretched:
            self._stretched = True
            reason = f"so that they take at most {SHARE:.0%} of the time"
            if self._in_flight is not None:
                reason = "one after the other"
            seconds = f"a checkpoint takes {max(self._seconds, blocked):.2g} s"
            self.emit(Warned(message=f"{seconds}: they are written less often than configured, {reason}"))
        return False


def config_hash(state: StateDict) -> str:
    """Return the SHA-256 of the options that decide the results."""
    return hashlib.sha256(json.dumps(state.plain["config"], sort_keys=True).encode()).hexdigest()
