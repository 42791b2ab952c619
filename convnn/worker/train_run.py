"""Train a run directory, the same way for a terminal, the app and a child process; nothing else writes its history."""

from __future__ import annotations

import logging
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

from convnn import predictions
from convnn.config.schema import RunConfig
from convnn.data.catalog import dataset_info
from convnn.errors import Exit, UserError
from convnn.events import FORKED_FROM, CodeState, Finished, Resumed, Started, Warned
from convnn.repository.state import DIFF, CodeRecord
from convnn.runs import control, text_files
from convnn.runs.file_lock import flock_warnings
from convnn.runs.history import History
from convnn.runs.lock import LockLostError, lock_run
from convnn.runs.resume import with_data_path
from convnn.runs.run import Run
from convnn.startup import Interrupted
from convnn.training import device as training_device
from convnn.training.state import TrainState
from convnn.training.trainer import Trainer
from convnn.worker import checkpoint, failures
from convnn.worker.checkpoint_schedule import Checkpointer
from convnn.worker.crash_points import reach
from convnn.worker.followers import process_group
from convnn.worker.loop import Loop, not_written
from convnn.worker.recorder import Recorder, Show
from convnn.worker.resume_point import ResumePoint, find_resume_point
from convnn.worker.run_log import RunLog, logged
from convnn.worker.signals import Command, Interruption, raised
from convnn.worker.time_limit import TimeLimit

SHORTEST_START = 10.0  # seconds that reading the data may take whatever the time limit: each process takes a step


@dataclass
class RunResult:
    """The last event of a run, the exception if one ended it, and flags that a fork of the run would go on with."""

    finished: Finished
    error: BaseException | None = None
    flags: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        return self.finished.code if self.finished.code is not None else Exit.FAILED


def train_run(
    run: Run,
    config: RunConfig,
    *,
    show: Show = lambda event, line: None,
    history: History | None = None,
    commands: deque[Command] | None = None,
    resume: bool = False,
    limit: TimeLimit | None = None,
    take_over: bool = False,
    code: CodeRecord | None = None,
) -> RunResult:
    """Train the run on this thread until it ends, for whatever reason; its directory is complete afterwards.

    With `take_over` a process of another node that trains the run loses it, and ends before it writes anything more.
    `code` is recorded where the run starts, not where it goes on.
    Each event is folded into `history`, which is brought up to date first, before `show` gets it with its line.
    Raises UserError before anything is written: another process trains the run, the disk takes nothing, there is no
    checkpoint left to resume from, or it is of another configuration.
    """
    if commands is None:
        commands = deque()
    try:
        with lock_run(run.path, take_over=take_over) as lock, logged(run.path) as log:
            reach("run.locked")
            if not lock.is_inherited:  # else the starter did, and a command may have come since
                control.discard(run.path)  # it was for a process that is gone
            _remove_partial_files(run)
            if history is None:
                history = History()
            if resume:
                history.update(run.events_path)
                config = with_data_path(run, config, history)
            if history.finished is not None and history.finished.outcome == "done":
                return RunResult(history.finished)  # by another process, while this one started
            training_device.select_device(config)  # raises UserError where it is missing
            resume_point = find_resume_point(run, config, history) if resume else None
            if resume_point is not None:
                config = resume_point.with_saved_threads(config)
            recorder = Recorder(run, history, show, lock.check)
            try:
                train = partial(_train, recorder, config, resume_point, commands, limit, code)
                return _train_to_end(train, recorder, log, config)
            finally:
                recorder.close()
    except OSError as error:
        raise failures.storage_error(error, error.filename or run.path, in_runs=True) from error


def _train_to_end(train: Callable[[], Finished], recorder: Recorder, log: RunLog, config: RunConfig) -> RunResult:
    """Train, and record what ended it as the last event."""
    device = training_device.select_device(config)
    memory = training_device.total_memory(device)  # a lost device cannot be asked any more
    try:
        finished = train()
    except Interrupted as interrupted:  # before the first step
        interruption = Interruption.of_code(interrupted.code)
        finished = Finished(outcome="interrupted", cause=interruption.cause, code=interruption.code)
    except LockLostError:
        raise  # not a word more into files that another process writes
    except Exception as error:
        if not isinstance(error, UserError):
            logging.getLogger("convnn").error("%s", "".join(traceback.format_exception(error)))
        failure = failures.classify_failure(error, _context(config, recorder.history, memory, log))
        finished = _end(recorder, config, Finished(outcome="failed", cause=failure.cause, code=failure.code))
        return RunResult(finished, error, failure.flags)
    flags = ("--lr", f"{config.optimizer.lr / 10:g}") if finished.outcome == "diverged" else ()
    return RunResult(_end(recorder, config, finished), None, flags)


