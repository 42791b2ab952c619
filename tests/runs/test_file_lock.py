"""A lock is held by one process of all nodes, whatever `flock` shows of the other nodes, until that process is gone."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.nodes import local_flock
from support.processes import until

from convnn.errors import Exit, UserError
from convnn.hardware import NODE
from convnn.runs import file_lock, lock
from convnn.runs.file_lock import MAX_NOTE, RECENT_SECONDS, FileLock, HeldError

HOLD = """\
import sys, time
from pathlib import Path
from convnn.runs import file_lock, lock
file_lock.HEARTBEAT_SECONDS = 0.05
with lock.lock_run(Path(sys.argv[1])):
    print(flush=True)
    time.sleep(60)
"""
KILLED = """\
import os, signal, sys
from pathlib import Path
from convnn.runs import file_lock
file_lock._write_note = lambda *words: os.kill(os.getpid(), signal.SIGKILL)
file_lock.FileLock.acquire(Path(sys.argv[1]))
"""


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """`flock` as a process of another node sees it: free."""
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file system without `flock`."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    yield
    file_lock._flock_error = ""


def make_older(path: Path, seconds: float) -> None:
    times = path.stat().st_mtime - seconds
    os.utime(path, (times, times))


def test_the_lock_of_another_node_is_held_while_its_heartbeat_is_recent(tmp_path, monkeypatch, blind):
    path = tmp_path / "lock"
    monkeypatch.setenv(NODE, "node1")
    FileLock.acquire(path)
    monkeypatch.setenv(NODE, "node2")
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the clock of this node is wrong
    assert file_lock.read_holder(path).host == "node1"
    with pytest.raises(HeldError):
        FileLock.acquire(path)
    make_older(path, RECENT_SECONDS + 1)
    assert not file_lock.is_held(path)
    FileLock.acquire(path).release()
    assert [entry.name for entry in tmp_path.iterdir()] == ["lock"]


def test_a_holder_that_was_stopped_for_minutes_learns_that_another_node_has_the_lock(tmp_path, monkeypatch, blind):
    monkeypatch.setenv(NODE, "node1")
    first = FileLock.acquire(tmp_path / "lock", "text" * MAX_NOTE)
    assert first.is_own and file_lock.read_holder(first.path) == first.note
    make_older(first.path, RECENT_SECONDS + 1)
    monkeypatch.setenv(NODE, "node2")
    second = FileLock.acquire(tmp_path / "lock")
    assert second.is_own and not first.is_own
    first.release()
    assert second.is_own
    second.path.unlink()
    assert not second.is_own


def test_a_lock_is_taken_beside_a_reader_that_tests_it(tmp_path):
    path = tmp_path / "lock"
    with path.open("w") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        threading.Timer(0.1, reader.close).start()
        FileLock.acquire(path).release()


def test_a_process_that_was_killed_while_it_took_the_lock_holds_nobody_up(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(file_lock, "GUARD_SECONDS", 1e9)
    lock = FileLock.acquire(path)
    lock.release()
    with file_lock._guarded(path, lock.note):  # of a process that lives
        taking = threading.Thread(target=lambda: FileLock.acquire(path).release())
        taking.start()
        taking.join(0.05)
        assert taking.is_alive()
    taking.join()
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_place_of_a_lock_is_held_by_nobody(tmp_path):
    link = tmp_path / lock.LOCK_FILE
    link.symlink_to("nowhere")
    assert not file_lock.is_held(link) and not lock.is_locked(tmp_path)
    with pytest.raises(OSError, match="symbolic links"):
        lock.RunLock(tmp_path)
    assert not (tmp_path / "nowhere").exists()


def test_a_released_lock_is_free_on_every_node_at_once(tmp_path, monkeypatch, blind):
    monkeypatch.setenv(NODE, "node1" * 1000)
    FileLock.acquire(tmp_path / "lock").release()
    monkeypatch.setenv(NODE, "node2")
    assert not file_lock.is_held(tmp_path / "lock")


def test_where_no_file_can_be_made_the_clock_of_this_node_counts(tmp_path, monkeypatch, blind):
    monkeypatch.setenv(NODE, "node1")
    FileLock.acquire(tmp_path / "lock")
    monkeypatch.setenv(NODE, "node2")
    monkeypatch.setattr(file_lock, "_clocks", {})
    monkeypatch.setattr(file_lock.secrets, "token_hex", lambda size: "x" * 300)  # no file has such a name
    assert file_lock.is_held(tmp_path / "lock")
    make_older(tmp_path / "lock", RECENT_SECONDS + 1)
    assert not file_lock.is_held(tmp_path / "lock")


def test_a_copy_of_a_lock_that_is_held_on_this_node_is_free(tmp_path, missing):
    FileLock.acquire(tmp_path / "lock")
    shutil.copy2(tmp_path / "lock", tmp_path / "copy")
    assert file_lock.is_held(tmp_path / "lock") and not file_lock.is_held(tmp_path / "copy")


def test_a_killed_holder_of_this_node_is_gone_at_once_and_a_live_one_is_known(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    environment = os.environ | local_flock(tmp_path, missing=True)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, run], stdout=subprocess.PIPE, env=environment)
    holder.stdout.readline()
    assert lock.is_locked(run) and lock.remote_host(run) is None
    with pytest.raises(UserError, match=f"process {holder.pid}"), lock.lock_run(run):
        pass
    make_older(run / lock.LOCK_FILE, 1000)
    until(lambda: abs((run / lock.LOCK_FILE).stat().st_mtime - time.time()) < 100)  # it sets the time anew
    holder.send_signal(signal.SIGKILL)
    until(lambda: Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    assert not lock.is_locked(run)  # nobody has waited for it yet
    holder.wait()
    with lock.lock_run(run):
        assert lock.is_locked(run)
    holder.stdout.close()


def test_a_file_system_without_locks_is_survived_and_named(tmp_path, missing):
    with lock.lock_run(tmp_path):
        assert lock.is_locked(tmp_path)
        with pytest.raises(UserError) as refused, lock.lock_run(tmp_path):
            pass
        assert refused.value.code is Exit.HELD
    assert not lock.is_locked(tmp_path)
    assert "Function not implemented" in file_lock.flock_warnings()[0]


def test_a_run_that_is_taken_over_is_lost_for_good(tmp_path, monkeypatch, blind):
    monkeypatch.setenv(NODE, "node1")
    first = lock.RunLock(tmp_path)
    first.check()
    monkeypatch.setenv(NODE, "node2")
    with pytest.raises(UserError, match="running on node1") as refused:
        lock.RunLock(tmp_path)
    assert refused.value.code is Exit.HELD and "--take-over" in refused.value.problems[0].fix
    with lock.lock_run(tmp_path, take_over=True), pytest.raises(lock.LockLostError):
        first.check()
    with pytest.raises(lock.LockLostError):  # also when the other one has ended
        first.check()
    first.release()
    assert not lock.is_locked(tmp_path)


@pytest.mark.parametrize(
    ("answer", "is_free"),
    [
        ("echo 12|RUNNING|None|1|N/A|N/A|0|/job.sh", False),
        ("echo 12|COMPLETING|None|1|N/A|N/A|0|/job.sh", False),
        ("echo 12|PENDING|BeginTime|1|N/A|N/A|1|/job.sh", True),
        ("true", True),  # it ended lately
        ("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1", False),  # it may be of another cluster
        ("echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1", False),
    ],
)
def test_slurm_says_whether_the_job_of_another_node_still_runs(tmp_path, monkeypatch, blind, answer, is_free):
    run, commands = tmp_path / "run", tmp_path / "bin"
    run.mkdir()
    commands.mkdir()
    command = commands / "squeue"
    command.write_text(f"#!/bin/sh\n{answer.replace('|', chr(92) + '|')}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv(NODE, "node1")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    lock.RunLock(run)
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.setenv(NODE, "node2")
    if is_free:
        lock.RunLock(run).release()
        return
    with pytest.raises(UserError, match="Slurm job 12"):
        lock.RunLock(run)


def test_a_job_that_slurm_started_anew_goes_on_without_waiting(tmp_path, monkeypatch, blind):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv(NODE, "node1")
    lock.RunLock(tmp_path)  # killed with its node
    monkeypatch.setenv(NODE, "node2")
    with pytest.raises(UserError):  # another task of the same start of the job
        lock.RunLock(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    lock.RunLock(tmp_path).release()


def test_what_a_killed_process_left_beside_a_lock_bars_nobody(tmp_path, missing):
    (tmp_path / ".lock.tmp").touch()
    make_older(tmp_path / ".lock.tmp", 1000)
    FileLock.acquire(tmp_path / "lock").release()
    assert [entry.name for entry in tmp_path.iterdir()] == ["lock"]
