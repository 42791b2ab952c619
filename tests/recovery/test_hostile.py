"""Files from strangers: a message and an exit code, nothing executed or left outside, no escape on the terminal."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support import killing, training
from support.processes import convnn

from convnn import events
from convnn.runs import event_log
from convnn.runs.run import Run
from convnn.worker import checkpoint

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
MUCH = 2_000_000  # bytes


class Bomb:
    """Unpickled, it makes the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def stopped_run(cwd: Path) -> Run:
    run, _ = training.train(cwd / "runs", training.config(limit=20), commands=training.StopAt(2))
    return run


def rewrite(run: Run, name: str, data: bytes) -> None:
    """Put other bytes into the checkpoint, with a manifest that agrees with them."""
    folder = next((run.path / checkpoint.CHECKPOINTS).glob("0*"))
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def state(run: Run, **changes: object) -> None:
    folder = next((run.path / checkpoint.CHECKPOINTS).glob("0*"))
    plain = json.loads((folder / "state.json").read_text()) | changes
    rewrite(run, "state.json", json.dumps(plain).encode())


def linked(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(victim)


def picture(path: Path, side: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (side, 1, 2)).save(path)


def huge_picture(path: Path) -> None:
    """A PNG that claims 60,000 x 60,000 pixels in a hundred bytes."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


PRESETS: dict[str, bytes] = {
    "controls": f'about = "x"\n[layer]\n"K{ESCAPE}" = 1\n'.encode("unicode_escape").replace(b"\\n", b"\n"),
    "deep": b"a = " + b"[" * 5000,
    "large": b"#" * MUCH,
    "binary": bytes(range(256)) * 10,
    "output": b'[output]\ndir = "/etc"\n',
    "types": b"[training]\nbatch_size = \"__import__('os').mkdir('canary')\"\n",
    "numbers": b"[training]\nbatch_size = 1e400\nseed = 99999999999999999999999999\n",
}
RUN_FILES: dict[str, Callable[[Run, Path], object]] = {
    "state of other types": lambda run, victim: state(run, position=[1, 2]),
    "state with a position far away": lambda run, victim: state(run, tally={"sums": "x"}),
    "state that is no object": lambda run, victim: rewrite(run, "state.json", b"[]"),
    "weights that are a pickle": lambda run, victim: rewrite(
        run, "model.safetensors", pickle.dumps(Bomb(victim.parent / "canary"))
    ),
    "optimizer of another model": lambda run, victim: rewrite(
        run, "optimizer.safetensors", next(run.path.rglob("model.safetensors")).read_bytes()
    ),
    "manifest that names another file": lambda run, victim: next(run.path.rglob("manifest.json")).write_text(
        '{"files": {"../../../victim": {"size": 6, "sha256": ""}}}'
    ),
    "lock that is a link": lambda run, victim: linked(run.path / "run.lock", victim),
    "history that is a link": lambda run, victim: linked(run.path / "events.jsonl", victim),
    "checkpoint that is a pipe": lambda run, victim: (
        next(run.path.rglob("model.safetensors")).unlink(),
        os.mkfifo(next(run.path.rglob("state.json")).with_name("model.safetensors")),
    ),
    "history that is a pipe": lambda run, victim: (run.events_path.unlink(), os.mkfifo(run.events_path)),
    "history that never ends": lambda run, victim: linked(run.events_path, Path("/dev/zero")),
    "control file that is a link": lambda run, victim: linked(run.path / "control", Path("/dev/zero")),
    "control file that is a pipe": lambda run, victim: os.mkfifo(run.path / "control"),
    "lock that is a pipe": lambda run, victim: (
        (run.path / "run.lock").unlink(),
        os.mkfifo(run.path / "run.lock"),
    ),
    "checkpoints that are elsewhere": lambda run, victim: (
        (run.path / "checkpoints").rename(victim.parent / "elsewhere"),
        (run.path / "checkpoints").symlink_to(victim.parent / "elsewhere"),
    ),
    "configuration that is binary": lambda run, victim: run.config_path.write_bytes(bytes(range(256))),
}
SAMPLED = ("state of other types", "weights that are a pickle", "history that is a pipe", "checkpoint that is a pipe")


def harmless(output: str) -> None:
    assert "Traceback" not in output
    assert not {c for c in output if not c.isprintable()} - {"\n"}, repr(output)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset(tmp_path, name):
    path = tmp_path / "hostile.toml"
    path.write_bytes(PRESETS[name])
    ended = convnn("run", path, cwd=tmp_path)
    assert ended.code == 2, ended
    harmless(ended.out + ended.err)
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == ["hostile.toml"]


@pytest.mark.parametrize("name", [n if n in SAMPLED else pytest.param(n, marks=pytest.mark.torture) for n in RUN_FILES])
def test_a_run_directory(tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_text("victim")
    run = stopped_run(tmp_path)
    RUN_FILES[name](run, victim)
    ended = convnn("resume", f"{run.path}/", cwd=tmp_path)
    assert ended.code in (2, 5, 8), ended
    harmless(ended.out + ended.err)
    assert victim.read_text() == "victim"
    assert not (tmp_path / "canary").exists()
    for words in (["runs"], ["show", f"{run.path}/"]):
        ended = convnn(*words, cwd=tmp_path)
        assert ended.code in (0, 2, 6, 8)
        harmless(ended.out + ended.err)


def test_a_note_is_not_written_through_a_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("victim")
    run = stopped_run(tmp_path)
    linked(run.events_path, victim)
    refused = convnn("note", f"{run.path}/", "words", cwd=tmp_path)
    assert refused.code == 8
    harmless(refused.out + refused.err)
    assert victim.read_text() == "victim"


def test_a_log_that_is_a_link_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("victim")
    run = stopped_run(tmp_path)
    linked(run.path / "log.txt", victim)
    import logging

    from convnn.worker.run_log import logged

    with logged(run.path):
        logging.getLogger("convnn").error("a line")
    assert victim.read_text() == "victim"


def test_words_in_a_history_do_not_reach_the_terminal(tmp_path):
    run = stopped_run(tmp_path)
    for event in (
        events.Warned(message=ESCAPE),
        events.Noted(text=ESCAPE, by=ESCAPE),
        events.Started(device=ESCAPE, host=ESCAPE, classes=(ESCAPE,)),
        events.Finished(outcome="failed", cause=ESCAPE),
    ):
        event_log.append_event(run.events_path, event)
    with run.events_path.open("ab") as file:
        file.write(b'{"event": "\x1b[2J"}\n' + b"x" * MUCH + b"\n" + b"[" * 5000 + b"\n\xff\xfe\n")
    for words in (["runs"], ["show", "@last"], ["show", "@last", "--json"], ["show", "@last", "--follow", "--plain"]):
        ended = convnn(*words, cwd=tmp_path)
        assert ended.code == 0, ended
        harmless(ended.out + ended.err)


@pytest.mark.parametrize(
    "kind", ["bomb", "pickle", *(pytest.param(k, marks=pytest.mark.torture) for k in ("text", "cut"))]
)
def test_images(tmp_path, kind):
    for split in ("train", "test"):
        for label in ("a", f"b{ESCAPE}".replace("/", "")):
            for number in range(4):
                picture(tmp_path / "images" / split / label / f"{number}.png")
    bad = tmp_path / "images/train/a/0.png"
    if kind == "bomb":
        huge_picture(bad)
    elif kind == "pickle":
        bad.write_bytes(pickle.dumps(Bomb(tmp_path / "canary")))
    else:
        bad.write_bytes(b"words" if kind == "text" else bad.read_bytes()[:60])
    options = {k: v for k, v in training.SMALL.items() if k not in ("dataset", "limit")}
    options |= {"dataset": "folder", "data_path": tmp_path / "images", "batch_size": 4, "num_epochs": 1}
    ended = convnn("run", *killing.arguments(options), "--plain", cwd=tmp_path)
    assert ended.code == 5, ended
    harmless(ended.out + ended.err)
    assert not (tmp_path / "canary").exists()


def test_names_of_runs_and_links(tmp_path):
    root = tmp_path / "runs"
    run = stopped_run(tmp_path)
    (root / f"20261122-000000-{ESCAPE.replace('/', '')}").mkdir()
    (root / f"20261122-000000-{ESCAPE}" / "config.toml").write_text(run.config_path.read_text())
    (root / "a.link").write_text("../../etc\n")
    (root / "b.link").write_text("/etc\n")
    (root / "c").symlink_to("/")
    ended = convnn("runs", cwd=tmp_path)
    assert ended.code == 0
    harmless(ended.out + ended.err)
    for ref in ("../../etc", "/etc/", "@best:" + ESCAPE, ESCAPE + "x", "@99999999999999999999"):
        refused = convnn("resume", ref, cwd=tmp_path)
        assert refused.code in (2, 6), refused
        harmless(refused.out + refused.err)
