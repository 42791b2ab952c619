"""A removed run comes back whole, until the trash is emptied."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from support.processes import convnn
from support.runs import epoch, new

from convnn.errors import Exit, UserError
from convnn.files import TRASH
from convnn.runs import find, lock, trash
from convnn.runs.lock import lock_run


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def test_undo_restores_the_run_removed_last(root):
    first, second = new(root, epoch(1, 50.0)), new(root)
    for run in (first, second):
        trash.discard(run.path, run.name, root)
    assert find.list_runs(root) == ([], [])
    assert trash.undo(root) == second.path and trash.undo(root) == first.path
    assert (
        sorted(run.name for run in find.list_runs(root)[0]) == sorted([first.name, second.name])
        and first.history().epochs
    )
    with pytest.raises(UserError, match="empty") as nothing:
        trash.undo(root)
    assert nothing.value.code is Exit.NO_RUN


def test_a_linked_run_goes_to_the_trash_and_back_with_its_link(root, tmp_path):
    run = new(root, directory=tmp_path / "a" / "out")
    trash.discard(run.path, run.name, root)
    assert not run.path.exists() and find.list_runs(root) == ([], [])
    run.path.parent.rmdir()
    assert trash.undo(root) == run.path and find.list_runs(root) == ([run], [])


def test_a_run_on_another_file_system_goes_to_the_trash_and_back(root):
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == root.parent.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        run = new(root, epoch(1, 50.0), directory=Path(elsewhere) / "out")
        trash.discard(run.path, run.name, root)
        assert not run.path.exists()
        assert trash.undo(root) == run.path and run.history().epochs


def test_undo_never_replaces_another_run(root, tmp_path):
    run = new(root, directory=tmp_path / "out")
    newer = new(root, directory=tmp_path / "out", overwrite=True)
    with pytest.raises(UserError, match="exists") as taken:
        trash.undo(root)
    assert taken.value.code == Exit.USAGE
    assert find.list_runs(root) == ([newer], []) and run.path == newer.path


def test_a_running_run_is_not_discarded(root, monkeypatch):
    monkeypatch.setattr(lock, "TIMEOUT", 0.0)
    run = new(root)
    with lock_run(run.path), pytest.raises(UserError) as refused:
        trash.discard(run.path, run.name, root)
    assert refused.value.code is Exit.HELD and find.list_runs(root)[0] == [run]


def test_a_directory_that_holds_its_root_is_not_discarded(tmp_path):
    run = new(tmp_path / "runs", directory=tmp_path)
    with pytest.raises(UserError, match="holds the runs"):
        trash.discard(run.path, run.name, tmp_path / "runs")


def test_emptying_a_trash_with_a_persons_files_needs_a_confirmation(root):
    run = new(root, epoch(1, 50.0))
    (run.path / "notes.md").write_text("mine")
    entry = trash.discard(run.path, run.name, root)
    listed = convnn("rm", "--empty", "--dry-run", "--runs", str(root), cwd=root)
    assert str(entry / "notes.md") in listed.err
    refused = convnn("rm", "--empty", "--runs", str(root), cwd=root)
    assert refused.code == Exit.USAGE and "--yes" in refused.err and (entry / "notes.md").exists()
    assert convnn("rm", "--empty", "--yes", "--runs", str(root), cwd=root).code == Exit.DONE
    assert not entry.exists()


def test_emptying_the_trash_deletes_nothing_outside_of_it(root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    runs_made = [new(root), new(root, directory=tmp_path / "out")]
    for run in runs_made:
        trash.discard(run.path, run.name, root)
    (root / TRASH / "sneaky").symlink_to(outside)
    assert trash.empty(root) == 2 and trash.empty(root) == 0
    assert (outside / "file").exists() and list((root / TRASH).iterdir()) == []
