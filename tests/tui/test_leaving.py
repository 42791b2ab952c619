"""However the app ends, the live run is whole, the terminal is as it was and the exit code says why."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.terminal import ROOT, Program
from support.training import SMALL, config, train

from convnn import events
from convnn.config.options import BY_FLAG
from convnn.events import Finished, Step
from convnn.runs import event_log
from convnn.runs.find import list_runs
from convnn.runs.lock import is_locked
from convnn.runs.run import Run
from convnn.sweeps.queue import Queue
from convnn.sweeps.work import live_workers

LAUNCHING = ROOT / "tests" / "support" / "launching.py"
LONG = ("layer.type=Conv2d", "data.dataset=digits", "model.width=0.05", "data.limit=200", "training.num_epochs=100000")


@pytest.fixture
def training(tmp_path):
    """The app in a pseudo-terminal, with a run that trains."""
    program = Program(LAUNCHING, tmp_path, *LONG, "training.batch_size=20", is_forked=True)
    try:
        program.until(lambda: any(isinstance(event, Step) for event in events_of(tmp_path)), "the first step")
        yield program
    finally:
        program.close()


def events_of(root: Path) -> list[events.Event]:
    runs, _ = list_runs(root)
    return event_log.EventReader().read(runs[0].events_path)[0] if runs and runs[0].events_path.exists() else []


def run_of(root: Path) -> Run:
    return list_runs(root)[0][0]


def assert_resumable(run: Run, cause: str) -> None:
    """The run ended in a valid directory, and its last event names the cause."""
    last = event_log.EventReader().read(run.events_path)[0][-1]
    assert isinstance(last, Finished)
    assert (last.outcome, last.cause) == ("interrupted", cause)
    assert not is_locked(run.path)
    assert (run.path / "checkpoints" / (run.path / "checkpoints" / "last").read_text().strip()).is_dir()


def test_termination_after_a_resize_stops_the_run_and_restores_the_terminal(training, tmp_path):
    for size in ((200, 60), (59, 14), (120, 40)):
        training.output = b""
        training.resize(*size)
        training.until(lambda: len(training.text) > 200 or "60x15" in training.text, f"a frame of {size}")
    training.process.send_signal(signal.SIGTERM)
    assert training.wait() == 143
    assert training.restored()
    assert f"resume with: convnn resume {run_of(tmp_path).path}/" in training.text  # not below ./runs
    assert_resumable(run_of(tmp_path), "terminated")


def test_an_interrupt_from_outside_stops_the_run_and_restores_the_terminal(training, tmp_path):
    training.process.send_signal(signal.SIGINT)
    assert training.wait() == 130
    assert training.restored()
    assert_resumable(run_of(tmp_path), "Ctrl-C")


def test_ctrl_c_twice_leaves_at_once_with_files_valid(training, tmp_path):
    training.press("\x03\x03")
    assert training.wait() == 130
    training.until(training.restored, "the terminal as it was")  # what it drew last is read by a thread
    run = run_of(tmp_path)
    assert f"resume with: convnn resume {run.path}/" in training.text
    assert event_log.EventReader().read(run.events_path)[1] == []
    assert not is_locked(run.path)


def test_a_terminal_that_goes_away_stops_the_run(training, tmp_path):
    training.hang_up()
    assert training.wait() == 129
    assert_resumable(run_of(tmp_path), "hung up")


def test_a_fault_of_the_app_restores_the_terminal_and_stops_the_run(training, tmp_path):
    training.press("\x1b[24~")  # f12
    assert training.wait() == 1
    assert training.restored()
    assert "a fault of the app" in training.text
    assert_resumable(run_of(tmp_path), "terminated")


def test_without_a_terminal_it_says_so_and_ends_with_2():
    done = subprocess.run(
        [sys.executable, "-m", "convnn", "tui"], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "needs a terminal" in done.stderr


def test_a_run_goes_on_in_the_background_to_the_end_of_an_undisturbed_one(tmp_path):
    options = SMALL | {"num_epochs": 40, "threads": 1}
    words = [f"{BY_FLAG[f'--{name}'].key}={value}" for name, value in options.items()]
    program = Program(LAUNCHING, tmp_path / "runs", *words, is_forked=True)
    try:
        program.until(lambda: any(isinstance(event, Step) for event in events_of(tmp_path / "runs")), "the first step")
        program.press("q")
        program.until(lambda: "continue in the background" in program.text, "the question")
        program.press("c\r")
        assert program.wait() == 0
        program.until(program.restored, "the terminal as it was")
        assert "1 run in the queue" in program.text
        run, queue = run_of(tmp_path / "runs"), Queue(tmp_path / "runs")
        program.until(lambda: not queue.entries()[0], "the end of the run")
    finally:
        program.close()
    assert run.status() == "done" and queue.ended() == []
    alone, _ = train(tmp_path / "alone", config(options))
    assert run.history().digest() == alone.history().digest()
    program.until(lambda: not live_workers(queue), "the end of the worker")
