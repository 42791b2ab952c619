"""The commands of sweeps that are started, called in this process; the queue is paused, so that nothing trains."""

from __future__ import annotations

import json

import pytest

from convnn.errors import Exit
from convnn.events import Epoch, Finished, Started
from convnn.runs.event_log import append_event
from convnn.runs.run import create_run
from convnn.sweeps.queue import Queue

FLAGS = ("--K", "1,4", "--dataset", "digits", "--limit", "40", "--seeds", "2")


@pytest.fixture
def convnn(in_process, tmp_path, monkeypatch):
    monkeypatch.setenv("CONVNN_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    Queue(tmp_path / "runs").pause("for a test")
    return in_process


@pytest.fixture
def sweep(convnn, tmp_path):
    """A sweep of four cells whose first two are trained."""
    assert convnn("sweep", "run", "quickstart", *FLAGS, "--name", "grid", "--yes", "--detach")[0] == 0
    queue = Queue(tmp_path / "runs")
    for entry in queue.entries()[0][:2]:
        run = create_run(entry.config, model="vgg11", layer="x", root=queue.root, directory=entry.run_path)
        append_event(run.events_path, Started())
        append_event(run.events_path, Epoch(epoch=1, step=1, metrics={"test_top1": 60.0 + (entry.cell or 0)}))
        append_event(run.events_path, Finished(outcome="done"))
        queue.leave(entry, "")
    return convnn


def test_nothing_starts_without_a_confirmation(convnn, tmp_path):
    code, out, err = convnn("sweep", "run", "quickstart", *FLAGS)
    assert code == Exit.USAGE and "4 cells to train" in out and "--yes" in err
    code, out, err = convnn("run", "quickstart", "--seeds", "3")
    assert code == Exit.USAGE and "3 cells to train" in out and "--yes" in err
    assert not (tmp_path / "runs" / ".sweeps").exists() and Queue(tmp_path / "runs").entries() == ([], [])


def test_a_run_with_seeds_is_the_smallest_sweep(convnn, tmp_path):
    words = ("run", "quickstart", "--K", "4", "--seeds", "3", "--name", "mine", "--queue", "--yes")
    assert convnn(*words)[0] == 0
    entries, _ = Queue(tmp_path / "runs").entries()
    assert [(entry.sweep, entry.name) for entry in entries] == [("mine", "quickstart")] * 3
    assert "seed = 2" in entries[2].config and "K = 4" in entries[2].config
    assert convnn("run", "quickstart", "--seeds", "3", "--overwrite")[0] == Exit.USAGE
    assert convnn("run", "quickstart", "--yes")[0] == Exit.USAGE


def test_a_queued_run_keeps_its_directory_and_the_place_of_its_data(convnn, tmp_path):
    assert convnn("run", "quickstart", "--queue", "--output_dir", "results/x", "--data_path", "mine")[0] == 0
    (entry,) = Queue(tmp_path / "runs").entries()[0]
    assert entry.run == str(tmp_path / "results" / "x") and f'path = "{tmp_path / "mine"}"' in entry.config
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    assert convnn("run", "quickstart", "--queue", "--output_dir", "full")[0] == Exit.USAGE


def test_sweeps_are_listed_with_how_far_they_are(sweep):
    code, out, _ = sweep("sweep")
    assert code == 0 and out.splitlines()[1].split() == ["grid", "4", "2", "2", "queued"]
    (document,) = json.loads(sweep("sweep", "list", "--json")[1])["sweeps"]
    assert document["sweep"] == "grid" and document["counts"] == {"done": 2, "queued": 2}


def test_the_grid_is_shown_in_every_format(sweep):
    code, out, _ = sweep("sweep", "show", "grid")
    assert code == 0 and "61.50 ± 0.71 (2)" in out and "queued" in out and "2 runs that are not done" in out
    assert r"61.50 $\pm$ 0.71 (2)" in sweep("sweep", "show", "grid", "--format", "latex")[1]
    assert sweep("sweep", "show", "grid", "--format", "csv")[1].splitlines()[1] == "1,61.50 ± 0.71 (2)"
    document = json.loads(sweep("sweep", "show", "grid", "--json")[1])
    assert [cell["state"] for cell in document["cells"]] == ["done", "done", "queued", "queued"]
    assert document["plan"] == {"cells": 4, "infeasible": 0, "same": 0, "trained": 2, "reused": 0}
    assert document["cells"][0]["metrics"]["test_top1"]["best"] == 61 and document["cells"][3]["position"] == 2
    assert sweep("sweep", "show", "grid", "--baseline", "nothing")[0] == Exit.USAGE
    assert sweep("sweep", "show", "gird")[0] == Exit.NO_RUN


def test_lists_tables_and_comparisons_take_a_sweep_as_a_filter(sweep):
    assert len(json.loads(sweep("runs", "sweep=grid", "--json")[1])["runs"]) == 2
    assert json.loads(sweep("runs", "sweep=another", "--json")[1])["runs"] == []
    assert "61.50 ± 0.71 (2)" in sweep("table", "--rows", "K", "--where", "sweep=grid")[1]
    assert sweep("compare", "--where", "sweep=grid", "--no_curves")[0] == 0


def test_a_sweep_is_stopped_continued_and_removed(sweep, tmp_path):
    queue = Queue(tmp_path / "runs")
    assert sweep("sweep", "rm", "grid")[0] == Exit.HELD
    assert sweep("sweep", "stop", "grid")[0] == 0 and queue.entries()[0] == []
    assert "2 waiting" in sweep("sweep")[1]
    assert sweep("sweep", "run", "grid", "--yes", "--detach")[0] == 0 and len(queue.entries()[0]) == 2
    sweep("sweep", "stop", "grid", "--now")
    assert sweep("sweep", "rm", "grid")[0] == 0
    assert "there are no sweeps" in sweep("sweep")[2]
    assert len(json.loads(sweep("runs", "tag=grid", "--json")[1])["runs"]) == 2


def test_another_sweep_of_the_name_is_refused(sweep):
    code, _, err = sweep("sweep", "run", "quickstart", "--K", "1,9", "--name", "grid", "--yes", "--detach")
    assert code == Exit.USAGE and "--extend" in err
    words = ("sweep", "run", "quickstart", "--K", "1,9", "--limit", "40", "--seeds", "2", "--name", "grid", "--extend")
    assert sweep(*words, "--yes", "--detach")[0] == 0
    document = json.loads(sweep("sweep", "show", "grid", "--json")[1])
    assert [cell["labels"]["K"] for cell in document["cells"]] == ["1", "1", "4", "4", "9", "9"]


def test_a_sweep_that_is_done_is_not_started_again(sweep, tmp_path):
    queue = Queue(tmp_path / "runs")
    queue.remove(queue.entries()[0])
    words = ("sweep", "run", "quickstart", "--K", "1", "--limit", "40", "--seeds", "2", "--name", "small")
    assert sweep(*words, "--yes")[0] == 0  # its runs are those of the other sweep
    code, _, err = sweep("sweep", "run", "small")
    assert code == 0 and "nothing is left to train" in err and queue.entries()[0] == []
    assert "61.50 ± 0.71 (2)" in sweep("sweep", "show", "small")[1]
