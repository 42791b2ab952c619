"""A runs folder that several nodes share, whose file system shows no node the locks of the others."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from support import training
from support.killing import arguments, only_run
from support.nodes import local_flock
from support.processes import Command, convnn, until
from support.started import Started

from convnn.config.toml import dumps
from convnn.errors import Exit
from convnn.events import Epoch, Resumed
from convnn.hardware import NODE
from convnn.runs import control
from convnn.runs.control import ControlCommand
from convnn.sweeps.queue import Entry, Queue
from convnn.sweeps.slots import Slot
from convnn.sweeps.work import Worker, live_workers, stop_workers


def test_a_run_on_another_node_is_running_there_and_ends_when_it_is_taken_over(tmp_path: Path) -> None:
    options = arguments(training.SMALL | {"threads": 1, "limit": 40, "num_epochs": 10_000})
    options += ["--plain", "--max-minutes", "4"]
    owner = Started("run", *options, cwd=tmp_path, **{NODE: "node1"}, **local_flock(tmp_path))
    until(lambda: any(tmp_path.glob("runs/*/checkpoints/last")))
    run, node2 = only_run(tmp_path), {NODE: "node2"}
    (listed,) = json.loads(convnn("runs", "--json", cwd=tmp_path, **node2).out)["runs"]
    assert (listed["status"], listed["host"]) == ("running", "node1")
    assert "running on node1" in convnn("show", cwd=tmp_path, **node2).out
    refused = convnn("resume", run.name, "--plain", cwd=tmp_path, **node2)
    assert refused.code == Exit.HELD and "node1" in refused.err
    taken = convnn("resume", run.name, "--plain", "--take-over", "--max-minutes", "0", cwd=tmp_path, **node2)
    assert taken.code == Exit.TIME_LIMIT, taken
    assert owner.wait().code == Exit.HELD, owner.printed()
    events = training.recorded_events(run)
    resumed = next(index for index, event in enumerate(events) if isinstance(event, Resumed))
    epochs = [event.epoch for event in events if isinstance(event, Epoch)]
    assert epochs == list(range(1, len(epochs) + 1))
    assert not any(isinstance(event, Epoch) for event in events[resumed:])
    assert run.status() == "interrupted"


def test_workers_of_two_nodes_start_an_entry_once_and_stop_it_where_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(tmp_path / "runs")
    config = training.config(training.SMALL | {"threads": 1, "limit": 40, "num_epochs": 10_000})
    queue.add([Entry(config=dumps(config, whole=True), name="one")])
    worker = Command(["work", "--threads", "1"], tmp_path, {NODE: "node1"})
    until(lambda: bool(queue.entries()[0][0].run) and queue.is_claimed(queue.entries()[0][0]))
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    monkeypatch.setenv(NODE, "node2")
    (entry,) = queue.entries()[0]
    until(lambda: queue.holder(entry).pid != worker.pid)
    with Worker(queue, [Slot("cpu0", 1)]) as second:
        assert second.step() and not second.children
        assert len(live_workers(queue)) == 2
        assert queue.claim(entry) is None and queue.remove([entry]) == []
    until(lambda: queue.run_of(entry) is not None and queue.run_of(entry).has_checkpoint)
    assert queue.run_of(entry).remote_host == "node1"
    control.send(entry.run_path, ControlCommand.STOP)
    until(lambda: not queue.is_claimed(entry))
    assert stop_workers(queue, now=False) == 1
    assert worker.wait().code == 0
    assert training.recorded_events(queue.run_of(entry))[-1].outcome == "stopped"
