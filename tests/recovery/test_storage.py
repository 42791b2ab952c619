"""A disk that refuses: never a damaged latest checkpoint, never a torn history, and the run can go on afterwards."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import killing, training
from support.processes import Command, convnn
from support.refusals import Refusals, refusing

from convnn.errors import Exit, UserError
from convnn.runs import event_log, file_lock
from convnn.runs.run import Run
from convnn.training.state import StateDict
from convnn.worker import checkpoint

CONFIG = training.config(limit=20, batch_size=10)
SEED = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Run, int]:
    """The undisturbed run, and how many calls of it write."""
    root = tmp_path_factory.mktemp("whole")
    run = training.create(root, CONFIG)
    with refusing(pytest.MonkeyPatch(), Refusals(run.path)) as counted:
        from convnn.worker.train_run import train_run

        assert train_run(run, CONFIG).code == 0
    return run, counted.calls


def sound(run: Run) -> None:
    """What is there can be believed: no torn line, and the latest checkpoint verifies."""
    if run.events_path.exists():
        assert event_log.EventReader().read(run.events_path)[1] == []
    if (last := checkpoint.read_pointer(run.path, "last")) is not None:
        checkpoint.load_verified(run.path / checkpoint.CHECKPOINTS / last)


def refuse_and_finish(root: Path, monkeypatch: pytest.MonkeyPatch, whole: Run, number: int, forever: bool) -> None:
    from convnn.worker.train_run import train_run

    run = training.create(root, CONFIG)
    monkeypatch.setattr(file_lock, "GUARD_SECONDS", 0.1)  # the refusal of an unlink leaves a guard, waited for as long
    with refusing(monkeypatch, Refusals(run.path, number, forever=forever)):
        try:
            ended = train_run(run, CONFIG)
            code = ended.code
            assert code in (Exit.DONE, Exit.STORAGE), ended.finished
        except UserError as error:
            code = error.code
            assert code == Exit.STORAGE, error
    sound(run)
    if run.status() != "done":
        assert training.resume(run).finished.outcome == "done"
    sound(run)
    assert run.history().digest() == whole.history().digest()
    assert training.same_weights(run, whole)
    shutil.rmtree(root)


@pytest.mark.parametrize("forever", [False, True], ids=["once", "for good"])
def test_a_sample_of_the_writing_calls_refused(tmp_path, monkeypatch, whole, forever):
    run, calls = whole
    assert calls > 50
    for number in range(1 + forever * 3, calls + 1, calls // 3):
        refuse_and_finish(tmp_path / str(number), monkeypatch, run, number, forever)


@pytest.mark.torture
@pytest.mark.parametrize("forever", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("number", range(1, 151))
def test_every_writing_call_refused(tmp_path, monkeypatch, whole, number, forever):
    run, calls = whole
    assert calls <= 150  # else the range above is too short
    if number <= calls:
        refuse_and_finish(tmp_path / "runs", monkeypatch, run, number, forever)


def test_without_room_for_a_checkpoint_no_step_is_taken(tmp_path):
    options = training.SMALL | {"limit": 20, "batch_size": 10}
    ended = Command(["run", *killing.arguments(options), "--plain"], tmp_path, largest_file=20_000).wait()
    assert ended.code == Exit.STORAGE, ended
    assert "a checkpoint of" in ended.out and "ulimit -f" in ended.out and "Traceback" not in ended.err
    run = killing.only_run(tmp_path)
    assert run.status() == "failed" and run.history().step == 0
    assert list((run.path / checkpoint.CHECKPOINTS).iterdir()) == []
    assert convnn("resume", run.name, "--plain", cwd=tmp_path).code == Exit.DONE
    killing.check(run, killing.undisturbed(tmp_path, options))


def test_a_history_that_may_not_grow_is_not_torn(tmp_path, monkeypatch):
    run_config = training.config(limit=20, batch_size=10, num_epochs=10, checkpoint_epochs=100)
    original = os.write

    def write(descriptor: int, data: bytes) -> int:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        if path.name != "events.jsonl" or path.stat().st_size + len(data) <= 3_000:
            return original(descriptor, data)
        raise OSError(errno.EFBIG, "File too large")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        run, ended = training.train(tmp_path / "runs", run_config)
    assert ended.code == Exit.STORAGE
    sound(run)
    assert 0 < len(run.history().epochs) < 10
    assert training.resume(run).code == Exit.DONE
    assert [epoch.epoch for epoch in run.history().epochs] == list(range(1, 11))
    killing.check(run, training.train(tmp_path / "whole", run_config)[0])


NOT_ESSENTIAL = {
    "the sync of a directory": ("fsync", lambda target: Path(f"/proc/self/fd/{target}").is_dir()),
    "any sync": ("fsync", lambda target: True),
    "modes": ("chmod", lambda target: True),
    "times": ("utime", lambda target: True),
    "allocation": ("posix_fallocate", lambda target: True),
}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("call", NOT_ESSENTIAL)
def test_a_file_system_without_a_call_that_is_not_essential(tmp_path, monkeypatch, call, number):
    name, refused = NOT_ESSENTIAL[call]
    original = getattr(os, name)

    def refuse(target, *rest, **named):
        if refused(target):
            raise OSError(number, os.strerror(number))
        return original(target, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse)
        run, ended = training.train(tmp_path, CONFIG)
    assert ended.finished.outcome == "done", ended.finished.cause
    assert run.history().warnings == []
    sound(run)


def test_a_broken_disk_is_not_taken_for_a_missing_call(tmp_path, monkeypatch):
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    run = training.create(tmp_path, CONFIG)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        checkpoint.write(run.path, 1, StateDict({}, {}, {}))


def mounted(place: Path, size: str) -> bool:
    """Mount a small file system; only root can."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_a_disk_with_room_for_little_more_than_two_checkpoints_is_enough(tmp_path):
    place = tmp_path / "small"
    if not mounted(place, "2700k"):
        pytest.skip("only root can mount a small file system")
    try:
        options = training.SMALL | {"limit": 20, "batch_size": 10, "num_epochs": 5}
        ended = convnn("run", *killing.arguments(options), "--plain", cwd=place)
        assert ended.code == Exit.DONE, ended
        run = killing.only_run(place)
        sound(run)
        assert not any("could not be written" in warning.message for warning in run.history().warnings)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.torture
def test_a_full_file_system(tmp_path):
    place = tmp_path / "small"
    if not mounted(place, "1m"):
        pytest.skip("only root can mount a small file system")
    try:
        options = training.SMALL | {"limit": 20, "batch_size": 10}
        ended = convnn("run", *killing.arguments(options), cwd=place)
        assert ended.code == Exit.STORAGE, ended
        sound(killing.only_run(place))
        subprocess.run(["mount", "-o", "remount,size=200m", place], check=True)
        assert convnn("resume", killing.only_run(place).name, cwd=place).code == Exit.DONE
        killing.check(killing.only_run(place), killing.undisturbed(tmp_path, options))
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        refused = convnn("run", *killing.arguments(options), cwd=tmp_path, CONVNN_RUNS=str(place / "runs"))
        assert refused.code == Exit.STORAGE and "read-only" in refused.err and "Traceback" not in refused.err
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_directory_that_vanishes_is_said(tmp_path):
    from convnn.events import Epoch
    from convnn.worker.train_run import train_run

    run = training.create(tmp_path, CONFIG)

    def show(event, line: str) -> None:
        if isinstance(event, Epoch):
            shutil.rmtree(run.path)

    ended = train_run(run, CONFIG, show=show)
    assert ended.code == Exit.STORAGE
    assert "vanished" in ended.finished.cause
