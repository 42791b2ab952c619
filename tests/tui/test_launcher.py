"""Launches of the app, one after the other on one thread."""

from __future__ import annotations

import time

from support import training
from support.processes import until

from convnn.config.toml import parse_run
from convnn.errors import Exit
from convnn.events import Finished
from convnn.presets.resolve import resolve
from convnn.runs import event_log, find
from convnn.runs import run as runs_run
from convnn.runs.control import ControlCommand
from convnn.runs.lock import lock_run
from convnn.sweeps.queue import with_absolute_data_path
from tui.process.background import entry_of
from tui.process.launcher import Launch, Launcher

SMALL = {
    "layer.type": "Conv2d",
    "data.dataset": "digits",
    "model.width": "0.05",
    "data.limit": "40",
    "training.num_epochs": "1",
    "training.batch_size": "20",
}


def config(**more: str):
    return resolve(None, SMALL | {key.replace("__", "."): value for key, value in more.items()}).checked()


def outcome(run: runs_run.Run) -> Finished:
    last = event_log.EventReader().read(run.events_path)[0][-1]
    assert isinstance(last, Finished)
    return last


def test_launches_train_one_after_the_other_and_a_refused_one_stops_none(tmp_path):
    launcher = Launcher(tmp_path)
    first = launcher.launch(config(run__name="first"))
    refused = launcher.launch(config(runtime__device="cuda:7"))
    dropped = launcher.launch(config(run__name="dropped"))
    last = launcher.launch(config(run__name="last"), "quickstart")
    assert launcher.drop(dropped)
    assert [launch.title for launch in launcher.queued][-1] == "last"
    assert launcher.wait(60)
    assert (first.state, refused.state, last.state) == ("ended", "refused", "ended")
    assert "runtime.device" in str(refused.error)
    assert [outcome(launch.run).outcome for launch in (first, last)] == ["done", "done"]
    assert outcome(first.run).time <= runs_run.Run.history(last.run).first_started
    assert len(find.list_runs(tmp_path)[0]) == 2


def test_a_fault_in_training_is_a_failed_run_with_its_message(tmp_path):
    for split, name in (("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")):
        image = tmp_path / "images" / split / name / "1.png"
        image.parent.mkdir(parents=True)
        image.write_bytes(b"no image")
    launcher = Launcher(tmp_path / "runs")
    launch = launcher.launch(config(data__dataset="folder", data__path=str(tmp_path / "images")))
    assert launcher.wait(60)
    assert outcome(launch.run).outcome == "failed"
    assert "no file that is an image" in outcome(launch.run).cause
    assert launch.state == "ended"


def test_closing_stops_the_live_run_and_starts_nothing_more(tmp_path):
    launcher = Launcher(tmp_path)
    live = launcher.launch(config(training__num_epochs="100000"))
    waiting = launcher.launch(config())
    end = time.monotonic() + 60
    while launcher.live is None or not launcher.live.history().steps:
        assert time.monotonic() < end
        time.sleep(0.02)
    launcher.close(ControlCommand.STOP_EPOCH)
    assert launcher.wait(60)
    assert outcome(live.run).outcome == "stopped"
    assert waiting.state == "queued"
    assert launcher.queued == ()


def test_a_run_that_was_stopped_goes_on_and_ends_as_an_undisturbed_one(tmp_path):
    whole, _ = training.train(tmp_path, training.config())
    run, _ = training.train(tmp_path, training.config(), commands=training.StopAt(3))
    assert run.status() == "stopped"
    launcher = Launcher(tmp_path)
    with lock_run(run.path):
        locked = launcher.resume(run)
        assert launcher.wait(60)
    assert locked.state == "refused" and locked.error.code == Exit.HELD
    launch = launcher.resume(run)
    assert launch.title == run.name
    assert launcher.wait(60)
    assert launch.run == run and run.status() == "done"
    assert run.history().digest() == whole.history().digest() and training.same_weights(run, whole)
    assert len(find.list_runs(tmp_path)[0]) == 2


def test_launches_that_wait_are_moved_taken_out_and_put_back(tmp_path):
    launcher = Launcher(tmp_path)
    live = launcher.launch(config(training__num_epochs="100000"))
    until(lambda: launcher.live is not None and launcher.live.history().steps)
    first, second, third = (launcher.launch(config(run__name=name)) for name in ("first", "second", "third"))
    launcher.move(third, 0)
    assert launcher.waiting == (third, first, second)
    assert launcher.drop(first) and not launcher.drop(first)
    assert not launcher.drop(live)
    launcher.restore(first, 1)
    assert launcher.waiting == (third, first, second)
    launcher.drop(second)
    launcher.send(ControlCommand.STOP)
    assert launcher.wait(60)
    assert [launch.state for launch in (live, first, second, third)] == ["ended", "ended", "queued", "ended"]
    assert outcome(third.run).time <= runs_run.Run.history(first.run).first_started


def test_a_launch_becomes_an_entry_of_the_queue_with_all_that_it_is(tmp_path):
    source, _ = training.train(tmp_path, training.config(), commands=training.StopAt(3))
    new = entry_of(Launch(config(run__name="new")))
    expected = with_absolute_data_path(config(run__name="new"))  # its worker may run in another folder
    assert (new.name, new.run, new.forks, parse_run(new.config)) == ("new", None, None, expected)
    forked = entry_of(Launch(config(), forks=source))
    assert (forked.run, forked.forks) == (None, str(source.path))
    resumed = entry_of(Launch(source.config(), resumes=source))
    assert resumed.run_path == source.path and resumed.threads == source.history().started.threads
