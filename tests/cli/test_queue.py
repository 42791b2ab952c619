"""`convnn queue`: what it lists of entries that left the queue, and how they are tried again."""

from __future__ import annotations

import pytest

from convnn.config.schema import RunConfig
from convnn.config.toml import dumps
from convnn.errors import Exit
from convnn.sweeps.queue import Entry, Queue


@pytest.fixture
def queue(tmp_path, monkeypatch) -> Queue:
    """A queue that starts nothing, with an entry that failed and one that diverged."""
    monkeypatch.setenv("CONVNN_RUNS", str(tmp_path))
    queue = Queue(tmp_path)
    queue.pause("for the test")
    queue.add([Entry(config=dumps(RunConfig(), whole=True), name=name) for name in ("first", "second")])
    for entry, cause in zip(queue.entries()[0], ("failed: the data is missing", "diverged: the loss"), strict=True):
        queue.leave(entry, cause)
    return queue


def test_retry_adds_what_failed_or_what_is_named(queue, in_process):
    assert "try again with: convnn queue retry\n" in in_process("queue")[2]
    code, _, err = in_process("queue", "retry")
    assert code == 0 and "first waits again" in err and "the queue is paused: for the test" in err
    assert [entry.name for entry in queue.entries()[0]] == ["first"]
    assert "try again with: convnn queue retry NAME\n" in in_process("queue")[2]
    code, _, err = in_process("queue", "retry")
    assert code == Exit.NO_RUN and "no entry of the queue failed" in err and "name one" in err
    assert in_process("queue", "retry", "third")[0] == Exit.NO_RUN
    assert in_process("queue", "retry", "second")[0] == 0
    assert [entry.name for entry in queue.entries()[0]] == ["first", "second"] and not queue.ended()
