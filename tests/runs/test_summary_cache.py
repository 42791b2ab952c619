"""A summary is the same from the files and from the cache."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from support.runs import epoch, new

from convnn.events import Finished, Resumed, Started
from convnn.runs import summary, summary_cache
from convnn.runs.event_log import append_event
from convnn.runs.lock import lock_run


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def test_a_summary_has_the_fields_of_the_contract(root):
    began, ended = datetime(2026, 11, 22, 15, 15, tzinfo=UTC), datetime(2026, 11, 22, 16, 0, tzinfo=UTC)
    epochs = [epoch(1, 50.0), epoch(2, float("nan"))]
    run = new(root, Started(time=began), *epochs, Finished(time=ended, outcome="diverged"))
    assert summary.summary_json(run) == {
        "name": run.name,
        "path": str(run.path),
        "status": "diverged",
        "host": None,
        "started": "2026-11-22T15:15:00.000Z",
        "finished": "2026-11-22T16:00:00.000Z",
        "config": {"model": {"name": "vgg11"}, "data": {"resize": None}, "scheduler": {"name": "none"}},
        "epoch": 2,
        "best": {"metric": "test_top1", "value": 50.0, "epoch": 1},
        "digest": run.history().digest(),
        "tags": [],
        "notes": [],
    }


def test_a_summary_is_the_same_from_the_cache_and_new_when_the_run_is(root):
    done, dead = new(root, epoch(1, 50.0), Finished(outcome="done")), new(root, epoch(1, 60.0))
    first = summary_cache.summaries(root)
    cached = (root / summary_cache.CACHE).read_bytes()
    assert summary_cache.summaries(root) == first and (root / summary_cache.CACHE).read_bytes() == cached
    with lock_run(dead.path):
        assert {run.name: run.status for run in summary_cache.summaries(root)[0]} == {
            done.name: "done",
            dead.name: "running",
        }
    append_event(done.events_path, Resumed(epoch=1, step=1))
    append_event(done.events_path, epoch(2, 80.0))
    (changed,) = [run for run in summary_cache.summaries(root)[0] if run.name == done.name]
    assert changed.status == "died" and changed.epoch == 2 and changed.best.value == 80.0


@pytest.mark.parametrize("junk", [b"", b"\xff", b"{}", b'{"version": 2}', b'{"version": 1, "kept": {"/x": {}}}', b"["])
def test_a_damaged_cache_is_rebuilt(root, junk):
    new(root, epoch(1, 50.0), Finished(outcome="done"))
    first = summary_cache.summaries(root)
    (root / summary_cache.CACHE).write_bytes(junk)
    assert summary_cache.summaries(root) == first


def test_a_run_with_a_damaged_configuration_is_named_and_the_others_are_summarized(root):
    good, bad = new(root), new(root)
    bad.config_path.write_bytes(b"\xff = [")
    runs, warnings = summary_cache.summaries(root)
    assert [run.name for run in runs] == [good.name] and len(warnings) == 1 and bad.name in warnings[0]


def test_a_second_call_parses_no_cache_and_writes_one_that_was_removed(root):
    done = new(root, epoch(1, 50.0), Finished(outcome="done"))
    summary_cache.summaries(root)
    (first,), (second,) = summary_cache.summaries(root)[0], summary_cache.summaries(root)[0]
    assert first is second and first.name == done.name
    (root / summary_cache.CACHE).unlink()
    new(root, epoch(1, 60.0), Finished(outcome="done"))
    assert len(summary_cache.summaries(root)[0]) == 2 and (root / summary_cache.CACHE).is_file()