def _train(
    recorder: Recorder,
    config: RunConfig,
    resume_point: ResumePoint | None,
    commands: deque[Command],
    limit: TimeLimit | None,
    code: CodeRecord | None,
) -> Finished:
    deadline = path = position = None
    if limit is not None:
        deadline = time.monotonic() + max(limit.seconds_left(), SHORTEST_START)
    if resume_point is not None:
        path = resume_point.checkpoint.path
    with ExitStack() as processes:
        with raised(commands, deadline):
            group, followers = processes.enter_context(process_group(config, recorder.run.path, path))
            trainer = Trainer.from_config(config, resume_point.state if resume_point else None, group=group)
        if resume_point is not None:
            trainer.peak_memory.exclude(resume_point.release_tensors())
            position = resume_point.position  # the trainer has refused any that is none
        checkpointer = Checkpointer(
            recorder.run.path,
            trainer.state,
            emit=recorder.emit,
            flush_history=recorder.flush,
            saved=position,
            check_lock=recorder.check_lock,
        )
        if not trainer.state.is_complete:
            checkpointer.try_room()
        with raised(commands):
            stream = trainer.run()
            started = next(stream)
        assert isinstance(started, Started)
        _record_start(recorder, trainer.state, started, resume_point, code)
        reach("run.logged")
        with closing(checkpointer):
            return Loop(trainer, recorder, checkpointer, commands, limit, followers).consume(stream)


def _record_start(
    recorder: Recorder, state: TrainState, started: Started, resume_point: ResumePoint | None, code: CodeRecord | None
) -> None:
    """Record how the run starts or goes on. Raises UserError where the disk does not take the first event."""
    history = recorder.history
    began_before = history.first_started is not None or bool(history.epochs)
    if history.first_started is None or resume_point is None:
        if code is not None and code.state is not None:
            started = started.model_copy(update={"code": CodeState.model_validate(code.state)})
        recorder.emit(started)
        if code is not None and code.warning is not None:
            recorder.emit(Warned(message=code.warning))
        elif code is not None:
            recorder.write(DIFF, code.diff)
    elif code is not None:
        recorder.emit(Warned(message="the code is recorded where a run starts, not where it goes on", level="note"))
    for warning in flock_warnings():
        recorder.emit(Warned(message=warning))
    if resume_point is not None:
        for message in resume_point.warnings:
            recorder.emit(Warned(message=message))
        recorder.emit(_resumed(resume_point, state))
    elif began_before:
        recorder.emit(Resumed(epoch=1, step=0, note="from the beginning: there was no checkpoint yet"))
    try:
        recorder.flush()
    except OSError as error:
        raise failures.storage_error(error, recorder.run.events_path, in_runs=True) from error
    recorder.write_description(state.config, state.model, started)


def _resumed(resume_point: ResumePoint, state: TrainState) -> Resumed:
    """Return the event of going on from a checkpoint; on another machine the results may differ."""
    saved, notes = resume_point.state, []
    if saved.begins_fork:
        notes.append(f"{FORKED_FROM}{saved.plain['forked']}")
    if saved.begins_fork and state.split_seed != state.config.training.seed:
        notes.append(f"the images of each split are still those of seed {state.split_seed}")
    saved_machine = resume_point.machine
    for key, value in state.machine().items():
        if saved_machine.get(key) != value:
            notes.append(f"{key} {saved_machine.get(key)} before, {value} now")
    position = state.position
    return Resumed(epoch=position.epoch, step=position.global_step, exact=not notes, note="; ".join(notes))


def _end(recorder: Recorder, config: RunConfig, finished: Finished) -> Finished:
    """Record the last event, and leave the directory as a run of its outcome is left."""
    recorder.write_results()
    reach("run.results")
    if finished.outcome == "done" and not recorder.try_flush():
        finished = not_written("the history")
    recorder.emit(finished)
    if not recorder.try_flush() and finished.outcome == "done":  # the run has to be resumed to end
        finished = not_written("the last event")
        recorder.show(finished)
    reach("run.ended")
    if finished.outcome == "done":
        try:
            checkpoint.prune(recorder.run.path, keep=int(config.checkpoint.keep_optimizer))
        except OSError as error:
            recorder.show(Warned(message=f"earlier checkpoints could not be removed: {error.strerror}"))
    reach("run.pruned")
    return finished


def _context(config: RunConfig, history: History, memory: int, log: RunLog) -> failures.RunContext:
    started, has_traceback = history.started, log.problem is None
    if started is None:
        info = dataset_info(config.data.dataset, config.data.path, config.data.resize)
        return failures.RunContext(config, info.image_size, info.num_classes, memory, has_traceback, started=False)
    image_size = (started.image_size[-2], started.image_size[-1]) if started.image_size else None
    return failures.RunContext(config, image_size, started.num_classes, memory, has_traceback)


def _remove_partial_files(run: Run) -> None:
    for name in (text_files.ARGS, text_files.MODEL, text_files.RESULTS, predictions.NAME):
        for path in run.path.glob(f".{name}.*.tmp"):
            path.unlink()
