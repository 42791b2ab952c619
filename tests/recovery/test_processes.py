"""A run on two processes whose processes are killed: it ends soon, as failed or died, and goes on exactly."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from support import killing, training
from support.processes import Command, convnn, until

from convnn.config.toml import dumps
from convnn.events import Resumed, Saved
from convnn.runs.control import ControlCommand
from convnn.runs.run import Run, create_run
from convnn.worker.signals import Interruption
from tui.process.launcher import Launcher
from tui.screens.setup.epoch_time import from_timed_steps

# one thread each: on a machine that does more, two of a process wait for each other
OPTIONS = training.SMALL | {"limit": 40, "num_epochs": 4, "layer": "ConvNN", "K": 4, "augment": True, "threads": 1}
LONG = OPTIONS | {"num_epochs": 100_000}
SECONDS = 10  # within which the processes of a run end when one of them does


def followers(parent: int) -> list[int]:
    """The processes that a command has started to train with it."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            status = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if b"convnn.worker.followers" in words and int(status[1]) == parent and status[0] != "Z":
            pids.append(int(folder.name))
    return pids


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start(cwd: Path, options: dict[str, object]) -> tuple[Command, list[int]]:
    """A run that has saved its first checkpoint, and its followers."""
    command = Command(["run", *killing.arguments(options | {"processes": 2}), "--plain"], cwd)
    until(lambda: any(isinstance(event, Saved) for run in (cwd / "runs").glob("2*") for event in events(run)))
    return command, followers(command.pid)


def events(path: Path) -> list[object]:
    run = Run(path, path.name)
    return training.recorded_events(run) if run.events_path.exists() else []


def test_a_follower_that_is_killed_ends_the_run_as_failed(tmp_path):
    command, [follower] = start(tmp_path, LONG)
    killed_at = time.monotonic()
    os.kill(follower, signal.SIGKILL)
    ended = command.wait()
    assert time.monotonic() - killed_at < SECONDS
    run = killing.only_run(tmp_path)
    assert ended.code == 1 and "resume with: convnn resume" in ended.err + ended.out
    assert run.status() == "failed"
    assert "rank 1 of 2 was killed by SIGKILL" in (run.history().finished.cause or "")


def test_the_app_follows_a_run_in_a_child_process(tmp_path):
    launcher = Launcher(tmp_path / "runs")
    launch = launcher.launch(training.config(LONG, processes=2))
    until(lambda: launch.run is not None and launch.run.status() == "running")
    launcher.send(ControlCommand.PAUSE)  # before there is a step
    until(lambda: launch.run.status() == "paused")
    assert followers(os.getpid()) == []  # they are the children of a child
    launcher.close(ControlCommand.STOP)
    assert launcher.wait(SECONDS)
    assert launch.ended.finished.outcome == launch.run.status() == "stopped"
    assert launch.run.history().started.processes == 2


@pytest.mark.torture
@pytest.mark.parametrize("ending", ["kill", "ctrl-c"])
def test_the_app_says_how_the_child_of_a_run_ended(tmp_path, ending):
    launcher = Launcher(tmp_path / "runs")
    launch = launcher.launch(training.config(LONG, processes=2))
    until(lambda: launcher.live is not None and launcher.live.history().steps)
    if ending == "kill":
        launcher.kill()
    else:
        launcher.send(Interruption.CTRL_C)
    assert launcher.wait(SECONDS)
    if ending == "kill":
        assert "SIGKILL" in str(launch.error) and launch.run.status() == "died"
    else:
        assert launch.ended.code == 130 and launch.run.status() == "interrupted"


@pytest.mark.torture
async def test_steps_are_timed_by_all_processes_of_a_run():
    measured = await from_timed_steps(training.config(OPTIONS, processes=2))
    assert measured.seconds > 0


@pytest.mark.torture
def test_no_follower_outlives_rank_0(tmp_path):
    command, [follower] = start(tmp_path, LONG)
    command.signal(signal.SIGKILL)
    until(lambda: not is_running(follower), SECONDS)
    command.wait()
    assert killing.only_run(tmp_path).status() == "died"


@pytest.mark.torture
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_every_process_ends_the_run_after_the_step(tmp_path, number):
    command, [follower] = start(tmp_path, LONG)
    for pid in (follower, command.pid):
        os.kill(pid, number)
    assert command.wait().code == 128 + number
    assert not is_running(follower)
    assert killing.only_run(tmp_path).status() == "interrupted"


@pytest.mark.torture
def test_the_time_limit_ends_every_process(tmp_path):
    words = [*killing.arguments(LONG | {"processes": 2}), "--plain", "--max-minutes", "0.6"]
    ended = convnn("run", *words, cwd=tmp_path)
    run = killing.only_run(tmp_path)
    assert ended.code == 75 and run.status() == "interrupted" and run.history().started.processes == 2


@pytest.mark.torture
@pytest.mark.parametrize("processes", [2, 3])  # of three, the order of a sum depends on the layout of the gradients
def test_a_resumed_run_ends_with_the_bits_of_an_undisturbed_one(tmp_path, processes):
    words = ["verify-resume", *killing.arguments(OPTIONS | {"processes": processes}), "--kills", "2"]
    trial = Command(words, tmp_path).wait(900)  # it starts up to twelve processes, one after the other
    assert trial.code == 0, trial


@pytest.mark.torture
def test_a_run_goes_on_with_another_number_of_processes_and_says_so(tmp_path):
    command, [follower] = start(tmp_path, OPTIONS | {"num_epochs": 20})
    os.kill(follower, signal.SIGKILL)
    command.wait()
    run = killing.only_run(tmp_path)
    ended = convnn("resume", run.name, "--processes", "1", "--plain", cwd=tmp_path)
    assert ended.code == 0, ended
    resumed = next(event for event in training.recorded_events(run) if isinstance(event, Resumed))
    assert not resumed.exact and "processes 2 before, 1 now" in resumed.note


@pytest.mark.torture
@pytest.mark.parametrize("word", ["run", "resume"])
def test_the_tasks_of_one_srun_are_the_processes_of_one_run(tmp_path, word):
    step = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}
    step["SLURM_STEP_NODELIST"] = "localhost"
    words = ["run", *killing.arguments(OPTIONS | {"processes": 2}), "--plain"]
    if word == "resume":  # as in the script of a job
        config = training.config(OPTIONS, processes=2)
        run = create_run(dumps(config), model="resnet18", layer="ConvNN", root=tmp_path / "runs")
        words = ["resume", f"{run.path}/", "--plain"]
    tasks = [
        Command(words, tmp_path, step | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}) for rank in range(2)
    ]
    assert [task.wait().code for task in tasks] == [0, 0]
    run = killing.only_run(tmp_path)
    assert run.status() == "done" and run.history().started.processes == 2
