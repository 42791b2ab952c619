"""Runs and sweeps as Slurm jobs, on a real cluster of one node: what each signal, limit and cancellation leads to."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from support import killing, training
from support.processes import Result, convnn
from support.slurm import start_again_now, until, until_ended, until_restarted, until_waiting

from convnn.errors import Exit
from convnn.events import Resumed, Started
from convnn.runs import control, slurm_jobs
from convnn.runs.control import ControlCommand
from convnn.runs.find import list_runs
from convnn.runs.lock import is_locked
from convnn.runs.run import Run
from convnn.slurm_job import own_jobs, run_command

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1200), pytest.mark.usefixtures("cluster")]

OPTIONS = training.SMALL | {"threads": 1, "limit": 40, "num_epochs": 30, "layer": "ConvNN", "K": 4}
PLAN = ["sweep", "run", "quickstart", *killing.arguments(OPTIONS), "--name", "grid", "--yes"]


def command(*words: object, cwd: Path) -> Result:
    return convnn(*words, cwd=cwd, SLURM_CONF=os.environ["SLURM_CONF"], OMP_NUM_THREADS="1")


def submitted(*words: object, cwd: Path) -> str:
    """Submit, and return the number of the job."""
    ended = command(*words, cwd=cwd)
    assert ended.code == 0, ended
    return ended.out.splitlines()[-1].split()[1].rstrip(",:")


def only_run(cwd: Path) -> Run:
    until(lambda: (cwd / "runs").is_dir() and bool(list_runs(cwd / "runs")[0]))
    (run,) = list_runs(cwd / "runs")[0]
    return run


def hold(run: Run, start: int) -> None:
    """Have the run pause in its process number `start`, so that what follows meets it while it trains."""
    until(lambda: starts(run) >= start and is_locked(run.path))
    control.send(run.path, ControlCommand.PAUSE)
    until(lambda: run.recorded_status() == "paused")


def starts(run: Run) -> int:
    events = training.recorded_events(run) if run.events_path.exists() else []
    return sum(isinstance(event, Started | Resumed) for event in events) - sum(
        isinstance(event, Resumed) and event.note == "after a pause" for event in events
    )


def log(cwd: Path, number: int = 1) -> str:
    return (cwd / f"runs/.sweeps/grid/log/{number:04d}.out").read_text()


def check_undisturbed(run: Run, tmp_path: Path) -> None:
    """The run ended with the digest of one that nothing disturbed."""
    whole, _ = training.train(tmp_path / "whole", run.config())
    killing.check(run, whole)


def test_an_array_trains_every_cell_once(tmp_path):
    job = submitted(*PLAN, "--K", "1,2,400", "--num_epochs", 1, "--slurm", "--slots", 2, cwd=tmp_path)
    script = (tmp_path / "runs/.sweeps/grid/job.sh").read_text()
    assert '#SBATCH --array="1-2%2"' in script  # cell 3 is infeasible
    again = command(*PLAN, "--K", "1,2,400", "--num_epochs", 1, "--slurm", cwd=tmp_path)
    assert again.code == 0 and "nothing is left to submit" in again.err, again  # it waits, or is trained
    lines = command("sweep", "commands", "grid", cwd=tmp_path)
    assert lines.code == 0 and lines.out == ""
    for number in (1, 2):
        until_ended(f"{job}_{number}")
    document = json.loads(command("sweep", "show", "grid", "--json", cwd=tmp_path).out)
    assert [cell["state"] for cell in document["cells"]] == ["done", "done", "infeasible"], log(tmp_path)
    environment = {**os.environ, "CONVNN_RUNS": str(tmp_path / "runs")}
    line = [*shlex.split(script.splitlines()[-1])[3:-4], "--runs", str(tmp_path / "runs")]
    done = subprocess.run(
        [word.replace("$SLURM_ARRAY_TASK_ID", "1") for word in line if word not in ("--max-minutes", "auto")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "cell 1 is done" in done.stderr, done


def test_signals_and_preemption_requeue_a_run_which_ends_as_an_undisturbed_one(tmp_path):
    job = f"{submitted(*PLAN, '--slurm', cwd=tmp_path)}_1"
    run = only_run(tmp_path)
    for start, name in enumerate(("USR1", "USR2"), 1):
        hold(run, start)
        run_command(["scancel", f"--signal={name}", job])
        until_waiting(job)
        assert run.recorded_status() == "interrupted"
        document = json.loads(command("runs", "--json", cwd=tmp_path).out)
        assert [item["status"] for item in document["runs"]] == ["requeued"]
        start_again_now(job)
    hold(run, 3)
    cpus = str(os.cpu_count())
    urgent = run_command(
        ["sbatch", "--parsable", "-p", "high", "-n", cpus, "-o", "/dev/null", "--wrap", "true"]
    ).strip()
    until_restarted(job, 3)
    until_ended(urgent)
    start_again_now(job)
    until_ended(job)
    assert run.status() == "done", log(tmp_path)
    check_undisturbed(run, tmp_path)


def test_each_process_of_a_run_is_a_task_and_all_of_them_are_requeued(tmp_path):
    words = killing.arguments(OPTIONS | {"processes": 2, "num_epochs": 6})
    job = f"{submitted('run', 'quickstart', *words, '--slurm', cwd=tmp_path)}_1"
    run = only_run(tmp_path)
    hold(run, 1)
    run_command(["scancel", "--signal=USR1", job])
    until_waiting(job)
    assert run.recorded_status() == "interrupted"
    start_again_now(job)
    until_ended(job)
    assert run.status() == "done" and run.history().started.processes == 2, (run.path / "job.log").read_text()
    check_undisturbed(run, tmp_path)


def test_a_canceled_job_saves_and_stays_canceled(tmp_path):
    job = submitted("run", "quickstart", *killing.arguments(OPTIONS), "--slurm", cwd=tmp_path)
    run = only_run(tmp_path)
    hold(run, 1)
    run_command(["scancel", f"{job}_1"])
    until_ended(f"{job}_1")
    assert run.status() == "interrupted" and run.history().finished.code == Exit.TERMINATED
    assert run.has_checkpoint and "it is left as it is" in (run.path / "job.log").read_text()


def test_a_chain_of_time_limits(tmp_path):
    job = f"{submitted(*PLAN, '--num_epochs', 40, '--slurm', '--max-minutes', '0.002', cwd=tmp_path)}_1"
    run = only_run(tmp_path)
    for restarts in (1, 2, 3):
        until_restarted(job, restarts)
        start_again_now(job)
    until(lambda: starts(run) == 4)
    stopped = command("sweep", "stop", "grid", "--now", cwd=tmp_path)
    assert stopped.code == 0, stopped
    until_ended(job)
    codes = [event.code for event in training.recorded_events(run) if type(event).__name__ == "Finished"]
    assert codes[:3] == [Exit.TIME_LIMIT] * 3 and run.recorded_status() in ("stopped", "interrupted")
    trained = command("sweep", "train", "grid", 1, cwd=tmp_path)
    assert trained.code == 0, trained
    check_undisturbed(run, tmp_path)


def test_a_waiting_job_is_shown_and_stopped(tmp_path):
    job = submitted("run", "quickstart", "--slurm", "--sbatch", "begin=now+1hour", cwd=tmp_path)
    run = only_run(tmp_path)
    slurm_jobs.refresh()  # this process may have asked just before
    assert run.status() == "queued" and f"{job}_1" in own_jobs()
    stopped = command("stop", "@last", cwd=tmp_path)
    assert stopped.code == 0 and f"job {job}_1" in stopped.out, stopped
    until_ended(f"{job}_1")
    slurm_jobs.refresh()
    assert run.status() == "stopped"


def test_what_sbatch_refuses_is_refused_by_check_and_leaves_no_run(tmp_path):
    file = tmp_path / "grid.toml"
    file.write_text('base = "quickstart"\n[slurm]\npartition = "none-such"\n')
    refused = command("sweep", "check", file, cwd=tmp_path)
    assert refused.code == Exit.USAGE and "none-such" in refused.err, refused
    refused = command("run", "quickstart", "--slurm", "--sbatch", "partition=none-such", cwd=tmp_path)
    assert refused.code == Exit.USAGE and not list_runs(tmp_path / "runs")[0], refused
    file.write_text('base = "quickstart"\nseeds = 501\n[axes]\nlr = [0.1, 0.01]\n[slurm]\n')
    refused = command("sweep", "run", file, "--slurm", "--yes", cwd=tmp_path)
    assert refused.code == Exit.USAGE and "MaxArraySize of this cluster is 1001" in refused.err, refused
    file.write_text('base = "quickstart"\n[slurm]\npartition = "high"\n')
    accepted = command("sweep", "check", file, cwd=tmp_path)
    assert accepted.code == 0 and "in partition high" in accepted.out, accepted


@pytest.mark.parametrize("comment", [r"a \"b\" \c", "'$HOME' `id` $(id) #x", "é % {} | -p high"])
def test_a_value_reaches_sbatch_as_it_is(tmp_path, comment):
    job = submitted(
        *("run", "quickstart", "--slurm", "--sbatch", "hold", "--sbatch", f"comment={comment}"), cwd=tmp_path
    )
    assert run_command(["squeue", "-h", "-j", f"{job}_1", "-O", "Comment:|"]).strip() == f"{comment}|"
    run_command(["scancel", job])
