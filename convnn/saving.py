"""When a run is saved: by epoch, by minutes or on request, at most a twentieth of its time, and again after a failure."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from convnn import checkpoint
from convnn.config import RunConfig
from convnn.effects import effective
from convnn.errors import escaped
from convnn.events import Event, Saved, Warned

if TYPE_CHECKING:
    from convnn.trainer import Trainer

SHARE = 0.05  # the most of a run's time that saving may take
AGAIN = 30.0  # seconds after a failed write before the next attempt


def config_hash(config: RunConfig) -> str:
    """SHA-256 of what decides the numbers: runs may be continued only under the same."""
    return hashlib.sha256(json.dumps(effective(config), sort_keys=True).encode()).hexdigest()


class Saver:
    """Writes the checkpoints of one run; `tell` is given what happened."""

    def __init__(self, run: Path, trainer: Trainer, tell: Callable[[Event], None]) -> None:
        self.run, self.trainer, self.tell = run, trainer, tell
        self.config = trainer.config
        self._cost = 0.0  # seconds that the last checkpoint took
        self._ended = time.monotonic()  # when it was done
        self._retry_at: float | None = None
        self._stretched = False
        self._best: tuple[int, dict[str, Tensor], dict[str, Any]] | None = None  # weights not yet on the disk

    def epoch_ended(self, epoch: int) -> None:
        """Save if this epoch is to be saved; remember its weights if they are the best so far."""
        best = self.trainer.best
        if best is not None and best.epoch == epoch:
            state = self.trainer.state()
            # a copy: training goes on in these tensors before the next checkpoint
            self._best = (self.trainer.position.total, {n: t.cpu().clone() for n, t in state.model.items()}, state.plain)
        last = epoch == self.config.training.num_epochs
        if last or (epoch % self.config.checkpoint.every_epochs == 0 and self._affordable()):
            self.save()

    def step_ended(self) -> None:
        """Save if the minutes are over, or if it is time to try again."""
        now, minutes = time.monotonic(), self.config.checkpoint.every_minutes
        due = minutes is not None and now - self._ended >= 60 * minutes and self._affordable()
        if due or (self._retry_at is not None and now >= self._retry_at):
            self.save()

    def save(self) -> bool:
        """Write a checkpoint now; a failure is told, leaves the earlier ones, and is tried again later."""
        self.trainer.clock.stop()
        start = time.monotonic()
        try:
            self._write()
        except OSError as error:
            self._retry_at = time.monotonic() + AGAIN
            reason = escaped(error.strerror or error)
            self.tell(Warned(message=f"the checkpoint could not be written ({reason}); the earlier one stays"))
            return False
        finally:
            self._cost, self._ended = time.monotonic() - start, time.monotonic()
            if self.trainer.position.step:
                self.trainer.clock.go()
        self._retry_at = None
        return True

    def _write(self) -> None:
        step, state = self.trainer.position.total, self.trainer.state()
        plain = state.plain | {
            "config_hash": config_hash(self.config),
            "history_bytes": (self.run / "events.jsonl").stat().st_size,
        }
        if self._best is not None and self._best[0] != step:
            at, model, told = self._best
            checkpoint.write(self.run, at, model, None, told)
            checkpoint.point(self.run, "best", at)
        path = checkpoint.write(self.run, step, state.model, state.optimizer, plain)
        checkpoint.point(self.run, "last", step)
        if self._best is not None and self._best[0] == step:
            checkpoint.point(self.run, "best", step)
        self._best = None
        checkpoint.prune(self.run)
        self.tell(Saved(step=step, path=f"{checkpoint.FOLDER}/{path.name}"))

    def _affordable(self) -> bool:
        if time.monotonic() - self._ended >= self._cost / SHARE - self._cost:
            return True
        if not self._stretched:
            self._stretched = True
            self.tell(
                Warned(
                    message=f"a checkpoint takes {self._cost:.1f} s: they are written less often than asked, "
                    f"to take at most {SHARE:.0%} of the time"
                )
            )
        return False
