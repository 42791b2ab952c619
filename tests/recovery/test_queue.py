"""The queue and its workers under kills: no entry is lost, none is trained twice, and the results do not change."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support import training
from support.processes import Command, convnn, until
from support.refusals import Refusals, refusing

from convnn.config.toml import dumps
from convnn.errors import Exit, UserError
from convnn.events import Started
from convnn.runs import file_lock, trash
from convnn.runs.find import list_runs
from convnn.runs.run import Run
from convnn.sweeps.queue import Entry, Queue, resuming_entry
from convnn.sweeps.slots import Slot
from convnn.sweeps.work import KILL_POINTS, Worker, live_workers
from convnn.worker.crash_points import VARIABLE

OPTIONS = training.SMALL | {"threads": 1, "limit": 40}
torture = pytest.mark.torture


def enqueue(tmp_path: Path, *seeds: int) -> Queue:
    queue = Queue(tmp_path / "runs")
    configs = [training.config(OPTIONS | {"seed": seed}) for seed in seeds]
    queue.add([Entry(config=dumps(config, whole=True), name=f"seed-{config.training.seed}") for config in configs])
    return queue


def started_once(run: Run) -> bool:
    """Whether the run was trained from its beginning once, whatever came after."""
    return sum(isinstance(event, Started) for event in training.recorded_events(run)) == 1


def check_trained(tmp_path: Path, seeds: set[int], *, anew: bool = False) -> None:
    """Each seed was trained to its end, once, to the trace of a run on its own.

    With `anew` the process was killed before there was a checkpoint, so that the run began again.
    """
    runs, warnings = list_runs(tmp_path / "runs")
    assert not warnings
    assert sorted(run.config().training.seed for run in runs) == sorted(seeds)
    for run in runs:
        assert run.status() == "done"
        assert anew or started_once(run)
        alone, _ = training.train(
            tmp_path / f"alone-{run.name}", training.config(OPTIONS | {"seed": run.config().training.seed})
        )
        assert run.history().digest() == alone.history().digest()
    queue = Queue(tmp_path / "runs")
    assert queue.entries() == ([], [])
    assert queue.ended() == []


def test_entries_are_trained_in_order_and_one_added_meanwhile_too(tmp_path: Path) -> None:
    queue = enqueue(tmp_path, 1)
    worker = Command(["work", "--once", "--threads", "1"], tmp_path)
    until(lambda: queue.is_claimed(queue.entries()[0][0]))
    enqueue(tmp_path, 2)
    result = worker.wait()
    assert result.code == 0, result
    check_trained(tmp_path, {1, 2})
    assert live_workers(queue) == []


@pytest.mark.parametrize(
    "point", [point if point == "work.started" else pytest.param(point, marks=torture) for point in KILL_POINTS]
)
def test_a_worker_is_killed_at_a_named_point(tmp_path: Path, point: str) -> None:
    enqueue(tmp_path, 1, 2)
    killed = convnn("work", "--once", "--threads", "1", cwd=tmp_path, **{VARIABLE: point})
    assert killed.code == -signal.SIGKILL, killed
    finished = convnn("work", "--once", "--threads", "1", cwd=tmp_path)
    assert finished.code == 0, finished
    check_trained(tmp_path, {1, 2})


@torture
def test_two_workers_with_two_slots_at_once(tmp_path: Path) -> None:
    queue = enqueue(tmp_path, 1, 2, 3, 4)
    workers = [Command(["work", "--once", "--slots", "2"], tmp_path) for _ in range(2)]
    for worker in workers:
        result = worker.wait(240)
        assert result.code == 0, result
    check_trained(tmp_path, {1, 2, 3, 4})
    assert live_workers(queue) == []


@torture
@pytest.mark.parametrize("point", ["step:1", "checkpoint.renamed:1", "epoch.logged:2", "run.ended:1"])
def test_a_child_is_killed_and_resumed(tmp_path: Path, point: str) -> None:
    enqueue(tmp_path, 1)
    worker = Command(["work", "--once", "--threads", "1"], tmp_path, {VARIABLE: point})  # its children inherit it
    queue = Queue(tmp_path / "runs")
    until(lambda: any(entry.starts == 2 for entry in queue.entries()[0]) or not queue.entries()[0], 120)
    worker.signal(signal.SIGKILL)
    worker.wait()
    until(lambda: not any(queue.is_claimed(entry) for entry in queue.entries()[0]))
    finished = convnn("work", "--once", "--threads", "1", cwd=tmp_path)
    assert finished.code == 0, finished
    check_trained(tmp_path, {1}, anew=point == "step:1")


@torture
def test_everything_is_killed_and_started_again(tmp_path: Path) -> None:
    queue = enqueue(tmp_path, 1, 2, 3)
    worker = Command(["work", "--once", "--slots", "2"], tmp_path)
    until(lambda: sum(queue.is_claimed(entry) for entry in queue.entries()[0]) == 2)
    worker.signal(signal.SIGKILL)
    worker.wait()
    for entry in queue.entries()[0]:
        if queue.is_claimed(entry):
            until(lambda entry=entry: bool(queue.holder(entry)))
            os.kill(queue.holder(entry).pid, signal.SIGKILL)
    until(lambda: not any(queue.is_claimed(entry) for entry in queue.entries()[0]))
    finished = convnn("work", "--once", "--slots", "2", "--threads", "1", cwd=tmp_path)
    assert finished.code == 0, finished
    check_trained(tmp_path, {1, 2, 3})


@torture
def test_workers_that_are_told_to_stop_now_have_their_runs_saved_and_resumed(tmp_path: Path) -> None:
    queue = enqueue(tmp_path, 1, 2)
    worker = Command(["work", "--threads", "1"], tmp_path)
    until(lambda: any(run.has_checkpoint or run.history().epochs for run in list_runs(tmp_path / "runs")[0]))
    assert convnn("work", "--stop", "--now", cwd=tmp_path).code == 0
    assert worker.wait().code == 0
    assert not any(queue.is_claimed(entry) for entry in queue.entries()[0])
    finished = convnn("work", "--once", "--threads", "1", cwd=tmp_path)
    assert finished.code == 0, finished
    check_trained(tmp_path, {1, 2})


def test_an_entry_that_cannot_start_leaves_the_queue_with_its_cause(tmp_path: Path) -> None:
    queue = enqueue(tmp_path, 1)
    (entry,) = queue.entries()[0]
    queue.update(entry, config=entry.config.replace("resnet18", "resnet19"))
    assert convnn("work", "--once", cwd=tmp_path).code == 0
    assert queue.entries() == ([], [])
    (ended,) = queue.ended()
    assert "model.name" in ended.cause


def test_an_entry_forks_a_run_at_its_start_and_another_resumes_it(tmp_path: Path) -> None:
    source, _ = training.train(tmp_path, training.config(OPTIONS), commands=training.StopAt(3))
    before = source.config()
    epochs = 2 * before.training.num_epochs
    longer = before.model_copy(update={"training": before.training.model_copy(update={"num_epochs": epochs})})
    queue = Queue(tmp_path / "runs")
    fork = Entry(config=dumps(longer, whole=True), name="longer", forks=str(source.path))
    queue.add([fork, resuming_entry(source, dumps(before, whole=True))])
    finished = convnn("work", "--once", cwd=tmp_path)
    assert finished.code == 0, finished
    assert queue.entries() == ([], []) and queue.ended() == []
    assert source.status() == "done" and len(source.history().epochs) == before.training.num_epochs
    (forked,) = list_runs(tmp_path / "runs")[0]
    assert forked.status() == "done" and len(forked.history().epochs) == epochs
    alone, _ = training.train(tmp_path / "alone", training.config(OPTIONS))
    assert source.history().digest() == alone.history().digest()


def test_an_entry_whose_run_was_resumed_by_a_person_leaves_as_done(tmp_path: Path) -> None:
    source, _ = training.train(tmp_path, training.config(OPTIONS), commands=training.StopAt(3))
    queue = Queue(tmp_path / "runs")
    queue.add([resuming_entry(source, dumps(source.config(), whole=True))])
    assert convnn("resume", f"{source.path}/", "--plain", cwd=tmp_path).code == 0
    history = source.events_path.read_bytes()
    finished = convnn("work", "--once", cwd=tmp_path)
    assert finished.code == 0, finished
    assert queue.entries() == ([], []) and queue.ended() == []
    assert source.events_path.read_bytes() == history


def test_a_run_is_locked_from_the_moment_it_exists_until_its_process_ends(tmp_path, monkeypatch) -> None:
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    queue = enqueue(tmp_path, 1)
    with Worker(queue, [Slot("cpu0", 1)]) as worker:
        worker.step()
        (child,) = worker.children
        (run,) = list_runs(tmp_path / "runs")[0]
        assert run.status() == "running"
        with pytest.raises(UserError) as error:
            trash.discard(run.path, run.name, queue.root)
        assert error.value.code == Exit.HELD
        child.process.kill()
        child.process.wait()
        assert run.status() == "died"


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=torture)])
def test_a_full_disk_loses_no_entry_and_holds_no_slot(tmp_path, monkeypatch, forever, stride):
    """Whichever write is refused: the entry stays, and is started where the disk takes it."""

    def start(number: int | None) -> tuple[int, int]:
        """Return how often the entry was started while the write of this number was refused, and the writes."""
        place = tmp_path / str(number)
        place.mkdir()
        queue = enqueue(place, 1)
        with Worker(queue, [Slot("cpu0", 1)]) as worker:
            refusals = Refusals(place, number, forever=forever)
            with refusing(monkeypatch, refusals), suppress(OSError):
                worker.step()
            assert len(queue.entries()[0]) == 1 and queue.ended() == []
            until(lambda: all(child.process.poll() is not None for child in worker.children))
            worker.step()
            assert len(queue.entries()[0]) == 1 and queue.ended() == []
            (child,) = worker.children
            assert len(list_runs(place / "runs")[0]) == 1
            child.process.wait()
        return child.entry.starts, refusals.calls

    monkeypatch.setattr(file_lock, "GUARD_SECONDS", 0.1)  # the refusal of an unlink leaves a guard, waited for as long
    monkeypatch.setattr(sys, "executable", shutil.which("true"))  # a process that ends at once in place of a training
    starts, writes = start(None)
    assert starts == 2  # in each step
    for number in range(1, writes + 1, stride):
        assert start(number)[0] in (1, 2)  # 2 where it was started before the refusal


def test_a_run_that_a_full_disk_ended_stays_and_pauses_the_queue(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("only root can mount a small file system")
    try:
        queue = enqueue(place, 1)
        worker = Command(["work", "--once", "--threads", "1"], tmp_path, {"CONVNN_RUNS": str(place / "runs")})
        until(lambda: queue.paused is not None)
        assert "disk" in (queue.paused or "") and len(queue.entries()[0]) == 1 and queue.ended() == []
        subprocess.run(["mount", "-o", "remount,size=200m", place], check=True)
        queue.resume()
        result = worker.wait()
        assert result.code == 0, result
        check_trained(place, {1}, anew=True)
    finally:
        subprocess.run(["umount", "-l", place], check=True)
