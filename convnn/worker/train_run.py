"""A run directory trained, the same way for a terminal, the app and a child: lock, build, train, tell what ended it.

It alone appends to `events.jsonl`.
"""

from __future__ import annotations

import logging
import shlex
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from convnn.config.diff import config_diff
from convnn.config.schema import RunConfig
from convnn.errors import Exit, Problem, UserError
from convnn.events import Event, Finished
from convnn.runs import control, text_files
from convnn.runs.event_log import EventLog
from convnn.runs.history import History
from convnn.runs.lock import lock_run
from convnn.runs.run import EVENTS, Run
from convnn.text import escaped
from convnn.training import device
from convnn.training.state import State
from convnn.training.trainer import Trainer
from convnn.worker import checkpoint, failures
from convnn.worker.crash_points import reach
from convnn.worker.loop import Loop, Origin
from convnn.worker.run_log import logged
from convnn.worker.signals import Command


@dataclass
class Ended:
    """How the loop ended; the exception if one ended it; flags that a fork of the run would go on with."""

    finished: Finished
    error: BaseException | None = None
    flags: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        return self.finished.code if self.finished.code is not None else Exit.FAILED


def work(
    run: Run,
    config: RunConfig,
    *,
    show: Callable[[Event], None],
    commands: deque[Command] | None = None,
    resume: bool = False,
    max_minutes: float | None = None,
) -> Ended:
    """Train the run on this thread until it ends, whatever ends it; the directory is whole afterwards.

    Raises UserError before anything is written: the run is held by another process, the disk takes nothing, there is
    no checkpoint left to resume from, or it is of another configuration.
    """
    deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
    try:
        with lock_run(run.path), logged(run.path):
            reach("run.locked")
            control.discard(run.path)
            for name in (text_files.ARGS, text_files.MODEL, text_files.RESULTS):
                for rest in run.path.glob(f".{name}.*.tmp"):  # of a write that was cut off
                    rest.unlink()
            history = run.history() if resume else History()
            if history.finished is not None and history.finished.outcome == "done":
                return Ended(history.finished)  # by another process, while this one started
            trainer = Trainer(config)
            origin = _origin(run, config, history) if resume else None
            event_log = EventLog(run.events_path, show)
            try:
                commands = deque() if commands is None else commands
                loop = Loop(run, trainer, show, commands, deadline, event_log, history)
                return _guarded(loop, origin)
            finally:
                event_log.close()
    except OSError as error:
        raise failures.storage(error, error.filename or run.path) from error


def _guarded(loop: Loop, origin: Origin | None) -> Ended:
    """Train, and turn whatever ends it into a final event."""
    memory = device.memory(loop.trainer.device)  # asked while the device is there
    try:
        finished = loop.train(origin)
    except Exception as error:
        if not isinstance(error, UserError):
            logging.getLogger("convnn").error("%s", "".join(traceback.format_exception(error)))
        fault = failures.named(error, _setting(loop, memory))
        finished = loop.end(Finished(outcome="failed", cause=fault.cause, code=fault.code))
        return Ended(finished, error, fault.flags)
    flags = ("--lr", f"{loop.trainer.config.optimizer.lr / 10:g}") if finished.outcome == "diverged" else ()
    return Ended(loop.end(finished), None, flags)


def _setting(loop: Loop, memory: int) -> failures.Setting:
    started = loop.history.started
    size = started.image_size[1:] if started is not None and started.image_size else None
    classes = started.num_classes if started is not None else None
    return failures.Setting(loop.trainer.config, size, classes, memory)  # type: ignore[arg-type]


def _origin(run: Run, config: RunConfig, history: History) -> Origin | None:
    """The newest checkpoint that verifies; None where none was written yet. Raises UserError where it may not go on."""
    found, said = checkpoint.newest(run.path)
    if found is None:
        if any(mark.kind == "saved" for mark in history.marks):
            raise UserError(
                Problem(
                    f"the checkpoints of {escaped(run.name)} have vanished",
                    fix=f"train it again as a new run: convnn run {escaped(shlex.quote(str(run.config_path)))}",
                ),
                Exit.STORAGE,
            )
        return None
    fork = "forked" in found.plain
    before = found.plain.get("config")
    if not fork and isinstance(before, dict) and (problems := config_diff(before, config)):
        raise UserError(
            [Problem(f"{escaped(run.config_path)} was changed since the checkpoint", fix="undo that"), *problems]
        )
    length = run.events_path.stat().st_size if run.events_path.exists() else 0
    whole = found.plain.get("history_bytes")
    if not fork and isinstance(whole, int) and length < whole:
        said.append(f"{EVENTS} has lost {whole - length} of the {whole} bytes that it had at the checkpoint")
    _point_at(run, found)
    return Origin(State(found.model, found.optimizer, found.plain), fork, said)


def _point_at(run: Run, found: checkpoint.Checkpoint) -> None:
    """Name the checkpoint `last`, and `best` if it is: whoever wrote it may have been killed before that."""
    if checkpoint.pointed(run.path, "last") != found.path.name:
        checkpoint.point(run.path, "last", found.step)
    best, position = found.plain.get("best"), found.plain.get("position")
    if isinstance(best, dict) and isinstance(position, dict) and position.get("step") == 0:
        epoch = best.get("epoch")
        ended = isinstance(epoch, int) and epoch + 1 == position.get("epoch")  # it was made at the end of the best
        if ended and checkpoint.pointed(run.path, "best") != found.path.name:
            checkpoint.point(run.path, "best", found.step)
