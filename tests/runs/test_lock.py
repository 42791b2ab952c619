"""A run is held by the process that trains it, as long as that lives and no longer."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convnn.errors import Exit, UserError
from convnn.events import Paused, Started
from convnn.files import write_atomic
from convnn.runs import control, lock
from convnn.runs.control import ControlCommand
from convnn.runs.event_log import append_event
from convnn.runs.run import Run

HOLD = """\
import sys, time
from pathlib import Path
from convnn.runs.lock import lock_run
with lock_run(Path(sys.argv[1])):
"""


@pytest.fixture
def holder(tmp_path):
    """A child process that holds the run in tmp_path."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD + " print(flush=True); time.sleep(60)", tmp_path], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_run_is_running_until_its_process_is_killed_and_then_died(tmp_path, holder):
    run = Run(tmp_path, "x")
    append_event(run.events_path, Started())
    assert run.status() == "running"
    append_event(run.events_path, Paused(epoch=1, step=1))
    assert run.status() == "paused"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert run.status() == "died"


def test_a_second_starter_gets_the_name_of_the_holder(tmp_path, holder):
    with pytest.raises(UserError, match=f"process {holder.pid} on") as refused, lock.lock_run(tmp_path):
        pass
    assert refused.value.code is Exit.HELD


def test_the_pid_in_the_lock_file_does_not_decide(tmp_path):
    (tmp_path / lock.LOCK_FILE).write_text(json.dumps({"pid": os.getpid(), "host": "here", "started": "now"}))
    assert not lock.is_locked(tmp_path)
    with lock.lock_run(tmp_path):
        assert lock.is_locked(tmp_path)
    assert not lock.is_locked(tmp_path)


@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_a_lock_file_that_goes_admits_no_second_writer_and_comes_back(tmp_path, monkeypatch, replaced):
    monkeypatch.setattr(lock, "TIMEOUT", 0.0)
    path = tmp_path / lock.LOCK_FILE
    with lock.lock_run(tmp_path) as run_lock:
        path.unlink()
        if replaced:
            path.write_text("somebody's")
        assert lock.is_locked(tmp_path)
        with pytest.raises(UserError) as refused, lock.lock_run(tmp_path):
            pass
        assert refused.value.code is Exit.HELD
        run_lock.check()
        assert json.loads(path.read_text())["pid"] == os.getpid()
        run_lock.check()
    assert not lock.is_locked(tmp_path)


def test_a_writer_whose_lock_file_another_process_has_taken_is_told_so(tmp_path, monkeypatch):
    """As one of an earlier version would, which does not lock the directory."""
    monkeypatch.setattr(lock, "TIMEOUT", 0.0)
    with lock.lock_run(tmp_path) as run_lock:
        (tmp_path / lock.LOCK_FILE).unlink()
        with (tmp_path / lock.LOCK_FILE).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(lock.LockLostError) as lost:
                run_lock.check()
    assert lost.value.code is Exit.HELD


