"""When a run is saved: what fails is said and tried again, and nothing of it ends the run."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import training

from convnn.errors import Exit, Problem, UserError
from convnn.events import Event, Saved, Warned
from convnn.metrics import Best
from convnn.runs.lock import LockLostError
from convnn.training.state import TrainState
from convnn.training.trainer import Trainer
from convnn.worker import checkpoint
from convnn.worker.checkpoint_schedule import Checkpointer


@pytest.fixture(scope="module")
def state() -> TrainState:
    return Trainer.from_config(training.config(limit=20, num_epochs=9)).state


def build_checkpointer(
    run: Path, state: TrainState, flush_history: Callable[[], None] = lambda: None
) -> tuple[Checkpointer, list[Event]]:
    """A checkpointer of a run without history, and the events that it emits."""
    run.mkdir(exist_ok=True)
    (run / "events.jsonl").touch()
    events: list[Event] = []
    return Checkpointer(run, state, events.append, flush_history), events


def warnings(events: list[Event]) -> str:
    return " ".join(event.message for event in events if isinstance(event, Warned))


def test_a_position_is_saved_once(tmp_path, state):
    checkpointer, events = build_checkpointer(tmp_path, state)
    assert checkpointer.save() and checkpointer.save()
    assert sum(isinstance(event, Saved) for event in events) == 1
    assert checkpointer.up_to_date


def test_a_run_that_was_taken_over_while_it_wrote_a_checkpoint_is_left_alone(tmp_path, state):
    def lose() -> None:
        raise LockLostError(Problem("taken over", fix="none"), Exit.HELD)

    checkpointer, events = build_checkpointer(tmp_path, state)
    checkpointer.check_lock = lose
    with pytest.raises(LockLostError):
        checkpointer.save()
    assert not events and checkpoint.read_pointer(tmp_path, "last") is None


def test_a_checkpoint_is_never_ahead_of_the_history(tmp_path, state):
    def refuse() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpointer, events = build_checkpointer(tmp_path, state, refuse)
    assert not checkpointer.save()
    assert "No space left" in warnings(events)
    assert not (tmp_path / checkpoint.CHECKPOINTS).exists()


def test_a_failed_write_is_tried_again(tmp_path, state, monkeypatch):
    checkpointer, events = build_checkpointer(tmp_path, state)
    monkeypatch.setattr(checkpoint, "SPARE", 1 << 60)
    assert not checkpointer.save()
    assert "could not be written" in warnings(events)
    checkpointer.step_ended()
    assert len(events) == 1  # not at once
    monkeypatch.undo()
    monkeypatch.setattr("convnn.worker.checkpoint_schedule.RETRY_SECONDS", -1.0)
    checkpointer._handle_failure(OSError(errno.EIO, "again"), 0)
    checkpointer.step_ended()
    assert isinstance(events[-1], Saved)


def test_a_vanished_directory_ends_the_run(tmp_path, state):
    checkpointer, _ = build_checkpointer(tmp_path / "run", state)
    (tmp_path / "run/events.jsonl").unlink()
    (tmp_path / "run").rmdir()
    with pytest.raises(UserError, match="vanished"):
        checkpointer.save()


@pytest.fixture
def background(monkeypatch):
    """Checkpoints of the CPU are written as those of a GPU are."""
    monkeypatch.setattr("convnn.worker.checkpoint_schedule.BACKGROUND_DEVICES", ("cpu",))


@pytest.fixture
def slow_writes(monkeypatch):
    """An event that the next write waits for, once its first file is written."""
    may_end = threading.Event()
    monkeypatch.setattr(checkpoint, "reach", lambda point: point != "checkpoint.model" or may_end.wait(60))
    yield may_end
    may_end.set()


@pytest.fixture
def after_epoch(state) -> TrainState:
    """The state after its first epoch of nine, which is the best so far."""
    state.position.epoch, state.position.global_step = 2, 2
    state.best = Best("test_top1", 50.0, 1)
    return state


def test_a_checkpoint_written_meanwhile_is_of_the_state_it_was_begun_in(tmp_path, after_epoch, background, slow_writes):
    state = after_epoch
    checkpointer, events = build_checkpointer(tmp_path, state)
    first = next(state.model.parameters())
    weights = first.detach().clone()
    checkpointer.epoch_ended(1)
    with torch.no_grad():  # training goes on, to a better epoch
        first.add_(1)
    state.position.epoch, state.position.global_step, state.best = 3, 4, Best("test_top1", 60.0, 2)
    checkpointer.epoch_ended(2)  # one is in flight
    checkpointer.step_ended()
    assert not any(isinstance(event, Saved) for event in events)
    assert "one after the other" in warnings(events)
    slow_writes.set()
    checkpointer.finish_write()
    saved, _ = checkpoint.recover_newest(tmp_path)
    name = next(name for name, value in state.model.state_dict().items() if value.data_ptr() == first.data_ptr())
    assert saved.step == 2 and saved.state.plain["position"]["epoch"] == 2
    assert torch.equal(saved.state.model[name], weights)
    assert checkpoint.read_pointer(tmp_path, "best") == "00000002" and not checkpointer.up_to_date
    assert checkpointer.save() and checkpointer.up_to_date  # with the better weights before it
    assert torch.equal(checkpoint.load_named(tmp_path, "best").state.model[name], weights + 1)
    assert [event.step for event in events if isinstance(event, Saved)] == [2, 4]


def test_whoever_asks_for_a_checkpoint_waits_for_the_one_in_flight(tmp_path, after_epoch, background, slow_writes):
    state = after_epoch
    checkpointer, events = build_checkpointer(tmp_path, state)
    checkpointer.epoch_ended(1)
    threading.Timer(0.05, slow_writes.set).start()
    assert checkpointer.save()
    assert [event.step for event in events if isinstance(event, Saved)] == [2]  # it is of this position
    checkpointer.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_write_that_fails_meanwhile_is_reported_and_its_weights_stay_the_best(
    tmp_path, after_epoch, background, monkeypatch, number
):
    def fail(point: str) -> None:
        if point == "checkpoint.optimizer":
            raise OSError(number, os.strerror(number))

    state = after_epoch
    checkpointer, events = build_checkpointer(tmp_path, state)
    monkeypatch.setattr(checkpoint, "reach", fail)
    checkpointer.epoch_ended(1)
    checkpointer.finish_write()
    assert "after step 2 could not be written" in warnings(events) and os.strerror(number) in warnings(events)
    monkeypatch.setattr(checkpoint, "reach", lambda point: None)
    state.position.epoch, state.position.global_step = 3, 4
    assert checkpointer.save()
    assert checkpoint.read_pointer(tmp_path, "best") == "00000002"
    assert checkpoint.read_pointer(tmp_path, "last") == "00000004"


def test_a_directory_that_vanishes_meanwhile_ends_the_run(tmp_path, after_epoch, background, slow_writes):
    checkpointer, _ = build_checkpointer(tmp_path / "run", after_epoch)
    checkpointer.epoch_ended(1)
    shutil.rmtree(tmp_path / "run")
    slow_writes.set()
    with pytest.raises(UserError, match="vanished"):
        checkpointer.finish_write()


def test_a_run_whose_checkpoints_are_written_meanwhile_is_the_same(tmp_path, background):
    config = training.config(limit=20)
    whole, ended = training.train(tmp_path, config)
    assert ended.finished.outcome == "done"
    run, ended = training.train(tmp_path, config, commands=training.StopAt(2))
    assert ended.finished.outcome == "stopped" and checkpoint.recover_newest(run.path)[0].step > 0
    training.resume(run)
    assert run.history().digest() == whole.history().digest()


def test_minutes_are_obeyed(tmp_path):
    options = training.SMALL | {"checkpoint_minutes": 1e-7, "checkpoint_epochs": 100, "num_epochs": 30, "limit": 20}
    run, _ = training.train(tmp_path, training.config(options))
    saved = [event.step for event in training.recorded_events(run) if isinstance(event, Saved)]
    assert saved[0] == 1 and len(saved) > 1
    assert len(saved) < 60  # not after each of the 60 steps: that would take more than its share


def test_four_hundred_steps_hold_no_more_memory_and_files_than_eighty(tmp_path):
    usage: dict[int, tuple[int, int]] = {}
    config = training.config(model="vgg11", resize=32, width=0.02, limit=20, batch_size=5, num_epochs=100)
    run = training.create(tmp_path, config)

    def show(event: Event, line: str) -> None:
        if (number := getattr(event, "epoch", None)) in (20, 100) and number not in usage:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            usage[number] = pages * os.sysconf("SC_PAGE_SIZE"), len(list(Path("/proc/self/fd").iterdir()))

    from convnn.worker.train_run import train_run

    assert train_run(run, config, show=show).code == 0
    (early, files_early), (late, files_late) = usage[20], usage[100]
    assert files_late == files_early
    assert late - early < 8e6  # bytes; the history of 80 epochs is a part of it
