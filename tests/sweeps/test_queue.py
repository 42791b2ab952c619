"""The queue on the disk: order, removal and undo, damage, and when an entry leaves it."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from support.processes import until

from convnn.config.schema import RunConfig, RuntimeSection
from convnn.config.toml import dumps
from convnn.errors import UserError
from convnn.events import Finished, Started
from convnn.hardware import NODE
from convnn.runs import lock
from convnn.runs.event_log import append_event
from convnn.runs.lock import lock_run
from convnn.runs.run import create_run
from convnn.sweeps.queue import MAX_FAILURES, MAX_STARTS, Entry, Queue, events_size, resuming_entry
from convnn.sweeps.queue_view import differing_options, slot_states
from convnn.sweeps.slots import Slot, machine_slots
from convnn.sweeps.work import Child, FreeSlot, Worker, ensure_worker, live_workers, stop_workers

CONFIG = dumps(RunConfig(), whole=True)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path)


def entries(count: int) -> list[Entry]:
    return [Entry(config=CONFIG, name=str(index)) for index in range(count)]


def names(queue: Queue) -> list[str]:
    return [entry.name for entry in queue.entries()[0]]


def test_reading_an_empty_queue_makes_nothing_on_the_disk(queue: Queue, tmp_path: Path) -> None:
    assert queue.entries() == ([], [])
    assert queue.ended() == []
    assert queue.paused is None
    assert not queue.folder.exists()


def test_entries_keep_their_order_and_everything_that_was_queued(queue: Queue) -> None:
    queue.add(entries(3))
    queue.add([Entry(config=CONFIG, name="first", sweep="grid", cell=7)], front=True)
    assert names(queue) == ["first", "0", "1", "2"]
    first = queue.entries()[0][0]
    assert (first.config, first.sweep, first.cell) == (CONFIG, "grid", 7)


def test_any_series_of_moves_gives_the_order_of_a_list(queue: Queue) -> None:
    queue.add(entries(6))
    expected = names(queue)
    generator = random.Random(0)
    for _ in range(60):  # more than fit between two neighbors, so that all are renumbered on the way
        origin, position = generator.randrange(6), generator.choice([1, 2, 2, 3, 6, 99])
        queue.move(queue.entries()[0][origin], position)
        expected.insert(min(position, 6) - 1, expected.pop(origin))
        assert names(queue) == expected


def test_entries_that_are_moved_between_the_same_neighbors_never_run_out_of_room(queue: Queue) -> None:
    queue.add(entries(3))
    for _ in range(100):
        queue.move(queue.entries()[0][2], 2)
    assert sorted(names(queue)) == ["0", "1", "2"]
    assert names(queue)[0] == "0"


def test_what_was_removed_comes_back_in_its_place_the_latest_removal_first(queue: Queue) -> None:
    queue.add(entries(4))
    queued = queue.entries()[0]
    queue.remove(queued[1:3])
    queue.remove([queued[0]])
    assert names(queue) == ["3"]
    queue.undo()
    assert names(queue) == ["0", "3"]
    queue.undo()
    assert names(queue) == ["0", "1", "2", "3"]
    with pytest.raises(UserError, match="nothing was removed"):
        queue.undo()


def test_an_entry_that_a_process_trains_is_not_removed(queue: Queue) -> None:
    queue.add(entries(2))
    trained, waiting = queue.entries()[0]
    claim = queue.claim(trained)
    assert claim is not None
    assert queue.claim(trained) is None
    assert [entry.name for entry in queue.remove([trained, waiting])] == ["1"]
    claim.release()
    assert not queue.is_claimed(trained)


def test_a_claim_outlives_the_process_that_took_it_with_the_child_that_inherited_it(queue: Queue) -> None:
    queue.add(entries(1))
    (entry,) = queue.entries()[0]
    claim = queue.claim(entry)
    assert claim is not None
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[claim.descriptor])
    claim.give_to(child.pid)
    claim.close()
    assert queue.is_claimed(entry)
    child.communicate()
    assert not queue.is_claimed(entry)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"id": "../../x", "config": ""}',
        b'{"id": "000000000000", "config": ""}',
        b'{"id": "0123456789ab", "config": "", "run": "relative"}',
        b'{"id": "0123456789ab", "config": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
        b" " * (1 << 20) + b"{}",
    ],
)
def test_a_damaged_entry_costs_a_warning_that_names_its_file(queue: Queue, content: bytes) -> None:
    queue.add(entries(1))
    (queue.folder / f"{1:016d}-0123456789ab.json").write_bytes(content)
    queued, warnings = queue.entries()
    assert [entry.name for entry in queued] == ["0"]
    assert len(warnings) == 1
    assert "0123456789ab.json" in warnings[0]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_file_costs_a_warning(queue: Queue, make) -> None:
    queue.add(entries(1))
    make(queue.folder / f"{1:016d}-0123456789ab.json")
    queued, warnings = queue.entries()
    assert len(queued) == len(warnings) == 1


def test_five_hundred_entries_are_all_there(queue: Queue) -> None:
    queue.add(entries(500))
    assert names(queue) == [str(index) for index in range(500)]


@pytest.mark.parametrize("outcome", ["done", "failed", "diverged", "stopped", "interrupted"])
def test_an_entry_leaves_the_queue_by_the_outcome_of_its_run(queue: Queue, tmp_path: Path, outcome: str) -> None:
    run = create_run(CONFIG, model="m", layer="l", root=tmp_path)
    queue.add([resuming_entry(run, CONFIG).model_copy(update={"starts": 1})])
    (entry,) = queue.entries()[0]
    append_event(run.events_path, Started())
    append_event(run.events_path, Finished(outcome=outcome, cause="why"))
    cause = queue.settle(entry)
    stays = outcome == "interrupted"
    assert bool(names(queue)) is stays
    assert cause == {"done": "", "interrupted": None}.get(outcome, f"{outcome}: why")
    assert [ended.cause for ended in queue.ended()] == ([cause] if cause else [])
    queue.retry(queue.ended())
    assert bool(names(queue)) is (outcome != "done") and queue.ended() == []
    assert all((entry.cause, entry.starts) == ("", 0 if cause else 1) for entry in queue.entries()[0])


def test_what_ended_a_run_before_it_was_queued_is_past(queue: Queue, tmp_path: Path) -> None:
    run = create_run(CONFIG, model="m", layer="l", root=tmp_path)
    append_event(run.events_path, Started())
    append_event(run.events_path, Finished(outcome="stopped", cause="asked"))
    queue.add([resuming_entry(run, CONFIG)])
    (entry,) = queue.entries()[0]
    assert entry.events == events_size(run) > 0
    assert queue.settle(entry) is None
    assert len(names(queue)) == 1


def test_an_entry_that_is_killed_again_and_again_without_progress_is_set_aside(queue: Queue) -> None:
    queue.add(entries(1))
    (entry,) = queue.entries()[0]
    for start in range(1, MAX_STARTS):
        entry = queue.update(entry, starts=start)
        assert queue.settle(entry) is None
    entry = queue.update(entry, starts=MAX_STARTS)
    assert queue.settle(entry)
    assert names(queue) == []
    assert str(MAX_STARTS) in queue.ended()[0].cause


def test_failures_with_one_cause_pause_the_queue_and_a_success_between_them_does_not(queue: Queue) -> None:
    for cause in ("disk full", "disk full", "", "disk full", "other", "disk full", "disk full"):
        queue.count_failure(cause)
        assert queue.paused is None
    queue.count_failure("disk full")
    assert queue.paused is not None
    assert "disk full" in queue.paused
    assert str(MAX_FAILURES) in queue.paused
    queue.resume()
    queue.count_failure("disk full")
    assert queue.paused is None


def test_entries_are_told_apart_by_the_options_in_which_they_differ() -> None:
    configs = [
        RunConfig.model_validate({"layer": {"K": K}, "training": {"seed": seed}}) for K, seed in ((4, 0), (9, 1))
    ]
    rows = differing_options([Entry(config=dumps(config, whole=True)) for config in configs])
    assert rows == [{"K": "4", "seed": "0"}, {"K": "9", "seed": "1"}]
    assert differing_options([Entry(config="not TOML")]) == [{}]


@pytest.mark.parametrize("name", ["", "removed", "workers", "ended", "claims", "slots", "log"])
def test_a_linked_folder_of_the_queue_is_refused_and_nothing_behind_it_changes(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    (victim / "20260101-000000-000000-").mkdir(parents=True)
    for file in ("LICENSE", "1-0123abcd", "thesis.tex", "20260101-000000-000000-/1.json"):
        (victim / file).write_text(file)
    before = sorted(str(path) for path in victim.rglob("*"))
    queue = Queue(tmp_path / "runs")
    queue.root.mkdir()
    if name:
        queue.add(entries(1))
        shutil.rmtree(queue.folder / name, ignore_errors=True)
    (queue.folder / name if name else queue.folder).symlink_to(victim)
    with suppress(UserError):
        queue.undo()
    with suppress(UserError):
        queue.remove(queue.entries()[0])
    with suppress(UserError):
        stop_workers(queue, now=True)
    with suppress(UserError), Worker(queue, machine_slots(1, 1)) as worker:
        queue.pause("nothing starts")
        worker.step()
    assert live_workers(queue) == []
    assert sorted(str(path) for path in victim.rglob("*")) == before


def test_a_worker_ends_the_process_that_holds_a_claim_and_none_that_its_note_names(queue: Queue) -> None:
    queue.add(entries(1))
    (entry,) = queue.entries()[0]
    claim = queue.claim(entry)
    assert claim is not None
    foreign, child = (
        subprocess.Popen(["sleep", "60"], start_new_session=True, pass_fds=descriptors)
        for descriptors in ([], [claim.descriptor])
    )
    with foreign, child, Worker(queue, machine_slots(1, 1)) as worker:
        claim.give_to(foreign.pid)
        worker._terminate([entry])
        claim.give_to(child.pid)
        worker._terminate([entry])
        assert child.wait() == -signal.SIGTERM
        assert foreign.poll() is None
        foreign.kill()
    claim.release()


def test_a_run_of_two_processes_takes_two_gpus_and_holds_up_those_after_it(queue: Queue) -> None:
    configs = [RunConfig(runtime=RuntimeSection(processes=processes)) for processes in (3, 2, 1)]
    queue.add([Entry(config=dumps(config, whole=True), name=str(index)) for index, config in enumerate(configs)])
    lines: list[str] = []
    with Worker(queue, [Slot("gpu0", 1, "4"), Slot("gpu1", 2, "GPU-5")], lines.append) as worker:
        second = worker.slots[1].claim(queue.place("slots", make=True))
        worker.step()
        assert [line.partition(" failed: ")[2] for line in lines] == [
            "runtime.processes is 3: each takes a GPU, and this worker has 2 slots"
        ]
        assert worker.children == [] and names(queue) == ["1", "2"]
        second.release()
        worker.step()
        (child,) = worker.children
        child.process.kill()
        assert lines[1:] == [f"{child.entry.run_path.name} started on gpu0+gpu1"]
        slots = {slot.name: slot.entry_id for slot in slot_states(queue)}
        child.process.wait()
    assert slots == dict.fromkeys(("gpu0", "gpu1"), child.entry.id) and child.entry.threads == 3
    assert Slot.join(worker.slots).environment["CUDA_VISIBLE_DEVICES"] == "4,GPU-5"


def test_an_entry_whose_run_a_person_has_just_begun_to_train_stays(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "TIMEOUT", 0.0)
    run = create_run(CONFIG, model="vgg11", layer="ConvNN", root=tmp_path)
    queue.add([resuming_entry(run, CONFIG)])
    slot = Slot("cpu0", 1)
    with Worker(queue, [slot]) as worker, lock_run(run.path):
        claim = slot.claim(queue.place("slots", make=True))
        assert claim is not None
        assert worker._start_first(queue.entries()[0], [FreeSlot(slot, claim)]) is None
        claim.release()
    assert names(queue) == [run.name] and queue.ended() == [] and not queue.is_claimed(queue.entries()[0][0])


def test_undo_restores_entries_alone_and_keeps_what_else_lies_there(queue: Queue) -> None:
    queue.add(entries(1))
    queue.remove(queue.entries()[0])
    (batch,) = (queue.folder / "removed").iterdir()
    (batch / "notes.md").write_text("mine")
    (queue.folder / "removed" / "zzz").mkdir()
    assert [entry.name for entry in queue.undo()] == ["0"]
    assert (batch / "notes.md").read_text() == "mine"


def test_files_that_no_worker_made_stay(queue: Queue) -> None:
    queue.add(entries(1))
    (queue.folder / "workers").mkdir()
    (queue.folder / "workers" / "LICENSE").write_text("x")
    (queue.folder / "workers" / "1-0123abcd").write_text("")  # of a worker that was killed
    assert live_workers(queue) == []
    assert [path.name for path in (queue.folder / "workers").iterdir()] == ["LICENSE"]


@pytest.mark.parametrize("name", ["claims/0123456789ab", "worker.log", "log/0123456789ab.txt", "lock"])
def test_a_file_of_the_queue_that_is_a_link_is_not_written_into(tmp_path: Path, queue: Queue, name: str) -> None:
    victim = tmp_path / "precious"
    victim.write_text("precious")
    path = queue.folder / name
    path.parent.mkdir(parents=True)
    for link in (lambda: path.symlink_to(victim), lambda: path.hardlink_to(victim)):
        link()
        with suppress(OSError, UserError):
            queue.add([Entry(id="0123456789ab", config=CONFIG)])
            queue.pause("nothing starts")
            claim = queue.claim(queue.entries()[0][0])
            assert claim is not None
            claim.close()
            if name == "worker.log":
                ensure_worker(queue)
        assert victim.read_text() == "precious"
        path.unlink()


def test_places_outside_of_the_runs_folder_count_only_with_the_signature_of_this_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
    queue = Queue(tmp_path / "runs")
    elsewhere = str(tmp_path / "elsewhere")
    queue.add([Entry(config=CONFIG, run=elsewhere), Entry(config=CONFIG, run=str(queue.root / "inside"))])
    assert [entry.run for entry in queue.entries()[0]] == [elsewhere, str(queue.root / "inside")]
    first, _ = queue.entries()[0]
    queue.update(first, starts=1)
    assert queue.entries()[0][0].starts == 1
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of a stranger"))
    queued, warnings = Queue(queue.root).entries()
    assert [entry.run for entry in queued] == [str(queue.root / "inside")]
    assert "was not made by you" in warnings[0]


def test_a_worker_that_was_stopped_for_minutes_leaves_what_another_node_took_and_signs_on_again(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)  # as another node sees it
    monkeypatch.setenv(NODE, "node1")
    queue.add(entries(1))
    (queued,) = queue.entries()[0]
    claim = queue.claim(queued)
    assert claim is not None
    with Worker(queue, []) as worker:
        (file,) = live_workers(queue)
        worker.children.append(Child(queued, subprocess.Popen(["false"]), (claim,)))
        for path in (file, claim.path):
            os.utime(path, (0, 0))
        monkeypatch.setenv(NODE, "node2")
        second_claim = queue.claim(queued)
        assert second_claim is not None and live_workers(queue) == []
        monkeypatch.setenv(NODE, "node1")
        until(lambda: worker.step() and not worker.children)
        assert len(live_workers(queue)) == 1 and queue.entries()[0] == [queued] and second_claim.is_own
