"""When a run is saved: by epoch, by minutes, on request; for at most a twentieth of its time."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from convnn.errors import Exit, Problem, UserError
from convnn.events import Event, Saved, Warned
from convnn.text import escaped
from convnn.training import state
from convnn.training.state import Position, State
from convnn.worker import checkpoint
from convnn.worker.crash_points import reach

if TYPE_CHECKING:
    from convnn.training.trainer import Trainer

SHARE = 0.05  # the most of a run's time that saving may take
AGAIN = 30.0  # seconds after a failed write before the next attempt


class Saver:
    """Writes the checkpoints of one run.

    `tell` is given what happened. `recorded` writes what is left of the history and raises OSError where it cannot, for
    a checkpoint is never ahead of the history. `saved` is the position that the run goes on from, if it does.
    """

    def __init__(
        self,
        run: Path,
        trainer: Trainer,
        tell: Callable[[Event], None],
        recorded: Callable[[], None],
        saved: Position | None = None,
    ) -> None:
        self.run, self.trainer, self.tell, self.recorded = run, trainer, tell, recorded
        self.config = trainer.config
        self._saved = (saved.epoch, saved.total) if saved else None  # where the newest whole checkpoint is
        self._cost = 0.0  # seconds that the last checkpoint took
        self._ended = time.monotonic()  # when it was done
        self._retry_at: float | None = None
        self._stretched = False
        self._best: tuple[int, State] | None = None  # the best weights, not yet on the disk

    def epoch_ended(self, epoch: int) -> None:
        """Save if this epoch is to be saved; else remember its weights if they are the best so far."""
        best = self.trainer.best
        if is_best := best is not None and best.epoch == epoch:
            self._best = None
        last = epoch == self.config.training.num_epochs
        due = last or (epoch % self.config.checkpoint.every_epochs == 0 and self._affordable())
        if not (due and self.save(best=is_best)) and is_best:
            now = state.taken(self.trainer)
            # a copy: training goes on in these tensors
            weights = {name: value.detach().to("cpu", copy=True) for name, value in now.model.items()}
            self._best = self.trainer.position.total, State(weights, None, now.plain)

    def step_ended(self) -> None:
        """Save if the minutes are over, or if it is time to try again."""
        now, minutes = time.monotonic(), self.config.checkpoint.every_minutes
        due = minutes is not None and now - self._ended >= 60 * minutes and self._affordable()
        if due or (self._retry_at is not None and now >= self._retry_at):
            self.save()

    @property
    def up_to_date(self) -> bool:
        """Whether there is a checkpoint of this very position, before or after the end of an epoch."""
        return self._saved == (self.trainer.position.epoch, self.trainer.position.total)

    def save(self, *, best: bool = False) -> bool:
        """Whether the run can go on from here: a checkpoint is written unless there is one of this very position.

        What diverged is never written. A failure is told, leaves the earlier ones, and is tried again later; only a
        directory that has vanished raises UserError (storage). With `best` it is the best so far, too.
        """
        if self.up_to_date:
            return True
        if self.trainer.diverged() is not None:
            return False
        going, start = self.trainer.clock.running, time.monotonic()
        self.trainer.clock.stop()
        try:
            self._write(best)
            self._retry_at = None
            self._prune()
        except OSError as error:
            self._failed(error)
            return False
        finally:
            self._cost, self._ended = time.monotonic() - start, time.monotonic()
            if going:
                self.trainer.clock.go()
        return True

    def _prune(self) -> None:
        try:
            checkpoint.prune(self.run)
        except OSError as error:
            self.tell(Warned(message=f"earlier checkpoints could not be removed: {escaped(error.strerror or error)}"))
        reach("checkpoint.pruned")

    def _write(self, best: bool) -> None:
        self.recorded()
        step, now = self.trainer.position.total, state.taken(self.trainer)
        if self._best is not None:
            at, kept = self._best
            checkpoint.write(self.run, at, kept.model, None, kept.plain)
            checkpoint.point(self.run, "best", at)
            self._best = None
        length = (self.run / "events.jsonl").stat().st_size
        told = {**now.plain, "config_hash": config_hash(now), "history_bytes": length}
        path = checkpoint.write(self.run, step, now.model, now.optimizer, told)
        checkpoint.point(self.run, "last", step)
        if best:
            checkpoint.point(self.run, "best", step)
        self._saved = (self.trainer.position.epoch, step)
        reach("checkpoint.pointed")
        self.tell(Saved(step=step, path=f"{checkpoint.FOLDER}/{path.name}"))

    def _failed(self, error: OSError) -> None:
        self._retry_at = time.monotonic() + AGAIN
        if not self.run.is_dir():
            raise UserError(
                Problem(
                    f"the run's directory has vanished: {escaped(self.run)}",
                    fix="its checkpoints went with it: bring it back, or begin anew",
                ),
                Exit.STORAGE,
            ) from error
        reason = escaped(error.strerror or error)
        self.tell(
            Warned(
                message=f"the checkpoint after step {self.trainer.position.total} could not be written ({reason}); "
                f"the earlier one stays, and the next attempt is in {AGAIN:.0f} s"
            )
        )

    def _affordable(self) -> bool:
        if time.monotonic() - self._ended >= self._cost / SHARE - self._cost:
            return True
        if not self._stretched:
            self._stretched = True
            self.tell(
                Warned(
                    message=f"a checkpoint takes {self._cost:.2g} s: they are written less often than asked, "
                    f"so that they take at most {SHARE:.0%} of the time"
                )
            )
        return False


def config_hash(taken: State) -> str:
    """SHA-256 of what decides the numbers."""
    return hashlib.sha256(json.dumps(taken.plain["config"], sort_keys=True).encode()).hexdigest()
