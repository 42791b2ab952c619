"""The status of a run that waits for a Slurm job: by the script that was submitted, asked for seldom."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import training
from support.slurm_commands import SlurmCommands

from convnn.errors import UserError
from convnn.events import Finished, Started
from convnn.runs import slurm_jobs, trash
from convnn.runs.event_log import append_event
from convnn.runs.run import Run
from convnn.runs.slurm_jobs import SCRIPT
from convnn.runs.summary_cache import summaries
from convnn.runs.sweep_cells import SweepCell, append_cells


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmCommands:
    return SlurmCommands(tmp_path / "bin", monkeypatch)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = training.create(tmp_path / "runs", training.config())
    (run.path / SCRIPT).write_text("#!/bin/sh\n")
    return run


def status(run: Run) -> str:
    """The status as lists and as the run itself have it, by what Slurm says now."""
    slurm_jobs.refresh()
    (summary,) = summaries(run.path.parent)[0]
    assert summary.status == run.status()
    return summary.status


def test_a_run_waits_starts_and_is_requeued_as_its_job_does(slurm, run):
    script = run.path / SCRIPT
    assert status(run) == "died"
    slurm.list_jobs(("7_1", "PENDING", script))
    assert status(run) == "queued"
    with pytest.raises(UserError, match="Slurm job 7_1"):
        trash.discard(run.path, run.name, run.path.parent)
    slurm.list_jobs(("7_1", "RUNNING", script))
    assert status(run) == "running"  # its process starts
    with pytest.raises(UserError, match="Slurm job 7_1"):
        trash.discard(run.path, run.name, run.path.parent)
    append_event(run.events_path, Started(host="here", device="cpu", epochs=2, steps_per_epoch=4))
    append_event(run.events_path, Finished(outcome="interrupted", code=75))
    slurm.list_jobs(("7_1", "COMPLETING", script))
    assert status(run) == "interrupted"
    slurm.list_jobs(("7_1", "PENDING", script), restarts=1)
    assert status(run) == "requeued"
    append_event(run.events_path, Finished(outcome="done", code=0))
    assert status(run) == "done"
    slurm.list_jobs(("7_1", "PENDING", script.with_name("other.sh")))
    assert run.recorded_status() == "done"


def test_a_cell_of_a_sweep_is_an_element_of_its_array(slurm, run):
    (run.path / SCRIPT).unlink()
    folder = run.path.parent / ".sweeps" / "grid"
    folder.mkdir(parents=True)
    (folder / SCRIPT).touch()
    append_cells(folder / "cells.jsonl", [SweepCell(index=3, name="a", seed=0, run=run.name)])
    slurm.list_jobs(("7_2", "RUNNING", folder / SCRIPT), ("7_3", "PENDING", folder / SCRIPT))
    assert status(run) == "queued"
    assert slurm_jobs.element_of_run(run.path)[1] == folder / "log" / "0003.out"


def test_slurm_is_asked_seldom_and_only_while_there_are_jobs(slurm, run, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(slurm_jobs.time, "monotonic", lambda: clock[0])

    def calls(status: str) -> int:
        """Pass ten seconds and look often; the number of all calls of squeue so far."""
        clock[0] += slurm_jobs.REFRESH_SECONDS
        assert [run.status() for _ in range(5)] == [status] * 5
        return len(slurm.calls("squeue"))

    assert calls("died") == 1
    slurm.list_jobs(("7_1", "PENDING", run.path / SCRIPT))  # submitted just after Slurm was asked
    assert (calls("queued"), calls("queued")) == (2, 3)
    slurm.list_jobs()
    assert (calls("died"), calls("died"), calls("died")) == (4, 4, 4)
    (run.path / SCRIPT).write_text("#!/bin/sh\n# submitted again\n")
    slurm.list_jobs(("8_1", "PENDING", run.path / SCRIPT))
    assert calls("queued") == 5


def test_a_controller_that_does_not_answer_for_a_while_changes_nothing(slurm, run, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(slurm_jobs.time, "monotonic", lambda: clock[0])

    def later_statuses() -> set[str]:
        statuses = set()
        for _ in range(3):
            clock[0] += slurm_jobs.REFRESH_SECONDS
            statuses.add(run.status())
        return statuses

    slurm.stop_answering()
    assert later_statuses() == {"died"}
    slurm.list_jobs(("7_1", "PENDING", run.path / SCRIPT))
    assert later_statuses() == {"queued"}
    slurm.stop_answering()
    assert later_statuses() == {"queued"}


def test_without_slurm_a_run_is_what_its_files_say(run, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(slurm_jobs, "_listing", slurm_jobs._Listing())
    assert run.status() == "died" and summaries(run.path.parent)[1] == []
