"""A sweep under kills: `convnn sweep run NAME` goes on with it, and its table is that of an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support import training
from support.killing import arguments
from support.processes import Command, convnn, until

from convnn.errors import Exit
from convnn.events import Started
from convnn.runs.find import list_runs
from convnn.sweeps.folder import KILL_POINTS
from convnn.sweeps.queue import Queue
from convnn.worker.crash_points import VARIABLE

OPTIONS = training.SMALL | {"threads": 1, "limit": 40, "num_epochs": 1, "layer": "ConvNN"}
torture = pytest.mark.torture


def words(*more: object) -> list[object]:
    return ["sweep", "run", "quickstart", *arguments(OPTIONS), "--name", "grid", *more, "--yes", "--plain"]


def table(cwd: Path) -> dict[str, Any]:
    """The grid of the sweep with its cells, without what differs between two trainings: names, times and speed."""
    document = json.loads(convnn("sweep", "show", "grid", "--json", cwd=cwd).out)
    hardware = ("train_s", "eval_s", "images_per_s", "peak_bytes")
    cells = [
        (cell["name"], cell["seed"], cell["state"], {k: v for k, v in cell["metrics"].items() if k not in hardware})
        for cell in document["cells"]
    ]
    return {"cells": cells, **{key: document[key] for key in ("rows", "cols", "grid", "best", "comparisons")}}


def check(cwd: Path, count: int, *, anew: bool = False) -> None:
    """Every cell was trained to its end in one run, from its beginning once.

    With `anew` some process was killed before there was a checkpoint, so that its run began again.
    """
    runs, warnings = list_runs(cwd / "runs")
    assert not warnings and len(runs) == count
    for run in runs:
        assert run.status() == "done" and run.config().run.tags == ("grid",)
        starts = sum(isinstance(event, Started) for event in training.recorded_events(run))
        assert starts == 1 or anew
    queue = Queue(cwd / "runs")
    until(lambda: queue.entries() == ([], []))  # the worker looks at the end of its last run a moment later
    assert queue.ended() == []


def kill_everything(cwd: Path, *commands: Command) -> None:
    """Kill the commands, the workers of the queue and the processes of its runs, as a crash of the machine would."""
    queue = Queue(cwd / "runs")
    for command in commands:
        command.signal(signal.SIGKILL)
        command.wait()
    for path in (queue.folder / "workers").iterdir():
        os.kill(int(path.name.partition("-")[0]), signal.SIGKILL)
    for entry in queue.entries()[0]:
        if queue.is_claimed(entry):
            until(lambda entry=entry: bool(queue.holder(entry)) or not queue.is_claimed(entry))
            if holder := queue.holder(entry):
                os.kill(holder.pid, signal.SIGKILL)
    until(lambda: not any(queue.is_claimed(entry) for entry in queue.entries()[0]))


@pytest.mark.parametrize(
    "point", [point if point == "sweep.mapped" else pytest.param(point, marks=torture) for point in KILL_POINTS]
)
def test_a_sweep_is_killed_while_it_is_written_down(tmp_path: Path, point: str) -> None:
    killed = convnn(*words("--K", "1,2", "--detach"), cwd=tmp_path, **{VARIABLE: point})
    assert killed.code == -signal.SIGKILL, killed
    for _ in range(2):
        detached = convnn(*words("--K", "1,2", "--detach"), cwd=tmp_path)
        assert detached.code == 0, detached
    finished = convnn("sweep", "run", "grid", "--yes", "--plain", cwd=tmp_path)
    assert finished.code == 0, finished
    check(tmp_path, 2)


@pytest.mark.parametrize("size", [2, pytest.param(12, marks=torture)])
def test_everything_is_killed_and_the_table_is_that_of_an_undisturbed_sweep(tmp_path: Path, size: int) -> None:
    seeds = 1 if size == 2 else 3
    values = "1,2" if size == 2 else "1..6"
    axes = ["--K", values, "--seeds", seeds, *(["--lr", "1e-3,1e-2"] if size == 12 else [])]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    undisturbed = convnn(*words(*axes, "--slots", 2), cwd=whole)
    assert undisturbed.code == 0, undisturbed
    command = Command(words(*axes, "--slots", 2), killed)
    queue = Queue(killed / "runs")
    until(lambda: any(queue.is_claimed(entry) for entry in queue.entries()[0]))
    kill_everything(killed, command)
    finished = convnn("sweep", "run", "grid", "--yes", "--plain", cwd=killed)
    assert finished.code == 0, finished
    check(killed, size * seeds, anew=True)
    assert table(killed) == table(whole)


@torture
def test_a_sweep_ends_at_its_time_limit_and_goes_on(tmp_path: Path) -> None:
    late = convnn(*words("--K", "1,2", "--max-minutes", "0.05"), cwd=tmp_path)
    assert late.code == Exit.TIME_LIMIT, late
    queue = Queue(tmp_path / "runs")
    assert queue.entries() == ([], []) or not any(queue.is_claimed(entry) for entry in queue.entries()[0])
    finished = convnn("sweep", "run", "grid", "--yes", "--plain", cwd=tmp_path)
    assert finished.code == 0, finished
    check(tmp_path, 2, anew=True)
