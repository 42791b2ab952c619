"""The status of a run follows from its last events and its lock."""

from __future__ import annotations

import pytest
from support.runs import new

from convnn.events import Finished, Noted, Paused, Resumed, Saved, Started, Step, Warned
from convnn.runs.event_log import append_event
from convnn.runs.lock import lock_run
from convnn.runs.status import STATUSES


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


@pytest.mark.parametrize("outcome", ["done", "stopped", "interrupted", "failed", "diverged"])
def test_the_outcome_decides_and_notes_after_it_do_not(root, outcome):
    notes = [Noted(text="note" * 2000), Saved(step=1, path="x"), Warned(message="x")]
    run = new(root, Started(), Finished(outcome=outcome), *notes)
    with run.events_path.open("a") as file:
        file.write('damage\n{"event": "Forked", "time": "2026-11-22T15:15:00Z"}\n{"event": "Step"')
    assert run.status() == outcome and outcome in STATUSES


def test_without_an_outcome_the_lock_decides(root):
    run = new(root)
    assert run.status() == "died"
    with lock_run(run.path):
        for event, status in [
            (Started(), "running"),
            (Finished(outcome="interrupted"), "interrupted"),
            (Started(), "running"),
            (Paused(epoch=1, step=1), "paused"),
            (Saved(step=1, path="x"), "paused"),
            (Resumed(epoch=1, step=1), "running"),
            (Step(epoch=1, step=2, loss=1.0), "running"),
        ]:
            append_event(run.events_path, event)
            assert run.status() == status
    assert run.status() == "died"


def test_every_status_has_a_glyph_of_its_own():
    glyphs = [status.glyph for status in STATUSES.values()]
    assert len(set(glyphs)) == len(glyphs) and all(len(glyph) == 1 for glyph in glyphs)


def test_only_a_run_that_a_process_trains_is_live():
    assert {word for word, status in STATUSES.items() if status.is_live} == {"running", "paused"}
