"""Launches of the app: one after the other on one thread, or detached."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from support import training

from convnn.errors import Exit, UserError
from convnn.events import Finished
from convnn.presets.resolve import resolve
from convnn.runs import event_log, find
from convnn.runs import run as runs_run
from convnn.runs.control import ControlCommand
from convnn.runs.lock import lock_run
from tui.process.launcher import Launcher

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
    last = event_log.read_events(run.events_path)[0][-1]
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


DETACHING = """
import sys
from pathlib import Path
from convnn.presets.resolve import resolve
from tui.process.launcher import Launcher
words = dict(word.split("=") for word in sys.argv[2:])
Launcher(Path(sys.argv[1])).detach(resolve(None, words).checked())
"""


def test_a_detached_run_outlives_the_process_that_launched_it(tmp_path):
    words = [f"{key}={value}" for key, value in (SMALL | {"run.name": "apart"}).items()]
    subprocess.run([sys.executable, "-c", DETACHING, tmp_path, *words], check=True)
    end = time.monotonic() + 60
    while not (runs := find.list_runs(tmp_path)[0]) or runs[0].status() in ("running", "died"):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert runs[0].status() == "done"
    assert runs[0].name.split("-")[2] == "apart"


def test_a_detached_run_that_is_refused_says_why(tmp_path):
    launcher = Launcher(tmp_path)
    launch = launcher.detach(config(runtime__device="cuda:7"))
    assert launch.process.wait(60) == 5
    launcher.poll()
    assert launch.state == "refused"
    assert "runtime.device" in str(launch.error)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / runs_run.CONFIG).write_text("")
    with pytest.raises(UserError, match="not a run of convnn"):
        launcher.detach(config(output__dir=str(tmp_path / "taken")))


def test_a_run_is_forked_and_resumed_in_processes_of_their_own(tmp_path):
    source, _ = training.train(tmp_path, training.config(), commands=training.StopAt(3))
    before = source.config()
    epochs = 2 * before.training.num_epochs
    longer = before.model_copy(update={"training": before.training.model_copy(update={"num_epochs": epochs})})
    launcher = Launcher(tmp_path)
    forked = launcher.detach(longer, forks=source)
    assert forked.process.wait(90) == 0
    launcher.poll()
    assert forked.run.path != source.path and len(forked.run.history().epochs) == epochs
    assert source.status() == "stopped"
    launcher.resume_detached(source)
    assert launcher.launches[-1].process.wait(90) == 0
    assert source.status() == "done" and len(source.history().epochs) == before.training.num_epochs