def test_a_lock_file_that_is_a_file_of_somebody_else_is_not_written(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("words")
    run = tmp_path / "run"
    run.mkdir()
    (run / lock.LOCK_FILE).hardlink_to(precious)
    with pytest.raises(OSError, match="not a file of its own"), lock.lock_run(run):
        pass
    assert precious.read_text() == "words" and not lock.is_locked(run)


def test_a_copy_of_a_running_directory_is_not_running(tmp_path):
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    append_event(original / "events.jsonl", Started())
    with lock.lock_run(original):
        shutil.copytree(original, copy)
        assert Run(original, "x").status() == "running" and Run(copy, "x").status() == "died"


def test_whatever_stands_in_the_lock_file_a_second_starter_gets_a_short_message(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "TIMEOUT", 0.0)
    for note in [b"", b"\xff\x1b[2J", b"[]", b'{"pid": "\\u001b[2J", "host": 1, "started": []}', b"[" * 2000]:
        with lock.lock_run(tmp_path):
            (tmp_path / lock.LOCK_FILE).write_bytes(note)
            with pytest.raises(UserError) as refused, lock.lock_run(tmp_path):
                pass
        assert refused.value.code is Exit.HELD and len(refused.value.problems[0].message) < 300


def test_a_starter_waits_for_a_reader_that_tests_the_lock(tmp_path):
    """A reader takes the lock shared for a moment; a starter that meets it must not give up."""
    (tmp_path / lock.LOCK_FILE).touch()
    reader = multiprocessing.get_context("fork").Process(target=read_for, args=(tmp_path, 0.3))
    reader.start()
    for _ in range(5):
        with lock.lock_run(tmp_path):
            pass
    reader.join()
    assert reader.exitcode == 0


def read_for(directory: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lock.is_locked(directory)


def test_a_forked_worker_does_not_keep_the_lock_of_its_parent(tmp_path):
    context = multiprocessing.get_context("fork")
    enough = context.Event()
    with lock.lock_run(tmp_path):
        worker = context.Process(target=enough.wait)
        worker.start()
    assert not lock.is_locked(tmp_path)
    enough.set()
    worker.join()


def test_a_forked_worker_does_not_outlive_the_lock_of_a_killed_parent(tmp_path):
    fork = " import os\n if os.fork() == 0: print(os.getpid(), flush=True); time.sleep(60)\n time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", HOLD + fork, tmp_path], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    try:
        assert lock.is_locked(tmp_path)
        parent.kill()
        parent.wait()
        assert not lock.is_locked(tmp_path)
    finally:
        os.kill(worker, signal.SIGKILL)
        parent.stdout.close()


def test_a_command_is_received_once_and_the_last_one_counts(tmp_path):
    assert control.receive(tmp_path) is None
    with lock.lock_run(tmp_path):
        for command in ControlCommand:
            control.send(tmp_path, command)
    assert control.receive(tmp_path) is list(ControlCommand)[-1]
    assert control.receive(tmp_path) is None
    assert {path.name for path in tmp_path.iterdir()} == {lock.LOCK_FILE}


def test_the_control_file_holds_the_words_that_are_documented(tmp_path):
    words = {"pause", "resume", "checkpoint", "stop-epoch", "stop", "stop pruned"}
    assert {command.value for command in ControlCommand} == words
    (tmp_path / control.NAME).write_text("stop-epoch\n")
    assert control.receive(tmp_path) is ControlCommand.STOP_EPOCH


def test_an_unknown_command_is_refused_with_the_nearest_one_and_removed(tmp_path):
    (tmp_path / control.NAME).write_text("stopp")
    with pytest.raises(UserError) as caught:
        control.receive(tmp_path)
    assert caught.value.problems[0].fix == "did you mean stop?"
    assert control.receive(tmp_path) is None


def test_an_unknown_command_is_named_short_and_printable(tmp_path):
    (tmp_path / control.NAME).write_bytes(b"\x1b[2J\xff" + b"x" * 9999)
    with pytest.raises(UserError) as caught:
        control.receive(tmp_path)
    message = caught.value.problems[0].message
    assert message.isprintable() and len(message) < 200


def test_a_discarded_command_is_not_received(tmp_path):
    (tmp_path / control.NAME).write_text("stop")
    control.discard(tmp_path)
    assert control.receive(tmp_path) is None


def test_a_command_to_a_run_that_nobody_trains_is_refused(tmp_path):
    with pytest.raises(UserError, match="not running"):
        control.send(tmp_path, ControlCommand.STOP)
    assert not (tmp_path / control.NAME).exists()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, "old")
    write_atomic(path, b"new \xff")
    assert path.read_bytes() == b"new \xff"
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(OSError, match="no space") as refusal:
        write_atomic(path, "newer")
    assert refusal.value.filename == str(path)
    assert path.read_bytes() == b"new \xff" and [path.name for path in tmp_path.iterdir()] == ["file"]
