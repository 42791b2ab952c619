"""Runs that are written while others read: no line is lost or torn, and a note written beside is kept."""

from __future__ import annotations

import json

import pytest
from support import killing, training
from support.processes import Command, convnn, until
from support.terminal import Program

from convnn import events
from convnn.runs import event_log
from convnn.runs.find import list_runs
from convnn.runs.history import History


@pytest.mark.parametrize(
    ("writers", "readers", "epochs"), [(2, 1, 2), pytest.param(8, 3, 150, marks=pytest.mark.torture)]
)
def test_written_while_read(tmp_path, writers, readers, epochs):
    options = training.SMALL | {"limit": 20, "batch_size": 10, "num_epochs": epochs}
    running = [Command(["run", *killing.arguments(options), "--plain", "--seed", n], tmp_path) for n in range(writers)]
    until(lambda: bool(list_runs(tmp_path / "runs")[0]))
    app = Program("-m", "convnn", "tui", "--runs", tmp_path / "runs")
    app.until(lambda: "resnet18" in app.text, "the first run")
    app.press("\r")  # its screen
    followed: dict[str, History] = {}  # as a screen follows them: from the byte where the last look ended
    notes = 0
    while any(command.process.is_alive() for command in running):
        looks = [Command(["runs", "--json"], tmp_path) for _ in range(readers)]
        for run in list_runs(tmp_path / "runs")[0]:
            followed.setdefault(run.name, History()).update(run.events_path)
            if run.status() == "running":
                notes += convnn("note", run.name, f"note {notes}", cwd=tmp_path).code == 0
        for look in looks:
            listing = look.wait()
            assert listing.code == 0, listing
            json.loads(listing.out)
    assert [command.wait().code for command in running] == [0] * writers
    app.until(lambda: "done" in app.text, "the end of the run")
    app.press("q")
    assert app.wait() == 0 and "Traceback" not in app.text
    app.close()
    runs, _ = list_runs(tmp_path / "runs")
    assert len(runs) == writers
    recorded_notes = 0
    for run in runs:
        recorded, bad, _ = event_log.EventReader().read(run.events_path)
        assert bad == []
        assert [event.epoch for event in recorded if isinstance(event, events.Epoch)] == list(range(1, epochs + 1))
        recorded_notes += sum(isinstance(event, events.Noted) for event in recorded)
        followed.setdefault(run.name, History()).update(run.events_path)  # a short run may end between two looks
        assert followed[run.name].skipped_lines == []
        assert followed[run.name].digest() == run.history().digest()
    assert recorded_notes == notes
