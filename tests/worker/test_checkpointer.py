"""When a run is saved: what fails is said and tried again, and nothing of it ends the run."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

import pytest
from support import training

from convnn.errors import UserError
from convnn.events import Event, Saved, Warned
from convnn.training.trainer import Trainer
from convnn.worker import checkpoint, checkpointer
from convnn.worker.checkpointer import Saver


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    made = Trainer(training.config(limit=20))
    made.prepare()
    return made


class Told(list[Event]):
    """Events, as a saver tells them; the history of a run that has none is written at once."""

    def words(self) -> str:
        return " ".join(event.message for event in self if isinstance(event, Warned))


def saver(run: Path, trainer: Trainer, recorded=lambda: None) -> tuple[Saver, Told]:
    run.mkdir(exist_ok=True)
    (run / "events.jsonl").touch()
    told = Told()
    return Saver(run, trainer, told.append, recorded), told


def test_a_position_is_saved_once(tmp_path, trainer):
    ours, told = saver(tmp_path, trainer)
    assert ours.save() and ours.save()
    assert sum(isinstance(event, Saved) for event in told) == 1
    assert ours.up_to_date


def test_a_checkpoint_is_never_ahead_of_the_history(tmp_path, trainer):
    def refuse() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ours, told = saver(tmp_path, trainer, refuse)
    assert not ours.save()
    assert "No space left" in told.words()
    assert not (tmp_path / checkpoint.FOLDER).exists()


def test_a_failed_write_is_tried_again(tmp_path, trainer, monkeypatch):
    ours, told = saver(tmp_path, trainer)
    monkeypatch.setattr(checkpoint, "SPARE", 1 << 60)
    assert not ours.save()
    assert "could not be written" in told.words()
    ours.step_ended()
    assert len(told) == 1  # not at once
    monkeypatch.undo()
    monkeypatch.setattr(checkpointer, "AGAIN", -1.0)
    ours._failed(OSError(errno.EIO, "again"))
    ours.step_ended()
    assert isinstance(told[-1], Saved)


def test_a_vanished_directory_ends_the_run(tmp_path, trainer):
    ours, _ = saver(tmp_path / "run", trainer)
    (tmp_path / "run/events.jsonl").unlink()
    (tmp_path / "run").rmdir()
    with pytest.raises(UserError, match="vanished"):
        ours.save()


def test_minutes_are_obeyed(tmp_path):
    options = training.SMALL | {"checkpoint_minutes": 1e-7, "checkpoint_epochs": 100, "num_epochs": 30, "limit": 20}
    run, _ = training.train(tmp_path, training.config(options))
    saved = [event.step for event in training.told(run) if isinstance(event, Saved)]
    assert saved[0] == 1 and len(saved) > 1
    assert len(saved) < 60  # not after each of the 60 steps: that would take more than its share


def test_a_thousand_steps_hold_no_more_memory_and_files_than_two_hundred(tmp_path):
    held: dict[int, tuple[int, int]] = {}
    config = training.config(model="vgg11", resize=32, width=0.02, limit=20, batch_size=5, num_epochs=250)
    run = training.create(tmp_path, config)

    def show(event: Event) -> None:
        if (number := getattr(event, "epoch", None)) in (50, 250) and number not in held:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            held[number] = pages * os.sysconf("SC_PAGE_SIZE"), len(list(Path("/proc/self/fd").iterdir()))

    from convnn.worker import train_run

    assert train_run.work(run, config, show=show).code == 0
    (early, files_early), (late, files_late) = held[50], held[250]
    assert files_late == files_early
    assert late - early < 20e6  # bytes; the history of 200 epochs is a part of it
