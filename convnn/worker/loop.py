"""The loop that consumes a trainer's events: record each, write checkpoints, and obey commands between two steps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from convnn.errors import Exit, UserError
from convnn.events import PRUNED, Epoch, Event, Finished, Paused, Resumed, Warned
from convnn.runs import control
from convnn.runs.control import ControlCommand
from convnn.training.trainer import Trainer
from convnn.worker import checkpoint
from convnn.worker.checkpoint_schedule import Checkpointer
from convnn.worker.crash_points import reach
from convnn.worker.followers import Followers
from convnn.worker.recorder import Recorder
from convnn.worker.signals import Command, Interruption
from convnn.worker.time_limit import TimeLimit

POLL_SECONDS = 0.1  # between two looks at the control file


class Loop:
    """Trains a run that has started, until it ends or is told to stop.

    `commands` is appended to by signal handlers and other threads.
    """

    def __init__(
        self,
        trainer: Trainer,
        recorder: Recorder,
        checkpointer: Checkpointer,
        commands: deque[Command],
        limit: TimeLimit | None,
        followers: Followers | None = None,
    ) -> None:
        self.run, self.trainer, self.recorder, self.checkpointer = recorder.run, trainer, recorder, checkpointer
        self.commands, self.limit, self.followers = commands, limit, followers
        self._stop_after_epoch = False
        self._polled = 0.0  # when the control file was last looked at

    def consume(self, stream: Iterator[Event | None]) -> Finished:
        """Handle the trainer's events after Started, and return how the run ended; that event is not yet recorded."""
        for event in stream:
            if isinstance(event, Finished):
                return self._finish(event)
            if event is not None:
                self.recorder.emit(event)
            reach("step")
            if isinstance(event, Epoch):
                reach("epoch.logged")
                self.checkpointer.epoch_ended(event.epoch)
                reach("epoch.saved")
                self.recorder.write_results()
            else:
                self.checkpointer.step_ended()
            if isinstance(event, Warned):
                continue  # before the first step: every process takes one at least
            if self.trainer.state.is_complete:
                continue  # a command that comes now would turn a complete run into a stopped one
            self._receive_commands()
            if (finished := self._obey(event)) is not None:
                return finished
        raise AssertionError("the trainer ended without a Finished event")

    def _finish(self, event: Finished) -> Finished:
        self.checkpointer.finish_write()
        if event.outcome == "diverged":
            return Finished(outcome="diverged", cause=f"{event.cause}; {self._divergence_advice()}", code=Exit.DIVERGED)
        if not self.checkpointer.up_to_date and not self.checkpointer.save():  # the one at the end of the epoch failed
            return not_written("the last checkpoint")
        return event.model_copy(update={"code": int(Exit.DONE)})

    def _divergence_advice(self) -> str:
        config = self.trainer.config
        last = checkpoint.read_pointer(self.run.path, "last")
        advice = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
        flags = ["a lower --lr"]
        if config.training.clip_grad_norm == 0:
            flags.append("--clip_grad_norm 1")
        if config.runtime.amp:
            flags.append("--no_use_amp")
        return f"{advice}; try {' or '.join(flags)}"

    def _receive_commands(self) -> None:
        """Queue the command in the control file, and the end of the time limit."""
        now = time.monotonic()
        if self._is_late:
            self.commands.append(Interruption.TIME_LIMIT)
            self.limit = None
        if now - self._polled >= POLL_SECONDS:
            self._polled = now
            self._poll_control_file()

    @property
    def _is_late(self) -> bool:
        return self.limit is not None and self.limit.seconds_left(self.checkpointer.seconds_to_save) <= 0

    def _poll_control_file(self) -> None:
        """Queue the command in the control file.

        Raises LockLostError where another process trains the run by now, and UserError where a process of it has ended.
        """
        self.recorder.check_lock()
        if self.followers is not None:
            self.followers.check()
        path = self.run.path / control.NAME
        if not path.exists():  # cheaper than to receive it, and allowed on a read-only disk
            return
        try:
            command = control.receive(self.run.path)
        except OSError as error:
            self.recorder.warn_unwritable(path, error)
        except UserError as error:
            problem = error.problems[0]
            self.recorder.emit(Warned(message=f"{path.name}: {problem.message}; {problem.fix}"))
        else:
            if command is not None:
                self.commands.append(command)

    def _obey(self, event: Event | None) -> Finished | None:
        """Carry out the commands that wait; return how the run ends, if one of them ends it."""
        while self.commands:
            match self.commands.popleft():
                case Interruption() as interruption:
                    self.checkpointer.save()
                    return Finished(outcome="interrupted", cause=interruption.cause, code=interruption.code)
                case ControlCommand.STOP | ControlCommand.PRUNE as command:
                    self.checkpointer.save()
                    cause = PRUNED if command is ControlCommand.PRUNE else "on request"
                    return Finished(outcome="stopped", cause=cause, code=Exit.DONE)
                case ControlCommand.STOP_EPOCH:
                    self._stop_after_epoch = True
                case ControlCommand.CHECKPOINT:
                    self.checkpointer.save()
                case ControlCommand.PAUSE:
                    self._pause()
                case ControlCommand.RESUME:
                    pass  # the run is not paused
        if self._stop_after_epoch and isinstance(event, Epoch):
            self.checkpointer.save()
            return Finished(outcome="stopped", cause="on request, after the epoch", code=Exit.DONE)
        return None

    def _pause(self) -> None:
        """Save, and wait for a command other than pause and checkpoint, or for the time limit."""
        state = self.trainer.state
        position, timed = state.position, state.epoch_timer.running
        self.checkpointer.save()
        state.epoch_timer.stop()
        state.run_timer.stop()
        self.recorder.emit(Paused(epoch=position.epoch, step=position.global_step))
        while not self._is_late:
            while self.commands and self.commands[0] in (ControlCommand.PAUSE, ControlCommand.CHECKPOINT):
                self.commands.popleft()  # nothing has changed since it was saved
            if self.commands:
                break
            time.sleep(POLL_SECONDS)
            self._poll_control_file()
        state.run_timer.start()
        if timed:
            state.epoch_timer.start()
        self.recorder.emit(Resumed(epoch=position.epoch, step=position.global_step, note="after a pause"))


def not_written(subject: str) -> Finished:
    """Return the end of a run whose result the disk did not take."""
    return Finished(outcome="failed", cause=f"{subject} could not be written: see the warnings", code=Exit.STORAGE)
