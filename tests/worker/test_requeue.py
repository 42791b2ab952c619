"""Which job is requeued after its run ended, and what USR1 and USR2 mean in a job."""

from __future__ import annotations

import signal
import time
from collections import deque

import pytest
from support import training
from support.slurm_commands import SlurmCommands

from convnn.cli import run as run_command
from convnn.errors import Exit, UserError
from convnn.events import Finished, Saved
from convnn.runs.control import ControlCommand
from convnn.runs.event_log import append_event
from convnn.worker import requeue, signals, time_limit
from convnn.worker.signals import Interruption
from convnn.worker.time_limit import TimeLimit


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    for name, value in {"JOB_ID": "7", "ARRAY_JOB_ID": "7", "ARRAY_TASK_ID": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    return SlurmCommands(tmp_path / "bin", monkeypatch)


@pytest.mark.parametrize(
    ("code", "state", "preempted", "is_requeued"),
    [
        (Exit.TIME_LIMIT, "RUNNING", None, True),
        (Exit.TIME_LIMIT, "COMPLETING", None, False),
        (Exit.TERMINATED, "RUNNING", 2000, True),
        (Exit.TERMINATED, "SIGNALING", 2000, True),
        (Exit.TERMINATED, "RUNNING", 500, False),  # before its latest start
        (Exit.TERMINATED, "RUNNING", None, False),
        (Exit.TERMINATED, "COMPLETING", 2000, False),
        (Exit.DONE, "RUNNING", 2000, False),
        (Exit.FAILED, "RUNNING", 2000, False),
    ],
)
def test_the_element_is_requeued_where_its_run_goes_on(slurm, tmp_path, code, state, preempted, is_requeued):
    run = training.create(tmp_path, training.config())
    slurm.list_jobs(("7_2", state, "job.sh"), preempted=preempted)
    message = requeue.requeue_job(run, code)
    assert slurm.calls("scontrol") == (["requeue 7_2"] if is_requeued else []), message


def test_restarts_without_a_new_checkpoint_come_to_an_end(slurm, tmp_path):
    run = training.create(tmp_path, training.config())
    slurm.list_jobs(("7_2", "RUNNING", "job.sh"))
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "last").touch()
    append_event(run.events_path, Saved(step=1, path="a"))
    for ends in range(1, 6):
        append_event(run.events_path, Finished(outcome="interrupted", code=75))
        requeue.requeue_job(run, Exit.TIME_LIMIT)
        assert len(slurm.calls("scontrol")) == min(ends, 3)
    append_event(run.events_path, Saved(step=2, path="b"))
    requeue.requeue_job(run, Exit.TIME_LIMIT)
    assert len(slurm.calls("scontrol")) == 4


def test_a_job_that_never_saved_is_restarted_three_times(slurm, tmp_path):
    run = training.create(tmp_path, training.config())
    slurm.list_jobs(("7_2", "RUNNING", "job.sh"), restarts=3)
    assert "3 times" in (requeue.requeue_job(run, Exit.TIME_LIMIT) or "") and slurm.calls("scontrol") == []


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_the_same_signal_ends_a_run_in_a_job_and_saves_elsewhere(slurm, monkeypatch, number):
    commands: deque = deque()
    with signals.obeyed(commands.append):
        signal.raise_signal(number)
    for name in ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID"):
        monkeypatch.delenv(f"SLURM_{name}")
    with signals.obeyed(commands.append):
        signal.raise_signal(number)
    assert list(commands) == [Interruption.JOB_SIGNAL, ControlCommand.CHECKPOINT]
    assert commands[0].code == Exit.TIME_LIMIT


def test_auto_is_what_is_left_of_the_job_without_the_time_of_a_checkpoint(slurm, monkeypatch):
    slurm.list_jobs(("7_2", "RUNNING", "job.sh"))
    limit = TimeLimit.parse("auto")
    assert limit is not None
    reserve = limit.seconds_left() - limit.seconds_left(100.0)
    assert reserve == pytest.approx(200, abs=1) and time_limit.LEAST_RESERVE == 30
    assert TimeLimit.parse("2").seconds_left(100.0) == pytest.approx(120, abs=1)  # minutes are what a person typed
    for text in ("x", "-1", "inf", "nan"):
        with pytest.raises(UserError, match="max-minutes"):
            TimeLimit.parse(text)
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID")
    with pytest.raises(UserError, match="Slurm job"):
        TimeLimit.parse("auto")


def test_a_job_that_ends_before_anything_could_be_trained_is_named(slurm, capsys):
    for seconds, is_named in ((10, True), (1000, False)):
        slurm.list_jobs(("7_2", "RUNNING", "job.sh"), end=int(time.time()) + seconds)
        run_command._time_limit("auto")
        assert ("longer --time" in capsys.readouterr().err) is is_named
    slurm.list_jobs(("7_2", "RUNNING", "job.sh"), end=1060)  # it began at 1000
    with pytest.raises(UserError, match="the Slurm job has 60 s") as refused:
        run_command._time_limit("auto")
    assert refused.value.code == Exit.USAGE  # so that it is not requeued
