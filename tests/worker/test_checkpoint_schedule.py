"""When a run is saved: what fails is said and tried again, and nothing of it ends the run."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support import training

from convnn.errors import UserError
from convnn.events import Event, Saved, Warned
from convnn.training.state import TrainState
from convnn.training.trainer import Trainer
from convnn.worker import checkpoint
from convnn.worker.checkpoint_schedule import Checkpointer


@pytest.fixture(scope="module")
def state() -> TrainState:
    return Trainer.from_config(training.config(limit=20)).state


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
    checkpointer._handle_failure(OSError(errno.EIO, "again"))
    checkpointer.step_ended()
    assert isinstance(events[-1], Saved)


def test_a_vanished_directory_ends_the_run(tmp_path, state):
    checkpointer, _ = build_checkpointer(tmp_path / "run", state)
    (tmp_path / "run/events.jsonl").unlink()
    (tmp_path / "run").rmdir()
    with pytest.raises(UserError, match="vanished"):
        checkpointer.save()


def test_minutes_are_obeyed(tmp_path):
    options = training.SMALL | {"checkpoint_minutes": 1e-7, "checkpoint_epochs": 100, "num_epochs": 30, "limit": 20}
    run, _ = training.train(tmp_path, training.config(options))
    saved = [event.step for event in training.recorded_events(run) if isinstance(event, Saved)]
    assert saved[0] == 1 and len(saved) > 1
    assert len(saved) < 60  # not after each of the 60 steps: that would take more than its share


def test_a_thousand_steps_hold_no_more_memory_and_files_than_two_hundred(tmp_path):
    usage: dict[int, tuple[int, int]] = {}
    config = training.config(model="vgg11", resize=32, width=0.02, limit=20, batch_size=5, num_epochs=250)
    run = training.create(tmp_path, config)

    def show(event: Event, line: str) -> None:
        if (number := getattr(event, "epoch", None)) in (50, 250) and number not in usage:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            usage[number] = pages * os.sysconf("SC_PAGE_SIZE"), len(list(Path("/proc/self/fd").iterdir()))

    from convnn.worker.train_run import train_run

    assert train_run(run, config, show=show).code == 0
    (early, files_early), (late, files_late) = usage[50], usage[250]
    assert files_late == files_early
    assert late - early < 20e6  # bytes; the history of 200 epochs is a part of it
