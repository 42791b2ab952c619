"""Deletion: what is moved to the trash comes back, the last deletion first."""

from __future__ import annotations

import pytest
from support.app import make_run

from convnn.runs.lock import lock_run
from convnn.runs.run import Run
from tui.deletion import Deletion
from tui.selection import Selection


@pytest.fixture
def messages():
    return []


@pytest.fixture
def deletion(tmp_path, messages):
    return Deletion(tmp_path / "runs", Selection(), lambda message, error=False: messages.append((message, error)))


def runs(root, *names: str) -> list[Run]:
    return [Run(make_run(root / "runs", name), name) for name in names]


def test_runs_that_were_deleted_together_come_back_together(tmp_path, deletion):
    first, second, third = runs(tmp_path, "a", "b", "c")
    deletion.delete_runs([first, second])
    deletion.delete_runs([third])
    assert not any(run.path.exists() for run in (first, second, third))
    deletion.undo()
    assert third.path.exists() and not first.path.exists()
    deletion.undo()
    assert first.path.exists() and second.path.exists()


def test_a_run_that_trains_stays_and_is_an_error(tmp_path, deletion, messages):
    training, ended = runs(tmp_path, "training", "ended")
    with lock_run(training.path):
        deletion.delete_runs([training, ended])
    assert training.path.exists() and not ended.path.exists()
    assert [error for _, error in messages] == [True, False]


def test_a_deleted_run_is_neither_marked_nor_pinned(tmp_path, deletion):
    (run,) = runs(tmp_path, "a")
    deletion.selection.toggle_mark([str(run.path)])
    deletion.selection.toggle_pin(str(run.path))
    deletion.delete_runs([run])
    assert not deletion.selection.marked and not deletion.selection.pinned


def test_presets_and_runs_are_undone_in_one_order(tmp_path, deletion, monkeypatch):
    monkeypatch.chdir(tmp_path)
    preset = tmp_path / "presets" / "mine.toml"
    preset.parent.mkdir()
    preset.write_text('about = "mine"\n')
    (run,) = runs(tmp_path, "a")
    deletion.delete_preset(preset)
    deletion.delete_runs([run])
    deletion.undo()
    assert run.path.exists() and not preset.exists()
    deletion.undo()
    assert preset.read_text() == 'about = "mine"\n'


def test_what_cannot_come_back_now_can_be_undone_later(tmp_path, deletion, messages, monkeypatch):
    monkeypatch.chdir(tmp_path)
    preset = tmp_path / "presets" / "mine.toml"
    preset.parent.mkdir()
    preset.write_text("")
    deletion.delete_preset(preset)
    preset.write_text('about = "another"\n')
    deletion.undo()
    assert messages[-1][1] is True
    preset.unlink()
    deletion.undo()
    assert preset.read_text() == ""


def test_without_a_deletion_undo_takes_the_newest_run_of_the_trash(tmp_path, deletion, messages):
    (run,) = runs(tmp_path, "a")
    deletion.delete_runs([run])
    later = Deletion(deletion.root, Selection(), deletion.say)
    later.undo()
    assert run.path.exists()
    later.undo()
    assert messages[-1][1] is True  # the trash is empty


def test_a_run_that_is_gone_already_is_no_error(tmp_path, deletion, messages):
    (run,) = runs(tmp_path, "a")
    deletion.delete_runs([run])
    deletion.delete_runs([run])
    assert [error for _, error in messages] == [False]
    deletion.undo()
    assert run.path.exists()
