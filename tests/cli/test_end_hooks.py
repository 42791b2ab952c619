"""What a command does at the end of a run or a followed sweep: a notification, and the command of --on-finish."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time

import pytest
from support.terminal import Program

from convnn.cli import end_hooks
from convnn.cli.end_hooks import EndHooks
from convnn.errors import Exit
from convnn.sweeps.queue import Queue
from convnn.terminal.notification import notification

TINY = shlex.split("--dataset digits --limit 40 --width 0.0625 --layer Conv2d --batch_size 20 --threads 1 --device cpu")
KEEP = 'cat > "$CONVNN_RUNS/document.json"; printf %s "$CONVNN_STATUS $CONVNN_RUN$CONVNN_SWEEP" > "$CONVNN_RUNS/said"'


@pytest.fixture
def convnn(in_process, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("CONVNN_RUNS", str(tmp_path / "runs"))
    return in_process


def test_a_run_hands_its_document_to_the_command_which_decides_no_exit_code(convnn, tmp_path):
    words = ("run", *TINY, "--num_epochs", "1", "--json", "--on-finish")
    code, out, err = convnn(*words, f"{KEEP}; echo to nobody; exit 3")
    assert code == 0 and "ended with exit code 3" in err
    assert all(json.loads(line) for line in out.splitlines())
    document = json.loads((tmp_path / "runs" / "document.json").read_text())
    assert document["run"]["status"] == "done" and len(document["epochs"]) == 1
    assert (tmp_path / "runs" / "said").read_text() == f"done {document['run']['path']}"
    assert "echo to nobody" not in "".join(path.read_text() for path in tmp_path.rglob("*.toml"))


def test_a_sweep_calls_it_once(convnn, tmp_path):
    queue = Queue(tmp_path / "runs")
    queue.pause("for a test")
    words = ("sweep", "run", "quickstart", "--K", "1,4", "--dataset", "digits", "--name", "grid", "--yes", "--plain")
    code, _, err = convnn(*words, "--max-minutes", "0.0001", "--on-finish", KEEP)
    assert code in (Exit.TIME_LIMIT, Exit.FAILED), err
    document = json.loads((tmp_path / "runs" / "document.json").read_text())
    assert document["sweep"] == "grid" and len(document["cells"]) == 2
    assert (tmp_path / "runs" / "said").read_text() == "unfinished grid"
    assert "printf" not in "".join(path.read_text() for path in (tmp_path / "runs").rglob("*.toml"))


@pytest.mark.parametrize(
    "words",
    [("run", "quickstart", "--queue"), ("run", "quickstart", "--dry-run"), ("sweep", "run", "quickstart", "--detach")],
)
def test_commands_that_return_at_once_refuse_it(convnn, words):
    code, _, err = convnn(*words, "--on-finish", "true")
    assert code == Exit.USAGE and "--on-finish" in err
    assert convnn("run", "quickstart", "--on-finish", " ")[0] == Exit.USAGE


def test_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(end_hooks, "TIMEOUT", 0.2)
    EndHooks(f"sleep 60 & echo $! > {tmp_path}/pid; wait").call("", 0, dict)
    assert "did not end within" in capfd.readouterr().err
    child = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        for _ in range(200):  # until init has reaped it
            os.kill(child, 0)
            time.sleep(0.01)


def test_ctrl_c_ends_the_command_alone(tmp_path, capfd):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background of a shell ignore it
    try:
        EndHooks(f"cat; echo $$ > {tmp_path}/pid; kill -INT $PPID; exec sleep 60").call("", 0, dict)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert "interrupted" in capfd.readouterr().err
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


SCRIPT = r"""
import time
from convnn.cli.end_hooks import EndHooks
earlier = time.monotonic() - 61
EndHooks(start=earlier).call("long \x1b[2J", 0, dict)
EndHooks().call("short", 0, dict)
EndHooks(start=earlier, notifies=False).call("silent", 0, dict)
EndHooks(start=earlier).call("ctrl+c", 130, dict)
"""


def test_a_sequence_is_short_enough_for_screen_in_bytes():
    sequence = notification("日本語" * 100, {"STY": "1"})
    assert len(sequence.encode()) <= 256 and sequence.endswith("本\a\x1b\\")


def test_a_terminal_is_notified_of_what_took_long():
    output = []
    for environment in ({"CI": ""}, {"CI": "true"}):
        terminal = Program("-c", SCRIPT, **environment)
        try:
            assert terminal.wait() == 0
            output.append(terminal.output)
        finally:
            terminal.close()
    assert output == [b"\a\x1b]9;convnn: long \\x1b[2J\a", b""]
