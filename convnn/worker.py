"""The loop: a run directory in, training, events out. The same for a terminal, the app and a detached process.

It alone appends to `events.jsonl`; it obeys words from the file `control` and from `Orders` between two steps.
"""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from convnn import checkpoint, control, events, textfiles
from convnn.config import RunConfig
from convnn.errors import Exit, UserError, escaped
from convnn.events import Epoch, Event, Finished, Paused, Resumed, Started, Warned
from convnn.files import write_atomic
from convnn.history import History
from convnn.lock import hold
from convnn.options import OPTIONS, value_at
from convnn.runs import Run
from convnn.saving import Saver
from convnn.trainer import Trainer
from convnn.trainer import Saved as State

LOOK = 0.1  # seconds between two looks at the control file
SIGNALS = {
    "INT": ("interrupted (Ctrl-C)", Exit.INTERRUPTED),
    "TERM": ("terminated", Exit.TERMINATED),
    "HUP": ("hung up", Exit.HUNG_UP),
    "TIME": ("the time limit was reached", Exit.TIME_LIMIT),
}


class Orders(deque[str]):
    """Words for the loop, from a signal handler or another thread: those of `control`, and INT, TERM, HUP, TIME."""


@dataclass
class Ended:
    """How the loop ended, and the exception if one ended it."""

    finished: Finished
    error: BaseException | None = None

    @property
    def code(self) -> int:
        return self.finished.code if self.finished.code is not None else Exit.FAILED


@dataclass
class _Loop:
    run: Run
    trainer: Trainer
    show: Callable[[Event], None]
    orders: Orders
    deadline: float | None
    file: int
    history: History = field(default_factory=History)
    resumed: Resumed | None = None
    stop_after_epoch: bool = False
    looked: float = 0.0

    def tell(self, event: Event) -> None:
        events.append(self.file, event)
        self.history.fold([event])
        self.show(event)

    def train(self, saved: State | None) -> Finished:
        saver = Saver(self.run.path, self.trainer, self.tell)
        for event in self.trainer.run(saved):
            if isinstance(event, Finished):
                return self._close(event, saver)
            if isinstance(event, Started) and self.resumed is not None:
                self._write_texts(event)
                event = self.resumed
            elif isinstance(event, Started):
                self.tell(event)
                self._write_texts(event)
                event = None
            if event is not None:
                self.tell(event)
            if isinstance(event, Epoch):
                saver.epoch_ended(event.epoch)
                self.write_results()
            else:
                saver.step_ended()
            if stopped := self._obey(event, saver):
                return stopped
        raise AssertionError("the trainer ended without saying so")

    def _close(self, event: Finished, saver: Saver) -> Finished:
        code = {"done": Exit.DONE, "diverged": Exit.DIVERGED}[event.outcome]
        if event.outcome == "done" and checkpoint.pointed(self.run.path, "last") != f"{self.trainer.position.total:08d}":
            if not saver.save():  # the one at the end of the last epoch failed too
                cause = "the last checkpoint could not be written; the figures are complete"
                return Finished(outcome="failed", cause=cause, code=Exit.STORAGE)
        if event.outcome == "diverged":
            last = checkpoint.pointed(self.run.path, "last")
            good = f"the last good checkpoint is {last}" if last else "there is no earlier checkpoint"
            cause = f"{event.cause}; {good}; try a lower --lr, --clip_grad_norm 1, or no --use_amp"
            return Finished(outcome="diverged", cause=cause, code=code)
        return event.model_copy(update={"code": int(code)})

    def _obey(self, event: Event | None, saver: Saver) -> Finished | None:
        now = time.monotonic()
        if self.deadline is not None and now >= self.deadline:
            self.orders.append("TIME")
            self.deadline = None
        if now - self.looked >= LOOK:
            self.looked = now
            if word := control.take(self.run.path):
                self.orders.append(word)
        while self.orders:
            word = self.orders.popleft()
            if word in ("stop", *SIGNALS):
                saver.save()
                return self._stopped(word)
            if word == "stop-epoch":
                self.stop_after_epoch = True
            elif word == "checkpoint":
                saver.save()
            elif word == "pause":
                self._pause()
            elif word != "resume":  # to a run that is not paused, resume says nothing new
                self.tell(Warned(message=f"the word {word!r} in the control file is unknown and was passed over"))
        if self.stop_after_epoch and isinstance(event, Epoch):
            saver.save()
            return self._stopped("stop-epoch")
        return None

    def _stopped(self, word: str) -> Finished:
        if word in SIGNALS:
            cause, code = SIGNALS[word]
            return Finished(outcome="interrupted", cause=cause, code=code)
        when = "after the epoch" if word == "stop-epoch" else "after the step"
        return Finished(outcome="stopped", cause=f"asked to stop {when}", code=Exit.DONE)

    def _pause(self) -> None:
        position = self.trainer.position
        self.trainer.clock.stop()
        self.trainer.whole.stop()
        self.tell(Paused(epoch=position.epoch, step=position.total))
        while not self.orders:
            time.sleep(LOOK)
            if word := control.take(self.run.path):
                self.orders.append(word)
            if self.deadline is not None and time.monotonic() >= self.deadline:
                break
        self.trainer.whole.go()
        if position.step:
            self.trainer.clock.go()
        self.tell(Resumed(epoch=position.epoch, step=position.total, note="after a pause"))

    def write_results(self) -> None:
        if self.history.epochs:
            write_atomic(self.run.path / textfiles.RESULTS, textfiles.results(self.history))

    def _write_texts(self, started: Started) -> None:
        config = self.trainer.config
        told = {option.name: value_at(config, option.place) for option in OPTIONS} | {"output_dir": str(self.run.path)}
        arguments = textfiles.arguments(
            told,
            num_classes=started.num_classes or 0,
            img_size=started.image_size or (),
            total_params=started.parameters or 0,
            trainable_params=started.trainable_parameters or 0,
        )
        write_atomic(self.run.path / textfiles.ARGS, arguments)
        write_atomic(self.run.path / textfiles.MODEL, textfiles.architecture(self.trainer.model))


