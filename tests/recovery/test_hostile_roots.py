"""A folder of runs from a stranger: whatever one run holds, the others are listed, shown and compared."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.runs import epoch, new

from convnn.errors import UserError
from convnn.events import Finished, Started
from convnn.runs.event_log import event_line
from convnn.runs.run import Run
from tui import run_feed
from tui.screens.run.follower import RunFollower

CONFIG = '[data]\ndataset = "folder"\npath = "nowhere"\n'
FILES = (
    "config.toml",
    "events.jsonl",
    "imported.json",
    "run.json",
    "run.lock",
    "control",
    "log.txt",
    "checkpoints/last",
)
NUMBER = "9" * 5000


def bound_socket(path: Path) -> None:
    """A socket; its address may have a hundred characters, so that it is bound elsewhere."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/tmp/convnn-{os.getpid()}.socket")
    Path(f"/tmp/convnn-{os.getpid()}.socket").rename(path)


def loop(path: Path) -> None:
    path.with_name("loop").symlink_to(path)
    path.symlink_to(path.with_name("loop"))


KINDS: dict[str, Callable[[Path, Path], object]] = {
    "pipe": lambda path, victim: os.mkfifo(path),
    "socket": lambda path, victim: bound_socket(path),
    "link to a device": lambda path, victim: path.symlink_to("/dev/zero"),
    "link": lambda path, victim: path.symlink_to(victim),
    "link loop": lambda path, victim: loop(path),
    "hard link": lambda path, victim: path.hardlink_to(victim),
    "directory": lambda path, victim: path.mkdir(),
    "empty": lambda path, victim: path.touch(),
    "bytes": lambda path, victim: path.write_bytes(bytes(range(256)) * 20),
    "deep JSON": lambda path, victim: path.write_text('{"event":' * 3000 + "1" + "}" * 3000 + "\n"),
    "JSON of some depth": lambda path, victim: path.write_text(
        '{"schema": "convnn/1", "event": "Started", "time": "2026-01-01T00:00:00Z", "amp": '
        + '{"a": ' * 400
        + "1"
        + "}" * 401
        + "\n"
    ),
    "long number": lambda path, victim: path.write_text(
        f'{{"event": "Epoch", "time": "2026-01-01T00:00:00Z", "epoch": {NUMBER}, "step": 1, "metrics": {{}}}}\n'
    ),
    "large number": lambda path, victim: path.write_text(
        f'{{"event": "Step", "time": "2026-01-01T00:00:00Z", "epoch": 1, "step": {NUMBER[:400]}, "loss": 1}}\n'
    ),
    "hexadecimal number": lambda path, victim: path.write_text(f"[training]\nseed = 0x{'f' * 5000}\n"),
    "long key": lambda path, victim: path.write_text(f"{'.'.join(['x'] * 100_000)} = 1\n"),
    "odd values": lambda path, victim: path.write_text(
        "[layer]\ntype = [1]\nK = nan\n[model]\nname = 2026-01-01\n[sampling]\ntype = {a = [[]]}\n[data]\npath = inf\n"
    ),
    "no tables": lambda path, victim: path.write_text('layer = 1\nmodel = "x"\n["\\u001b[2J"]\nx = 1\n'),
    "surrogates": lambda path, victim: path.write_text(
        '{"event": "Warned", "time": "2026-01-01T00:00:00Z", "message": "\\ud800", "\\udfff": "\\ud800"}\n'
    ),
    "far times": lambda path, victim: path.write_text(
        "".join(
            f'{{"schema": "convnn/1", "event": "Started", "time": "{time}", "created": "{time}"}}\n'
            for time in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
        )
    ),
    "long line": lambda path, victim: path.write_bytes(b"x" * 3_000_000),
    "record of other types": lambda path, victim: path.write_text(
        '{"schema": "convnn/1", "digest": 1, "source": [], "reason": {}, "as_published": {"best": 1}, "passed": 1}'
    ),
}
CASES = [
    pytest.param(file, kind, marks=[] if index % 9 == 0 else pytest.mark.torture)
    for index, (file, kind) in enumerate((file, kind) for file in FILES for kind in KINDS)
]


def run_of(root: Path, name: str) -> Run:
    run = new(root, Started(epochs=2, steps_per_epoch=1), epoch(1, 50.0), epoch(2, 60.0), name=name)
    run.config_path.write_text(CONFIG)
    (run.path / "checkpoints").mkdir()
    return run


def survives(root: Path, hostile: Run, in_process: Callable[..., tuple[int, str, str]]) -> None:
    """Every reader of a root ends, with a message at the most, and knows the good run."""
    commands = [("runs",), ("runs", "--json"), ("show", f"{hostile.path}/"), ("show", f"{hostile.path}/", "--json")]
    commands += [
        ("compare", "good", hostile.name),
        ("show", "@last"),
        ("resume", f"{hostile.path}/"),
        ("runs", "--all"),
    ]
    for words in commands:
        code, out, err = in_process(*words, "--runs", root)
        assert code in (0, 2, 5, 6, 8), (words, code, err)
        assert "\x1b" not in out + err and "Traceback" not in err, words
        if words == ("runs", "--json"):
            assert any("good" in run["name"] for run in json.loads(out)["runs"])
        elif "--json" in words and code == 0:
            json.loads(out)
    assert any("good" in run.name for run in run_feed._read(root, [])[0])
    assert any("good" in run.name for run in run_feed._newest(root))
    follower = RunFollower(hostile)
    try:
        follower.poll()
        assert follower.status and follower.read_log() is not None
    except (OSError, UserError):
        pass  # which the screen of the run says


@pytest.mark.parametrize(("file", "kind"), CASES)
def test_a_root_with_a_hostile_run(tmp_path, in_process, file, kind):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    root = tmp_path / "runs"
    good, hostile = run_of(root, "good"), run_of(root, "hostile")
    path = hostile.path / file
    path.unlink(missing_ok=True)
    KINDS[kind](path, victim)
    survives(root, hostile, in_process)
    assert victim.read_text() == "precious" and good.history().epochs


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.torture) for seed in range(1, 60))])
def test_a_root_with_a_spoiled_run(tmp_path, in_process, seed):
    """Bytes exchanged, doubled and cut at random places of all its files."""
    draw = random.Random(seed)
    root = tmp_path / "runs"
    run_of(root, "good")
    hostile = run_of(root, "hostile")
    with hostile.events_path.open("a") as log:
        log.write(event_line(Finished(outcome="stopped")) + "\n")
    for path in (hostile.config_path, hostile.events_path, hostile.path / "run.json"):
        data = bytearray(path.read_bytes())
        for _ in range(draw.randrange(1, 6)):
            first = draw.randrange(len(data))
            data[first : first + draw.randrange(4)] = draw.choice(
                [b"\0", b"\xff", b"\n", b'"', b"{", b"9" * 50, b"-", b"e999", b"[[", b"NaN", bytes(data[:first])]
            )
        path.write_bytes(data)
    survives(root, hostile, in_process)
