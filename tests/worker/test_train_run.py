"""The loop: the same numbers every time, also after a stop; whatever ends it is told, with its exit code."""

from __future__ import annotations

import gc
import math
import os
from collections import deque

import pytest
import torch
from support import training

from convnn.errors import Exit, UserError
from convnn.events import Epoch, Paused, Resumed, Saved, Step
from convnn.runs import control
from convnn.runs.control import ControlCommand
from convnn.training import device as training_device
from convnn.training.trainer import Trainer
from convnn.worker import checkpoint
from convnn.worker.checkpoint_schedule import Checkpointer
from convnn.worker.load_run import TrainedRun
from convnn.worker.signals import Command, Interruption
from convnn.worker.train_run import train_run


def test_the_same_seed_gives_the_same_bits(tmp_path):
    config = training.config(training.RICH, num_epochs=1)
    (a, _), (b, _) = (training.train(tmp_path, config) for _ in range(2))
    c, _ = training.train(tmp_path, training.config(training.RICH, num_epochs=1, seed=1))
    assert a.history().digest() == b.history().digest() != c.history().digest()
    assert training.same_weights(a, b) and not training.same_weights(a, c)


def test_a_run_stopped_anywhere_ends_as_the_undisturbed_one(tmp_path):
    config = training.config(training.RICH)
    whole, _ = training.train(tmp_path, config)
    looks = len(whole.history().epochs) * 14
    for look in range(1, looks, 8):  # of training steps, of evaluation batches, and of the ends of epochs
        run, ended = training.train(tmp_path, config, commands=training.StopAt(look, Interruption.CTRL_C))
        if ended.finished.outcome == "done":
            break
        assert ended.code == Exit.INTERRUPTED
        assert training.resume(run).finished.outcome == "done"
        assert run.history().digest() == whole.history().digest(), look
        assert training.same_weights(run, whole), look
    assert look > 14  # beyond the first epoch


def test_a_run_stopped_after_every_step_still_ends_the_same(tmp_path):
    config = training.config(training.RICH, num_epochs=1, use_amp=True)
    whole, _ = training.train(tmp_path, config)
    run, _ = training.train(tmp_path, config, commands=training.StopAt(1, Interruption.TERMINATED))
    stops = 1
    # then late enough that an evaluation, which is not saved in the middle, gets to its end
    outcome = "interrupted"
    while outcome != "done":
        look = 1 if stops < 3 else 30
        outcome = training.resume(run, commands=training.StopAt(look, Interruption.TERMINATED)).finished.outcome
        stops += outcome != "done"
        assert stops < 30
    assert stops >= 3
    assert run.history().digest() == whole.history().digest()
    assert training.same_weights(run, whole)


def test_a_finished_run_is_not_touched(tmp_path):
    run, _ = training.train(tmp_path, training.config(num_epochs=1))
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != "run.lock"}
    assert training.resume(run).finished.outcome == "done"
    after = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != "run.lock"}
    assert before == after


