"""A signal at any moment of a command, to it or its group, ignored or not: the right code, and whole files."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from PIL import Image
from support import killing, training
from support.processes import until
from support.started import Started

from convnn.errors import Exit
from convnn.runs import event_log
from convnn.runs.find import list_runs
from convnn.worker import checkpoint

SEED = 11
LONG = killing.arguments(training.SMALL | {"num_epochs": 100_000})
CODES = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED, signal.SIGHUP: Exit.HUNG_UP}
STAGES = ("parse", "import", "train")
CASES = [
    (number, stage, group, delay)
    for number in CODES
    for stage in STAGES
    for group in (False, True)
    for delay in (0.0, 0.3, 1.0)
    if not (number == signal.SIGHUP and stage != "train")  # it ends the process by itself until a run is there
]
SAMPLED = killing.sample([case for case in CASES if case[3] == 0], 3, SEED)
torture = pytest.mark.torture


def reach(command: Started, stage: str) -> None:
    """Wait until the command parses its arguments, imports torch, or trains."""
    if stage == "parse":
        until(lambda: b"convnn" in Path(f"/proc/{command.process.pid}/cmdline").read_bytes())
        time.sleep(0.2)  # the interpreter itself starts
    else:
        command.until_printed({"import": "loading torch", "train": "started"}[stage])


@pytest.mark.parametrize(
    ("number", "stage", "group", "delay"),
    [case if case in SAMPLED else pytest.param(*case, marks=torture) for case in CASES],
)
def test_signal_at_a_stage(tmp_path, number, stage, group, delay):
    command = Started("run", *LONG, "--plain", cwd=tmp_path)
    reach(command, stage)
    time.sleep(delay * random.Random(f"{SEED}/{number}/{stage}/{group}").random())
    command.signal(number, group=group)
    ended = command.wait()
    assert ended.code == CODES[number], ended
    assert "Traceback" not in ended.out + ended.err
    for run in list_runs(tmp_path / "runs")[0] if (tmp_path / "runs").exists() else []:
        assert run.status() in ("interrupted", "died")
        assert not run.events_path.exists() or event_log.EventReader().read(run.events_path)[1] == []
        assert checkpoint.recover_newest(run.path)[1] == []


@pytest.mark.parametrize(
    ("number", "stage"),
    [
        (signal.SIGHUP, "train"),
        (signal.SIGINT, "import"),
        *(pytest.param(n, s, marks=torture) for n in (signal.SIGINT, signal.SIGHUP) for s in STAGES),
    ],
)
def test_ignored_signal_stays_ignored(tmp_path, number, stage):
    command = Started("run", *LONG, "--plain", cwd=tmp_path, ignored=[number])
    reach(command, stage)
    command.signal(number, group=True)
    command.until_printed("started")
    command.signal(number)
    time.sleep(0.3)
    assert command.process.poll() is None
    command.signal(signal.SIGTERM)
    assert command.wait().code == Exit.TERMINATED


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """32 training images that one worker decodes in many seconds."""
    root = tmp_path_factory.mktemp("images")
    Image.new("RGB", (8000, 8000)).save(root / "large.png", compress_level=1)
    for part, count in (("train", 16), ("val", 1)):
        for name in "ab":
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                shutil.copy(root / "large.png", folder / f"{index}.png")
    return root


@pytest.fixture
def waiting(tmp_path, images):
    """Start a run that waits for its first batch."""

    def start(*more: object) -> Started:
        data = {"dataset": "imagenet", "data_path": images, "workers": 1, "batch_size": 32}
        options = {name: value for name, value in (training.SMALL | data).items() if name != "limit"}
        command = Started("run", *killing.arguments(options), "--plain", *more, cwd=tmp_path)
        command.until_printed("started")
        return command

    return start


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=torture) for n in CODES if n != signal.SIGTERM)]
)
def test_group_signal_while_a_batch_is_waited_for(tmp_path, waiting, number):
    command = waiting()
    command.signal(number, group=True)
    ended = command.wait(60)
    assert ended.code == CODES[number], ended
    (run,) = list_runs(tmp_path / "runs")[0]
    assert run.status() == "interrupted"
    newest, warnings = checkpoint.recover_newest(run.path)
    assert newest is not None and newest.step == 0 and warnings == []


def test_time_limit_while_a_batch_is_waited_for(tmp_path, waiting):
    assert waiting("--max-minutes", "0.001").wait(60).code == Exit.TIME_LIMIT
    (run,) = list_runs(tmp_path / "runs")[0]
    assert run.history().step == 0


def test_killed_data_worker_is_named_within_a_minute(waiting):
    command = waiting()
    until(lambda: bool(command.data_workers()))
    (worker,) = command.data_workers()
    os.kill(worker, signal.SIGKILL)
    ended = command.wait(60)
    assert ended.code == Exit.FAILED
    assert f"process {worker}) was killed by SIGKILL" in ended.out and "--workers" in ended.out


def test_signal_while_the_data_is_read(tmp_path, images):
    """The run ends before its first step, as interrupted, and the same command goes on with it."""
    options = {name: value for name, value in training.SMALL.items() if name != "limit"}
    data = {"dataset": "folder", "data_path": images}
    before = os.times().children_user
    command = Started("run", *killing.arguments(options | data), "--plain", cwd=tmp_path)
    until(lambda: any(tmp_path.glob("runs/*/run.lock")) or command.process.poll() is not None)
    time.sleep(0.5)
    command.signal(signal.SIGINT)
    ended = command.wait(150)
    assert os.times().children_user - before < 10  # of 32 images, half a second each, it decodes the present one
    assert ended.code == Exit.INTERRUPTED and "Traceback" not in ended.err, ended
    (run,) = list_runs(tmp_path / "runs")[0]
    assert run.status() == "interrupted" and "resume with: convnn resume" in ended.err
    assert run.history().started is None