def work(
    run: Run,
    config: RunConfig,
    *,
    show: Callable[[Event], None],
    orders: Orders | None = None,
    resume: bool = False,
    max_minutes: float | None = None,
) -> Ended:
    """Train the run on this thread until it ends, whatever ends it; the directory is whole afterwards.

    Raises UserError before anything is written: the run is held by another process, or there is nothing to resume.
    """
    started = time.monotonic()
    with hold(run.path), _logging(run.path):
        trainer = Trainer(config)
        saved = _saved(run.path, show) if resume else None
        file = os.open(run.events_path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        deadline = None if max_minutes is None else started + 60 * max_minutes
        loop = _Loop(run, trainer, show, orders if orders is not None else Orders(), deadline, file)
        try:
            if resume:
                loop.history.fold(events.read(run.events_path)[0])
            if saved is not None:
                loop.resumed = _resumed(saved, trainer)
            return _guarded(loop, saved)
        finally:
            os.close(file)


def _guarded(loop: _Loop, saved: State | None) -> Ended:
    """Train, and turn whatever ends it into a final event."""
    error: BaseException | None = None
    try:
        finished = loop.train(saved)
    except UserError as caught:
        error = caught
        finished = Finished(outcome="failed", cause=str(caught), code=caught.code)
    except Exception as caught:
        error = caught
        logging.getLogger("convnn").error("%s", "".join(traceback.format_exception(caught)))
        finished = Finished(outcome="failed", cause=_cause(caught), code=_code(caught))
    if finished.outcome == "done":
        checkpoint.prune(loop.run.path, finished=True)
    loop.tell(finished)
    loop.write_results()
    return Ended(finished, error)


def _cause(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return escaped(f"{type(error).__name__}: {lines[0] if lines else ''}")[:500]


def _code(error: Exception) -> int:
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return Exit.MEMORY
    return Exit.STORAGE if isinstance(error, OSError) else Exit.FAILED


def _saved(path: Path, show: Callable[[Event], None]) -> State | None:
    found, aside = checkpoint.newest(path)
    for sentence in aside:
        show(Warned(message=sentence))
    if found is None:
        return None
    assert found.optimizer is not None
    return State(found.model, found.optimizer, found.plain)


def _resumed(saved: State, trainer: Trainer) -> Resumed:
    """The event of going on from a checkpoint; on another device or thread count the figures may differ."""
    plain, position = saved.plain, saved.plain["position"]
    here = {"device": trainer.device.type, "threads": trainer.config.runtime.threads or torch.get_num_threads()}
    changed = [f"{key} {plain[key]} before, {value} now" for key, value in here.items() if plain[key] != value]
    return Resumed(
        epoch=position["epoch"], step=position["total"], exact=not changed, note="; ".join(changed)
    )


@contextmanager
def _logging(path: Path) -> Iterator[None]:
    """Python's warnings and our own errors go to `log.txt` while the run trains, never onto the screen."""
    handler = logging.FileHandler(path / "log.txt", delay=True, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    loggers = [logging.getLogger(name) for name in ("convnn", "py.warnings")]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        logging.captureWarnings(False)
        handler.close()
