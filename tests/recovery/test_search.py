"""A search under kills: no trial is lost, none is trained twice, and none is left running."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from support.processes import Command, convnn, until

from convnn.runs.file_lock import read_holder
from convnn.runs.find import list_runs
from convnn.sweeps.folder import SweepFolder
from convnn.sweeps.queue import Queue
from convnn.sweeps.search.coordinator import KILL_POINTS
from convnn.sweeps.states import read_state
from convnn.sweeps.work import live_workers
from convnn.worker.crash_points import VARIABLE

SEARCH = """
[set]
model.name = "resnet18"
model.width = 0.0625
layer.type = "Conv2d"
data.dataset = "digits"
data.resize = 8
data.limit = 60
data.val_share = 0.2
training.batch_size = 16
training.num_epochs = {epochs}
runtime.device = "cpu"
runtime.threads = 1
[axes]
lr = {{ min = 1e-4, max = 1e-1, log = true }}
[search]
trials = {trials}
"""
WORDS = ("sweep", "run", "mine.toml", "--yes", "--plain")
torture = pytest.mark.torture


def prepare(tmp_path: Path, trials: int, epochs: int, more: str = "") -> SweepFolder:
    (tmp_path / "mine.toml").write_text(SEARCH.format(trials=trials, epochs=epochs) + more)
    return SweepFolder((tmp_path / "runs").absolute(), "mine")


def check(folder: SweepFolder, trials: int) -> None:
    """Every trial has an outcome, in Optuna's journal too, and nothing of the search runs any more."""
    state = read_state(folder)
    assert state.is_done and not state.is_going_on and not folder.is_searching
    runs, warnings = list_runs(folder.root)
    assert not warnings and len(runs) == len(state.trainable) == trials
    assert {run.status() for run in runs} <= {"done", "pruned"}
    queue = Queue(folder.root)
    until(lambda: queue.entries() == ([], []) and not live_workers(queue))
    records = [json.loads(line) for line in folder.study.read_text().splitlines()]
    created = [record for record in records if record["op_code"] == 4]
    ended = {record["trial_id"] for record in records if record["op_code"] == 6}
    assert ended == set(range(len(created)))


@pytest.mark.parametrize(
    "point", [point if point == "search.recorded" else pytest.param(point, marks=torture) for point in KILL_POINTS]
)
def test_the_process_that_draws_trials_is_killed_at_any_point(tmp_path: Path, point: str) -> None:
    folder = prepare(tmp_path, trials=1, epochs=1)
    convnn(*WORDS, "--detach", cwd=tmp_path, **{VARIABLE: point})
    until(lambda: folder.study.stat().st_size > 0 and not folder.is_searching)
    finished = convnn(*WORDS, cwd=tmp_path)
    assert finished.code == 0, finished
    check(folder, 1)


@torture
@pytest.mark.timeout(3000)
def test_twenty_trials_are_twenty_trials_when_both_processes_are_killed_twice(tmp_path: Path) -> None:
    folder = prepare(tmp_path, 20, 4, 'stop = { method = "asha", min_epochs = 1, eta = 2 }')
    queue = Queue(folder.root)
    for ended in (4, 10):
        command = Command([*WORDS, "--slots", 2], tmp_path)
        until(lambda ended=ended: folder.is_there and _ended(folder) >= ended, 900)
        until(lambda: bool(live_workers(queue)))
        os.kill(int(live_workers(queue)[0].name.partition("-")[0]), signal.SIGKILL)
        until(lambda: bool(live_workers(queue)))  # the search starts another one
        _kill_coordinator(folder)
        command.signal(signal.SIGKILL)
    finished = Command([*WORDS, "--slots", 2], tmp_path).wait(1500)
    assert finished.code == 0, finished
    check(folder, 20)


def _ended(folder: SweepFolder) -> int:
    state = read_state(folder)
    return state.counts.get("done", 0) + state.counts.get("pruned", 0)


def _kill_coordinator(folder: SweepFolder) -> None:
    holder = read_holder(folder.coordinator)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    until(lambda: not folder.is_searching)