def test_threads_that_are_left_open_are_those_of_the_slurm_task_and_stay_at_a_resume(tmp_path, monkeypatch):
    monkeypatch.setattr(training_device, "_torch_threads", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    threads = torch.get_num_threads()
    try:
        run, _ = training.train(tmp_path, training.config(limit=20, num_epochs=1), commands=training.StopAt(1))
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
        training.resume(run)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert run.history().started.threads == 3
    assert [event.exact for event in training.recorded_events(run) if isinstance(event, Resumed)] == [True]


def test_the_tensors_of_a_checkpoint_are_freed_once_they_are_loaded(tmp_path):
    run, _ = training.train(tmp_path, training.config(num_epochs=1), commands=training.StopAt(1))
    states = []

    def show(event, line: str) -> None:
        if isinstance(event, Epoch):
            checkpoints = [value for value in gc.get_objects() if isinstance(value, checkpoint.Checkpoint)]
            states.extend(saved.state for saved in checkpoints)

    assert training.resume(run, show=show).finished.outcome == "done"
    assert states and not any(state.model or state.optimizer for state in states)


def test_another_number_of_threads_is_recorded_as_not_exact(tmp_path):
    config = training.config(limit=20, num_epochs=1)
    run, _ = training.train(tmp_path, config, commands=training.StopAt(1))
    threads = torch.get_num_threads() + 1
    changed = config.model_copy(update={"runtime": config.runtime.model_copy(update={"threads": threads})})
    try:
        assert train_run(run, changed, resume=True).finished.outcome == "done"
    finally:
        torch.set_num_threads(threads - 1)
    resumed = next(event for event in training.recorded_events(run) if isinstance(event, Resumed))
    assert not resumed.exact and "threads" in resumed.note


def test_a_changed_configuration_is_refused_with_the_difference(tmp_path):
    run, _ = training.train(tmp_path, training.config(), commands=training.StopAt(2))
    before = run.events_path.read_bytes()
    with pytest.raises(UserError, match=r"optimizer\.lr differs: 0\.001 before, 0\.1 now"):
        train_run(run, training.config(lr=0.1), resume=True)
    assert run.events_path.read_bytes() == before


def test_a_held_run_is_refused(tmp_path):
    run = training.create(tmp_path, training.config())
    from convnn.runs.lock import lock_run

    with lock_run(run.path), pytest.raises(UserError) as caught:
        training.resume(run)
    assert caught.value.code == Exit.HELD


def test_an_infinite_rate_ends_as_diverged_with_the_step_and_no_checkpoint_of_it(tmp_path):
    run, ended = training.train(tmp_path, training.config(lr=1e30, optimizer="sgd", clip_grad_norm=0, num_epochs=3))
    assert (ended.finished.outcome, ended.code) == ("diverged", Exit.DIVERGED)
    assert "not finite" in ended.finished.cause and "step" in ended.finished.cause
    assert ended.flags == ("--lr", "1e+29")
    for folder in (run.path / checkpoint.CHECKPOINTS).glob("0*"):
        assert all(value.float().isfinite().all() for value in checkpoint.load_verified(folder).state.model.values())
    assert run.status() == "diverged"


def test_what_diverged_is_not_saved_on_request(tmp_path):
    state = Trainer.from_config(training.config()).state
    checkpointer = Checkpointer(tmp_path, state, lambda event: None, lambda: None)
    next(state.model.parameters()).data.fill_(math.nan)
    assert not checkpointer.save()
    assert not (tmp_path / checkpoint.CHECKPOINTS).exists()


def test_a_pause_is_saved_told_and_changes_no_figure(tmp_path):
    config = training.config()
    whole, _ = training.train(tmp_path, config)
    run = training.create(tmp_path, config)

    def show(event, line: str) -> None:
        if isinstance(event, Paused):
            assert checkpoint.recover_newest(run.path)[0].step == event.step
            commands.extend([ControlCommand.CHECKPOINT, ControlCommand.PAUSE, ControlCommand.RESUME])

    commands = training.StopAt(2, ControlCommand.PAUSE)
    assert train_run(run, config, show=show, commands=commands).finished.outcome == "done"
    kinds = [type(event) for event in training.recorded_events(run)]
    assert kinds.index(Paused) < kinds.index(Resumed)
    assert run.history().digest() == whole.history().digest()


def test_a_run_that_a_search_stops_is_pruned_and_can_go_on(tmp_path):
    run, ended = training.train(tmp_path, training.config(), commands=training.StopAt(1, ControlCommand.PRUNE))
    assert (ended.finished.outcome, ended.code, run.status()) == ("stopped", 0, "pruned")
    assert checkpoint.recover_newest(run.path)[0].step == run.history().step
    assert training.resume(run).finished.outcome == run.status() == "done"


def test_stop_epoch_ends_after_the_epoch(tmp_path):
    run, ended = training.train(
        tmp_path, training.config(num_epochs=3), commands=training.StopAt(1, ControlCommand.STOP_EPOCH)
    )
    assert (ended.finished.outcome, ended.code) == ("stopped", 0)
    assert [event.epoch for event in training.recorded_events(run) if isinstance(event, Epoch)] == [1]


def test_an_unknown_control_command_is_warned_of(tmp_path):
    config = training.config(num_epochs=60)  # more than it gets to: the file is looked at ten times a second
    run = training.create(tmp_path, config)
    shown_events = []

    def show(event, line: str) -> None:
        shown_events.append(event)
        if isinstance(event, Step) and not (run.path / control.NAME).exists() and event.step == 1:
            (run.path / control.NAME).write_text("sotp\x1b[2J\n")
        if "'sotp\\x1b[2J'" in getattr(event, "message", ""):
            control.send(run.path, ControlCommand.STOP)

    assert train_run(run, config, show=show).finished.outcome == "stopped"
    assert len([event for event in shown_events if isinstance(event, Epoch)]) < 60


def test_checkpoints_are_stretched_when_they_cost_too_much_and_that_is_said_once(tmp_path):
    run, _ = training.train(tmp_path, training.config(num_epochs=6))
    recorded = training.recorded_events(run)
    saved = [event.step for event in recorded if isinstance(event, Saved)]
    assert saved[0] == 4 and saved[-1] == 24  # four steps an epoch: the first and the last are always written
    assert len(saved) < 6
    assert sum("less often" in getattr(event, "message", "") for event in recorded) == 1


def test_the_best_weights_are_those_of_the_best_epoch(tmp_path):
    run, _ = training.train(tmp_path, training.config(num_epochs=5, ema=0.9))
    _, epoch = run.history().best("test_top1")
    best = checkpoint.load_named(run.path, "best")
    assert best.step == epoch * 4 and best.state.optimizer is None
    short, _ = training.train(tmp_path, training.config(num_epochs=epoch, ema=0.9))
    average = TrainedRun(run).model("best", ema=True).state_dict()
    assert all(
        torch.equal(value, average[name])
        for name, value in TrainedRun(short).model("last", ema=True).state_dict().items()
    )
    assert all(torch.equal(training.weights(short)[name], value) for name, value in best.state.model.items())


def test_a_run_without_a_checkpoint_begins_again_and_says_so(tmp_path):
    run = training.create(tmp_path, training.config())
    assert training.resume(run).finished.outcome == "done"
    again, _ = training.train(tmp_path, training.config())
    assert run.history().digest() == again.history().digest()


def test_vanished_checkpoints_are_not_begun_again(tmp_path):
    import shutil

    run, _ = training.train(tmp_path, training.config(), commands=training.StopAt(2))
    shutil.rmtree(run.path / checkpoint.CHECKPOINTS)
    with pytest.raises(UserError, match="vanished") as caught:
        training.resume(run)
    assert caught.value.code == Exit.STORAGE


def test_other_images_are_refused(tmp_path):
    run, _ = training.train(tmp_path, training.config(), commands=training.StopAt(2))
    folder = next((run.path / checkpoint.CHECKPOINTS).glob("0*"))
    saved = checkpoint.load_verified(folder)
    saved.state.plain["data"]["images"]["train"] += 1
    checkpoint.write(run.path, saved.step, saved.state)
    ended = training.resume(run)
    assert (ended.finished.outcome, ended.code) == ("failed", Exit.DATA)
    assert "--fork" in ended.finished.cause


@pytest.mark.parametrize("command", [ControlCommand.STOP, ControlCommand.PAUSE, Interruption.TIME_LIMIT])
def test_a_command_after_the_last_epoch_leaves_a_finished_run(tmp_path, command):
    commands = deque[Command]()

    def send_at_the_end(event, line):
        if isinstance(event, Epoch) and event.epoch == training.SMALL["num_epochs"]:
            commands.append(command)

    _, result = training.train(tmp_path, training.config(), commands=commands, show=send_at_the_end)
    assert result.finished.outcome == "done" and result.code == 0
