"""Signals, time limits and words: a run stops after the step with its own exit code, and can be resumed."""

from __future__ import annotations

import json
import signal
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

import pytest
from support import killing, training
from support.processes import Command, convnn, until

from convnn.runs import control, event_log
from convnn.runs.find import list_runs
from convnn.runs.lock import is_locked
from convnn.runs.run import Run
from convnn.startup import Interrupted
from convnn.worker import checkpoint, signals, train_run
from convnn.worker.time_limit import TimeLimit

LONG = training.SMALL | {"num_epochs": 5000, "checkpoint_epochs": 5000}


def started(cwd: Path, *more: str) -> tuple[Command, Run]:
    command = Command(["run", *killing.arguments(LONG), "--plain", *more], cwd)
    until(lambda: bool(list_runs(cwd / "runs")[0]))
    run = list_runs(cwd / "runs")[0][0]
    until(lambda: run.events_path.exists() and b'"Step"' in run.events_path.read_bytes())
    return command, run


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda n: str(n)
)
def test_a_signal_saves_at_the_next_step_and_ends_with_its_code(tmp_path, number, code):
    command, run = started(tmp_path)
    command.signal(number)
    ended = command.wait()
    assert ended.code == code, ended.err
    assert run.status() == "interrupted"
    assert f"resume with: convnn resume {run.name}" in ended.err
    newest, warnings = checkpoint.recover_newest(run.path)
    assert warnings == [] and newest.step > 0
    assert training.recorded_events(run)[-1].code == code


def test_usr1_saves_and_goes_on(tmp_path):
    command, run = started(tmp_path)
    command.signal(signal.SIGUSR1)
    until(lambda: checkpoint.read_pointer(run.path, "last") is not None)
    saved = int(checkpoint.read_pointer(run.path, "last"))
    until(lambda: run.history().step > saved)
    control.send(run.path, control.ControlCommand.STOP)
    assert command.wait().code == 0
    assert run.status() == "stopped"


def test_a_second_ctrl_c_ends_at_once_with_files_valid(tmp_path):
    command, run = started(tmp_path)
    command.signal(signal.SIGSTOP)  # so that both arrive before a step can end
    command.signal(signal.SIGINT)
    command.signal(signal.SIGCONT)
    until(lambda: not command.process.is_alive() or _again(command))
    ended = command.wait()
    assert ended.code == 130
    assert f"resume with: convnn resume {run.name}\n" in ended.err
    assert event_log.EventReader().read(run.events_path)[1] == []
    assert not is_locked(run.path)
    checkpoint.recover_newest(run.path)


def _again(command: Command) -> bool:
    with suppress(ProcessLookupError):  # it may end just before
        command.signal(signal.SIGINT)
    return False


def test_the_time_limit_is_75_and_leaves_a_run_that_goes_on(tmp_path):
    ended = convnn("run", *killing.arguments(LONG), "--json", "--max-minutes", "0.005", cwd=tmp_path)
    assert ended.code == 75, ended.err
    printed = [json.loads(line) for line in ended.out.splitlines()]
    assert printed[0]["event"] == "Started" and printed[-1]["event"] == "Finished"
    assert (printed[-1]["outcome"], printed[-1]["code"]) == ("interrupted", 75)
    run = list_runs(tmp_path / "runs")[0][0]
    step = checkpoint.recover_newest(run.path)[0].step
    again = convnn("resume", "--plain", "--max-minutes", "0.005", cwd=tmp_path)
    assert again.code == 75, again.err
    assert checkpoint.recover_newest(run.path)[0].step > step
    assert run.history().skipped_lines == []


def test_the_time_limit_is_raised_while_a_run_starts():
    handler = signal.getsignal(signal.SIGALRM)
    with pytest.raises(Interrupted) as interrupted, signals.raised(deque(), time.monotonic() + 0.1):
        until(lambda: False)
    assert interrupted.value.code == 75
    assert signal.getsignal(signal.SIGALRM) is handler
    with signals.raised(deque(), time.monotonic() + 0.1):
        pass
    time.sleep(0.2)  # the limit of a start that has ended interrupts nothing


def test_a_time_limit_that_ends_while_the_data_is_read_leaves_a_run_to_resume(tmp_path, monkeypatch):
    monkeypatch.setattr(train_run, "SHORTEST_START", 0.0)
    config = training.config(num_epochs=1)
    run = training.create(tmp_path, config)
    ended = train_run.train_run(run, config, limit=TimeLimit(time.monotonic()))
    assert (ended.code, run.status()) == (75, "interrupted")
    assert run.history().started is None
    monkeypatch.undo()
    assert train_run.train_run(run, config, resume=True).finished.outcome == "done"


def test_a_command_left_for_a_dead_process_is_not_obeyed(tmp_path):
    run, _ = training.train(tmp_path, training.config(num_epochs=1))
    fork = training.create(tmp_path, training.config(num_epochs=1))
    for path in (run.path, fork.path):
        (path / control.NAME).write_text("stop\n")
    ended = train_run.train_run(fork, fork.config())
    assert ended.finished.outcome == "done"
