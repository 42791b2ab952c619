"""What a run does from its first event to its last: tell, save, and obey between two steps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from convnn.config.options import OPTIONS, value_at
from convnn.errors import Exit, UserError
from convnn.events import Epoch, Event, Finished, Paused, Resumed, Started, Warned
from convnn.files import write_atomic
from convnn.runs import control, text_files
from convnn.runs.control import ControlCommand
from convnn.runs.event_log import EventLog
from convnn.runs.history import History
from convnn.runs.run import Run
from convnn.text import escaped
from convnn.training import state as training_state
from convnn.training.state import Position, State
from convnn.training.trainer import Trainer
from convnn.worker import checkpoint, failures
from convnn.worker.checkpointer import Saver
from convnn.worker.crash_points import reach
from convnn.worker.signals import Command, Interruption

LOOK = 0.1  # seconds between two looks at the control file


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a run goes on from, and what there is to say of finding it."""

    state: State
    fork: bool  # of another run: its configuration may differ
    said: list[str]


@dataclass
class Loop:
    run: Run
    trainer: Trainer
    show: Callable[[Event], None]
    commands: deque[Command]  # appended to by a signal handler or another thread
    deadline: float | None
    event_log: EventLog
    history: History = field(default_factory=History)
    stop_after_epoch: bool = False
    looked: float = 0.0
    refused: set[str] = field(default_factory=set)  # files that could not be written: said once

    def tell(self, event: Event) -> None:
        self.event_log.append(event)
        self.history.fold([event])
        self.show(event)

    def record(self) -> None:
        """Write what is left of the history. Raises OSError."""
        if not self.event_log.flush():
            assert self.event_log.problem is not None
            raise self.event_log.problem

    # -- from the first event to the last ---------------------------------------------------------------------------

    def train(self, origin: Origin | None) -> Finished:
        stream = self.trainer.run(origin.state if origin else None, fork=origin is not None and origin.fork)
        started = next(stream)
        assert isinstance(started, Started)
        self._begin(started, origin)
        saved = Position(**origin.state.plain["position"]) if origin else None
        saver = Saver(self.run.path, self.trainer, self.tell, self.record, saved)
        reach("run.told")
        for event in stream:
            if isinstance(event, Finished):
                return self._close(event, saver)
            if event is not None:
                self.tell(event)
            reach("step")
            if isinstance(event, Epoch):
                reach("epoch.told")
                saver.epoch_ended(event.epoch)
                reach("epoch.saved")
                self.write_results()
            else:
                saver.step_ended()
            if not isinstance(event, Warned) and (stopped := self._obey(event, saver)):  # a step at least is made
                return stopped
        raise AssertionError("the trainer ended without saying so")

    def _begin(self, started: Started, origin: Origin | None) -> None:
        """Say how it starts or goes on; nothing is trained whose first word cannot be written."""
        before = self.history.first_started is not None or bool(self.history.epochs)
        if self.history.first_started is None or origin is None:
            self.tell(started)
        for sentence in origin.said if origin else []:
            self.tell(Warned(message=sentence))
        if origin is not None:
            self.tell(_resumed(origin, self.trainer))
        elif before:
            self.tell(Resumed(epoch=1, step=0, note="from the beginning: there was no checkpoint yet"))
        try:
            self.record()
        except OSError as error:
            raise failures.storage(error, self.run.events_path) from error
        self._write_texts(started)

    def _close(self, event: Finished, saver: Saver) -> Finished:
        if event.outcome == "diverged":
            last = checkpoint.pointed(self.run.path, "last")
            good = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
            config = self.trainer.config
            ways = ["a lower --lr"]
            ways += ["--clip_grad_norm 1"] if config.training.clip_grad_norm == 0 else []
            ways += ["--no_use_amp"] if config.runtime.amp else []
            cause = f"{event.cause}; {good}; try {' or '.join(ways)}"
            return Finished(outcome="diverged", cause=cause, code=Exit.DIVERGED)
        if not saver.up_to_date and not saver.save():  # the one at the end of the last epoch failed, too
            return self._unwritten("the last checkpoint")
        return event.model_copy(update={"code": int(Exit.DONE)})

    def _unwritten(self, what: str) -> Finished:
        return Finished(outcome="failed", cause=f"{what} could not be written: see the warnings", code=Exit.STORAGE)

    def end(self, finished: Finished) -> Finished:
        """Write the last event, and leave the directory as a run of its outcome is left."""
        self.write_results()
        reach("run.results")
        if finished.outcome == "done" and not self.event_log.flush():
            finished = self._unwritten("the history")
        self.tell(finished)
        written = self.event_log.flush()
        if not written and finished.outcome == "done":  # its directory does not say so: it has to be resumed to end
            finished = self._unwritten("the last event")
            self.show(finished)
        reach("run.ended")
        if finished.outcome == "done":
            try:
                checkpoint.prune(self.run.path, finished=True)
            except OSError as error:
                self.show(Warned(message=f"earlier checkpoints could not be removed: {escaped(error.strerror)}"))
        reach("run.pruned")
        return finished

    # -- between two steps ------------------------------------------------------------------------------------------

    def _obey(self, event: Event | None, saver: Saver) -> Finished | None:
        now = time.monotonic()
        if self.deadline is not None and now >= self.deadline:
            self.commands.append(Interruption.TIME_LIMIT)
            self.deadline = None
        if now - self.looked >= LOOK:
            self.looked = now
            self._listen()
        while self.commands:
            match self.commands.popleft():
                case Interruption() as interruption:
                    saver.save()
                    return Finished(outcome="interrupted", cause=interruption.cause, code=interruption.code)
                case ControlCommand.STOP:
                    saver.save()
                    return Finished(outcome="stopped", cause="asked to stop after the step", code=Exit.DONE)
                case ControlCommand.STOP_EPOCH:
                    self.stop_after_epoch = True
                case ControlCommand.CHECKPOINT:
                    saver.save()
                case ControlCommand.PAUSE:
                    self._pause(saver)
                case ControlCommand.RESUME:
                    pass  # the run is not paused
        if self.stop_after_epoch and isinstance(event, Epoch):
            saver.save()
            return Finished(outcome="stopped", cause="asked to stop after the epoch", code=Exit.DONE)
        return None

    def _listen(self) -> None:
        """Queue the command in the control file, if there is one."""
        path = self.run.path / control.NAME
        if not path.exists():  # cheaper than to take it, and allowed on a read-only disk
            return
        try:
            command = control.receive(self.run.path)
        except OSError as error:
            self._refused(path, error)
        except UserError as error:
            problem = error.problems[0]
            self.tell(Warned(message=f"{path.name}: {problem.message}; {problem.fix}"))
        else:
            if command is not None:
                self.commands.append(command)

    def _pause(self, saver: Saver) -> None:
        """Save and wait for a command other than pause and checkpoint, or for the time limit."""
        trainer, position = self.trainer, self.trainer.position
        saver.save()
        going = trainer.clock.running
        trainer.clock.stop()
        trainer.whole.stop()
        self.tell(Paused(epoch=position.epoch, step=position.total))
        while self.deadline is None or time.monotonic() < self.deadline:
            while self.commands and self.commands[0] in (ControlCommand.PAUSE, ControlCommand.CHECKPOINT):
                self.commands.popleft()  # nothing has changed since it was saved
            if self.commands:
                break
            time.sleep(LOOK)
            self._listen()
        trainer.whole.go()
        if going:
            trainer.clock.go()
        self.tell(Resumed(epoch=position.epoch, step=position.total, note="after a pause"))

    # -- the text files ---------------------------------------------------------------------------------------------

    def write_results(self) -> None:
        if self.history.epochs:
            self._write(text_files.RESULTS, text_files.results_text(self.history))

    def _write_texts(self, started: Started) -> None:
        config = self.trainer.config
        told = {option.name: value_at(config, option.key) for option in OPTIONS} | {"output_dir": str(self.run.path)}
        arguments = text_files.args_text(
            told,
            num_classes=started.num_classes or 0,
            img_size=started.image_size or (),
            total_params=started.parameters or 0,
            trainable_params=started.trainable_parameters or 0,
        )
        self._write(text_files.ARGS, arguments)
        self._write(text_files.MODEL, text_files.model_text(self.trainer.model))

    def _write(self, name: str, content: str) -> None:
        """Write a view of the run: one that cannot be written is said and made again later, and ends nothing."""
        try:
            write_atomic(self.run.path / name, content)
        except OSError as error:
            self._refused(self.run.path / name, error)

    def _refused(self, path: Path, error: OSError) -> None:
        if path.name not in self.refused:
            self.refused.add(path.name)
            self.tell(Warned(message=f"{path.name} cannot be written: {escaped(error.strerror or error)}"))


def _resumed(origin: Origin, trainer: Trainer) -> Resumed:
    """The event of going on from a checkpoint; on another machine the figures may differ."""
    before, now = origin.state.plain.get("machine", {}), training_state.here(trainer)
    notes = [f"{key} {escaped(before.get(key))} before, {now[key]} now" for key in now if before.get(key) != now[key]]
    if origin.fork:
        notes.insert(0, f"forked from {escaped(origin.state.plain['forked'])}")
    position = trainer.position
    return Resumed(epoch=position.epoch, step=position.total, exact=not notes, note="; ".join(notes))
