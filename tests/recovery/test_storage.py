"""A disk that refuses: never a damaged latest checkpoint, never a torn history, and the run can go on afterwards."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors
from support import killing, training
from support.processes import Command, convnn

from convnn.errors import Exit, UserError
from convnn.runs import event_log
from convnn.runs.run import Run
from convnn.worker import checkpoint

CALLS = ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "ftruncate", "pwrite")
CONFIG = training.config(limit=20, batch_size=10)
SEED = 3


class Refusals:
    """Counts the calls that write below a folder, and refuses the n-th, or the n-th and all after it."""

    def __init__(self, folder: Path, refuse: int | None = None, *, forever: bool = False) -> None:
        self.folder, self.refuse, self.forever, self.calls = str(folder), refuse, forever, 0

    def count(self, target: object) -> None:
        """Raise where this call is refused."""
        if isinstance(target, int):
            target = Path(f"/proc/self/fd/{target}").resolve()
        if not isinstance(target, str | os.PathLike) or self.folder not in os.fspath(target):
            return
        self.calls += 1
        if self.refuse is not None and (self.calls == self.refuse or (self.forever and self.calls > self.refuse)):
            raise OSError(errno.ENOSPC, "No space left on device (injected)")


@contextmanager
def refusing(monkeypatch: pytest.MonkeyPatch, refusals: Refusals) -> Iterator[Refusals]:
    with monkeypatch.context() as patch:
        for name in CALLS:
            original = getattr(os, name)

            def call(target, *rest, original=original, reads=name == "open", **named):
                flags = rest[0] if rest else named.get("flags", 0)
                if not reads or flags & (os.O_WRONLY | os.O_RDWR):
                    refusals.count(target)
                return original(target, *rest, **named)

            patch.setattr(os, name, call)

        def opened(file, mode="r", *rest, original=io.open, **named):
            if set(mode) & set("wax+"):
                refusals.count(file)
            return original(file, mode, *rest, **named)

        patch.setattr(io, "open", opened)

        def saved(tensors, path, original=checkpoint.save_file):
            try:
                refusals.count(path)
            except OSError as error:  # as the library says it
                raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)") from error
            return original(tensors, path)

        patch.setattr(checkpoint, "save_file", saved)
        yield refusals


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
        assert event_log.read_events(run.events_path)[2] == []
    if (last := checkpoint.read_pointer(run.path, "last")) is not None:
        checkpoint.load_verified(run.path / checkpoint.CHECKPOINTS / last)


def refuse_and_finish(root: Path, monkeypatch: pytest.MonkeyPatch, whole: Run, number: int, forever: bool) -> None:
    from convnn.worker.train_run import train_run

    run = training.create(root, CONFIG)
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
    for number in range(1 + forever * 3, calls + 1, calls // 5):
        refuse_and_finish(tmp_path / str(number), monkeypatch, run, number, forever)


@pytest.mark.torture
@pytest.mark.parametrize("forever", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("number", range(1, 96))
def test_every_writing_call_refused(tmp_path, monkeypatch, whole, number, forever):
    run, calls = whole
    assert calls <= 95  # else the range above is too short
    if number <= calls:
        refuse_and_finish(tmp_path / "runs", monkeypatch, run, number, forever)


def test_files_that_may_not_grow_end_with_8_and_the_run_goes_on_later(tmp_path):
    options = training.SMALL | {"limit": 20, "batch_size": 10}
    ended = Command(["run", *killing.arguments(options), "--plain"], tmp_path, largest_file=20_000).wait()
    assert ended.code == Exit.STORAGE, ended
    assert "could not be written" in ended.err and "Traceback" not in ended.err
    run = killing.only_run(tmp_path)
    assert run.status() == "failed"
    sound(run)
    killing.finish(tmp_path)
    killing.check(run, killing.undisturbed(tmp_path, options))


def test_a_history_that_may_not_grow_is_not_torn(tmp_path):
    options = training.SMALL | {"limit": 20, "batch_size": 10, "num_epochs": 30, "checkpoint_epochs": 100}
    ended = Command(["run", *killing.arguments(options), "--plain"], tmp_path, largest_file=6_000).wait()
    assert ended.code == Exit.STORAGE, ended
    run = killing.only_run(tmp_path)
    sound(run)
    epochs = len(run.history().epochs)
    assert 0 < epochs < 30
    killing.finish(tmp_path)
    assert [epoch.epoch for epoch in run.history().epochs] == list(range(1, 31))
    killing.check(run, killing.undisturbed(tmp_path, options))


@pytest.mark.torture
def test_a_full_file_system(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("only root can mount a small file system")
    try:
        options = training.SMALL | {"limit": 20, "batch_size": 10}
        ended = convnn("run", *killing.arguments(options), cwd=place)
        assert ended.code == Exit.STORAGE, ended
        sound(killing.only_run(place))
        subprocess.run(["mount", "-o", "remount,size=200m", place], check=True)
        killing.finish(place)
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
