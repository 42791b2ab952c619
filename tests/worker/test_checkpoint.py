"""Checkpoints: whole or not there, verified before they are believed, and nothing of them is executed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
from pathlib import Path

import pytest
import torch

from convnn.errors import Exit, UserError
from convnn.training.state import StateDict
from convnn.worker import checkpoint

MODEL = {"a": torch.arange(300.0), "b": torch.ones(2, 2, dtype=torch.bfloat16), "n": torch.tensor(3)}
OPTIMIZER = {"0.exp_avg": torch.randn(300)}
PLAIN = {"position": {"epoch": 1}, "sum": 0.1 + 0.2}
STATE, WEIGHTS = StateDict(MODEL, OPTIMIZER, PLAIN), StateDict(MODEL, None, PLAIN)


def written(run: Path, *steps: int, best: int | None = None) -> None:
    for step in steps:
        checkpoint.write(run, step, StateDict(MODEL, OPTIMIZER, PLAIN | {"step": step}))
        checkpoint.write_pointer(run, "last", step)
    if best is not None:
        checkpoint.write_pointer(run, "best", best)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / checkpoint.CHECKPOINTS).iterdir())


def test_what_is_written_comes_back_bit_for_bit(tmp_path):
    written(tmp_path, 7)
    newest, warnings = checkpoint.recover_newest(tmp_path)
    assert warnings == []
    assert newest.step == 7
    assert newest.state.plain == PLAIN | {"step": 7}
    for name, value in MODEL.items():
        assert newest.state.model[name].dtype == value.dtype and torch.equal(newest.state.model[name], value)
    assert torch.equal(newest.state.optimizer["0.exp_avg"], OPTIMIZER["0.exp_avg"])


def test_the_state_is_read_without_the_tensors(tmp_path):
    written(tmp_path, 7)
    model = tmp_path / "checkpoints/00000007" / checkpoint.MODEL
    model.write_bytes(bytes(model.stat().st_size))  # its size is checked, its content is not read
    saved = checkpoint.load_named(tmp_path, "last", with_tensors=False)
    assert saved.state == StateDict({}, None, PLAIN | {"step": 7})


def test_the_last_two_and_the_best_are_kept_and_the_best_has_weights_only(tmp_path):
    written(tmp_path, 10, 20, 30, 40, best=10)
    checkpoint.prune(tmp_path)
    assert names(tmp_path) == ["00000010", "00000030", "00000040", "best", "last"]
    assert checkpoint.load_verified(tmp_path / "checkpoints/00000010").state.optimizer is None
    assert checkpoint.load_verified(tmp_path / "checkpoints/00000030").state.optimizer is not None


def test_weights_of_the_best_do_not_count_as_one_of_the_two(tmp_path):
    written(tmp_path, 10, 30)
    checkpoint.write(tmp_path, 20, WEIGHTS)
    checkpoint.write_pointer(tmp_path, "best", 20)
    checkpoint.prune(tmp_path)
    assert names(tmp_path) == ["00000010", "00000020", "00000030", "best", "last"]


def test_a_run_that_keeps_no_optimizer_keeps_weights(tmp_path):
    written(tmp_path, 10, 20, 30, best=10)
    checkpoint.prune(tmp_path, keep=0)
    assert names(tmp_path) == ["00000010", "00000030", "best", "last"]
    assert not list(tmp_path.rglob("optimizer*"))
    assert checkpoint.load_named(tmp_path, "best").step == 10
    with pytest.raises(UserError, match="weights only") as caught:
        checkpoint.recover_newest(tmp_path)
    assert caught.value.code == Exit.STORAGE


def test_the_last_checkpoint_alone_may_keep_its_optimizer(tmp_path):
    written(tmp_path, 10, 20, 30, best=10)
    checkpoint.prune(tmp_path, keep=1)
    assert names(tmp_path) == ["00000010", "00000030", "best", "last"]
    assert [path.parent.name for path in tmp_path.rglob("optimizer*")] == ["00000030"]


def test_steps_sort_as_numbers(tmp_path):
    written(tmp_path, 99_999_999, 100_000_000)
    assert checkpoint.recover_newest(tmp_path)[0].step == 100_000_000


def test_a_damaged_one_is_set_aside_and_the_one_before_is_taken(tmp_path):
    written(tmp_path, 10, 20)
    with (tmp_path / "checkpoints/00000020/model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    newest, warnings = checkpoint.recover_newest(tmp_path)
    assert newest.step == 10
    assert "00000020 is damaged" in warnings[0]
    assert any(name.startswith("damaged-00000020") for name in names(tmp_path))


def test_when_all_are_damaged_it_says_so_every_time(tmp_path):
    written(tmp_path, 10, 20)
    for path in (tmp_path / checkpoint.CHECKPOINTS).glob("*/state.json"):
        path.write_bytes(b"")
    for _ in range(3):
        with pytest.raises(UserError, match=r"no checkpoint .* is left") as caught:
            checkpoint.recover_newest(tmp_path)
        assert caught.value.code == Exit.STORAGE


def test_a_run_without_checkpoints_is_no_damage(tmp_path):
    assert checkpoint.recover_newest(tmp_path) == (None, [])


def test_a_pointer_to_what_is_gone_is_said(tmp_path):
    written(tmp_path, 10)
    checkpoint.write_pointer(tmp_path, "last", 20)
    newest, warnings = checkpoint.recover_newest(tmp_path)
    assert newest.step == 10 and "00000020" in warnings[0]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_every_flipped_bit_and_every_cut_is_found(tmp_path, name):
    written(tmp_path, 1)
    folder = tmp_path / "checkpoints/00000001"
    path, draw = folder / name, random.Random(name)
    good = path.read_bytes()
    for bit in draw.sample(range(8 * len(good)), 200):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(checkpoint.DamagedCheckpointError):
            checkpoint.load_verified(folder)
    for length in (0, 1, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(checkpoint.DamagedCheckpointError):
            checkpoint.load_verified(folder)
    path.write_bytes(good)
    checkpoint.load_verified(folder)


@pytest.mark.parametrize(
    "state", [b"[]", b"null", b"{" * 9000, b'{"files": []}', b'{"files": {"../../x": {}}}', b"\xff"]
)
def test_a_manifest_from_a_stranger_is_damage(tmp_path, state):
    written(tmp_path, 1)
    (tmp_path / "checkpoints/00000001/manifest.json").write_bytes(state)
    with pytest.raises(checkpoint.DamagedCheckpointError):
        checkpoint.load_verified(tmp_path / "checkpoints/00000001")


@pytest.mark.parametrize("size", [1e999, -1, True, 1.5, "9", None, [], 10**400, 1 << 60])
def test_a_size_that_no_file_has_is_damage(tmp_path, size):
    written(tmp_path, 1)
    manifest = tmp_path / "checkpoints/00000001/manifest.json"
    listed = json.loads(manifest.read_text())
    listed["files"]["model.safetensors"]["size"] = size
    manifest.write_text(json.dumps(listed))
    with pytest.raises(checkpoint.DamagedCheckpointError):
        checkpoint.load_verified(manifest.parent)


def test_a_file_larger_than_the_memory_is_refused_unread_and_stays(tmp_path):
    written(tmp_path, 1)
    model = tmp_path / "checkpoints/00000001/model.safetensors"
    os.truncate(model, 1 << 43)  # a hole: it takes no room on the disk
    manifest = model.with_name("manifest.json")
    listed = json.loads(manifest.read_text())
    listed["files"]["model.safetensors"]["size"] = 1 << 43
    manifest.write_text(json.dumps(listed))
    with pytest.raises(UserError, match="are free") as caught:
        checkpoint.recover_newest(tmp_path)
    assert caught.value.code == Exit.MEMORY
    assert names(tmp_path) == ["00000001", "last"]


def signed(folder: Path, name: str, data: bytes) -> None:
    """Put a file into a checkpoint, with a manifest that agrees with it."""
    (folder / name).write_bytes(data)
    listed = json.loads((folder / "manifest.json").read_text())
    listed["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(listed))


def test_any_header_of_a_tensor_file_may_be_hostile(tmp_path):
    """Whatever its header claims, a file that agrees with the manifest is damage or a set of tensors."""
    written(tmp_path, 1)
    folder, draw = tmp_path / "checkpoints/00000001", random.Random(0)
    data = (folder / "optimizer.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    lengths = [0, 1, length - 1, length + 1, len(data), (1 << 22) + 1, 1 << 40, (1 << 64) - 1]
    files = [number.to_bytes(8, "little") + data[8:] for number in lengths]
    claims = (b"[9999999]", b"[0]", b"[-1]", b"[18446744073709551615,2]", b"[]", b"[300,1]", b"[[300]]", b"[3e2]")
    headers = [header.replace(b"[300]", claim) for claim in claims]
    headers += [header.replace(b"F32", kind) for kind in (b"F64", b"F4", b"BOOL", b"C64", b"F8_E8M0", b"X")]
    headers += [header.replace(b"[0,1200]", offsets) for offsets in (b"[1200,0]", b"[0,99]", b"[4,1204]", b"[0,1e9]")]
    for _ in range(200):
        changed = bytearray(header)
        for _ in range(draw.choice((1, 2, 8))):
            changed[draw.randrange(len(changed))] = draw.choice(b'{}[]":,0123456789eF\x00\xff')
        headers.append(bytes(changed))
    files += [len(text).to_bytes(8, "little") + text + body for text in headers]
    for content in files:
        signed(folder, "optimizer.safetensors", content)
        try:
            tensors = checkpoint.load_verified(folder).state.optimizer
        except checkpoint.DamagedCheckpointError:
            continue
        assert all(isinstance(value.sum().item(), int | float | bool) for value in tensors.values())


def test_a_pickle_in_the_place_of_weights_is_not_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    written(tmp_path, 1)
    folder = tmp_path / "checkpoints/00000001"
    signed(folder, "model.safetensors", pickle.dumps(Bomb()))
    with pytest.raises(checkpoint.DamagedCheckpointError, match="safetensors"):
        checkpoint.load_verified(folder)
    assert not (tmp_path / "canary").exists()


def test_links_and_pipes_are_not_followed(tmp_path):
    written(tmp_path / "a" if (tmp_path / "a").mkdir() is None else tmp_path, 1)
    run = tmp_path / "b"
    (run / checkpoint.CHECKPOINTS).mkdir(parents=True)
    (run / checkpoint.CHECKPOINTS / "00000001").symlink_to(tmp_path / "a/checkpoints/00000001")
    assert checkpoint.recover_newest(run) == (None, [])
    for make in (os.mkfifo, lambda path: path.symlink_to(tmp_path / "a/checkpoints/last")):
        last = run / checkpoint.CHECKPOINTS / "last"
        make(last)
        assert checkpoint.read_pointer(run, "last") is None
        last.unlink()
    model = tmp_path / "a/checkpoints/00000001/model.safetensors"
    model.unlink()
    os.mkfifo(model)
    with pytest.raises(checkpoint.DamagedCheckpointError):
        checkpoint.load_verified(model.parent)


def test_the_same_step_again_replaces_it(tmp_path):
    checkpoint.write(tmp_path, 5, WEIGHTS)
    checkpoint.write(tmp_path, 5, STATE)
    assert names(tmp_path) == ["00000005"]
    assert checkpoint.recover_newest(tmp_path)[0].state.optimizer is not None


def test_an_exchange_cut_off_in_the_middle_is_undone(tmp_path):
    written(tmp_path, 5)
    folder = tmp_path / checkpoint.CHECKPOINTS
    (folder / "00000005").rename(folder / ".tmp-00000005-before")
    assert checkpoint.recover_newest(tmp_path)[0].step == 5


def test_an_exchange_that_could_not_be_undone_at_once_is_undone_by_the_next_write(tmp_path):
    """Even if that one fails, too: nothing of it may take the only good checkpoint for a leftover."""
    written(tmp_path, 5)
    folder = tmp_path / checkpoint.CHECKPOINTS
    (folder / "00000005").rename(folder / ".tmp-00000005-before")
    checkpoint.write(tmp_path, 6, WEIGHTS)
    assert names(tmp_path) == ["00000005", "00000006", "last"]
    assert checkpoint.recover_newest(tmp_path)[0].step == 5


def test_who_may_read_a_run_may_read_its_weights(tmp_path):
    written(tmp_path, 5)
    folder = tmp_path / "checkpoints/00000005"
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {folder.stat().st_mode & 0o666}


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    written(tmp_path, 5)
    monkeypatch.setattr(checkpoint, "SPARE", 1 << 60)
    with pytest.raises(OSError, match="free"):
        checkpoint.write(tmp_path, 6, STATE)
    assert names(tmp_path) == ["00000005", "last"]


def test_only_checkpoints_of_ours_are_removed(tmp_path):
    """A person may keep things in the folder, under names that look like steps or like leftovers."""
    folder = tmp_path / checkpoint.CHECKPOINTS
    for name in ("20240101/weights.pt", ".git/config", ".tmp-mine/notes", ".notes", "00000001/notes.txt", "readme"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("precious")
    for step in range(1, 6):
        if step == 1:  # a checkpoint into which a person put a file
            saved = checkpoint.write(tmp_path, 99999999, StateDict({}, {}, {}))
            for path in saved.iterdir():
                path.rename(folder / "00000001" / path.name)
            saved.rmdir()
        else:
            checkpoint.write(tmp_path, step, StateDict({}, {}, {}))
    (folder / ".tmp-00000009").mkdir()
    (folder / ".tmp-00000009" / checkpoint.MODEL).write_text("half of it")
    checkpoint.write_pointer(tmp_path, "last", 5)
    checkpoint.prune(tmp_path)
    assert {
        path.read_text() for path in folder.rglob("*") if path.name in ("weights.pt", "config", "notes", ".notes")
    } == {"precious"}
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["00000001", "00000004", "00000005", "20240101", ".git", ".tmp-mine", ".notes", "readme", "last"]
    )
    assert (folder / "00000001" / "notes.txt").exists()
    assert checkpoint.recover_newest(tmp_path)[0].step == 5
