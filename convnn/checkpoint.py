"""Checkpoints: written whole or not at all, listed with sizes and SHA-256, verified before they are believed.

    checkpoints/00001764/   model.safetensors, optimizer.safetensors, state.json, manifest.json
    checkpoints/last, best  one line each: the name of a directory beside them

safetensors and JSON only: nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load, save_file
from torch import Tensor

from convnn.errors import Exit, Problem, UserError, escaped
from convnn.files import sync_directory, write_atomic

FOLDER = "checkpoints"
MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
KEPT = 2  # whole checkpoints that stay, beside the best
SPARE = 64 << 20  # bytes left free on the disk beyond a checkpoint's own
_NAME = re.compile(r"\d{8,}")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose bytes agree with its manifest."""

    path: Path
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor] | None  # None: weights only
    plain: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.path.name)


class Damaged(Exception):
    """A checkpoint that does not verify, and why."""


def write(
    run: Path,
    step: int,
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor] | None,
    plain: Mapping[str, Any],
) -> Path:
    """Write a checkpoint beside the earlier ones; it exists under its name only when every byte is on the disk.

    Without an optimizer it holds weights only: to evaluate, not to go on from.
    Raises OSError; then what was there before is untouched.
    """
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    final, temporary = folder / f"{step:08d}", folder / f".tmp-{step:08d}"
    _clean(folder)
    files = {MODEL: model} | ({OPTIMIZER: optimizer} if optimizer is not None else {})
    _room(folder, *files.values())
    temporary.mkdir()
    for name, tensors in files.items():
        _save_tensors(temporary / name, tensors)
    _write_synced(temporary / STATE, json.dumps(plain, indent=1).encode())
    _write_synced(temporary / MANIFEST, _manifest(temporary, (*files, STATE)))
    sync_directory(temporary)
    if final.exists():  # the same step again: after a resume, or a best that became the last
        shutil.rmtree(final)
    temporary.rename(final)
    sync_directory(folder)
    return final


def point(run: Path, name: str, step: int) -> None:
    """Make `last` or `best` name the checkpoint of a step."""
    write_atomic(run / FOLDER / name, f"{step:08d}\n")


def prune(run: Path, *, finished: bool = False) -> None:
    """Remove what is no longer needed: all but the newest two and the best; of the best only the weights stay.

    A finished run needs no optimizer.
    """
    kept = set(_names(run)[-KEPT:] if not finished else _names(run)[-1:])
    best, last = pointed(run, "best"), pointed(run, "last")
    for name in _names(run):
        folder = run / FOLDER / name
        if name not in kept | {best, last}:
            shutil.rmtree(folder)
        elif finished or name not in kept | {last}:
            _drop_optimizer(folder)


def _drop_optimizer(folder: Path) -> None:
    if not (folder / OPTIMIZER).exists():
        return
    files = json.loads((folder / MANIFEST).read_text())["files"]
    files.pop(OPTIMIZER, None)
    write_atomic(folder / MANIFEST, json.dumps({"files": files}, indent=1))  # first: a stray file is no damage
    (folder / OPTIMIZER).unlink()


def pointed(run: Path, name: str) -> str | None:
    """The directory that `last` or `best` names; None when there is no such line."""
    try:
        word = (run / FOLDER / name).read_bytes()[:64].decode("ascii", "replace").strip()
    except OSError:
        return None
    return word if _NAME.fullmatch(word) else None


def verified(folder: Path) -> Checkpoint:
    """A checkpoint, read once: what is hashed is what is loaded. Raises Damaged."""
    try:
        listed = json.loads(_read(folder / MANIFEST, 1 << 20))["files"]
        needed = {MODEL, STATE}
        if not isinstance(listed, dict) or not needed <= set(listed) <= needed | {OPTIMIZER}:
            raise Damaged(f"{MANIFEST} does not list the files of a checkpoint")
        content: dict[str, bytes] = {}
        for name, entry in listed.items():
            data = _read(folder / name, int(entry["size"]))
            if len(data) != entry["size"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
                raise Damaged(f"{name} is not what was written")
            content[name] = data
        plain = json.loads(content[STATE])
        optimizer = load(content[OPTIMIZER]) if OPTIMIZER in content else None
        return Checkpoint(folder, load(content[MODEL]), optimizer, plain)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{type(error).__name__}: {escaped(error)}"[:300]) from error
    except safetensors.SafetensorError as error:
        raise Damaged(f"not a safetensors file: {escaped(error)}"[:300]) from error


def newest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint that verifies, and a sentence for each that was set aside as damaged.

    Raises UserError (storage) when there are checkpoints and none verifies.
    """
    names = _names(run)
    last = pointed(run, "last")
    order = sorted(names, reverse=True)
    aside = []
    if last is not None and last not in names:
        aside.append(f"the checkpoint {last} that `last` names is not there")
    for name in order:
        folder = run / FOLDER / name
        try:
            found = verified(folder)
        except Damaged as error:
            moved = folder.with_name(f"damaged-{name}-{os.getpid()}")
            folder.rename(moved)
            aside.append(f"checkpoint {name} is damaged ({error}); set aside as {moved.name}")
            continue
        if found.optimizer is not None:
            return found, aside
    if aside or (names and all(not (run / FOLDER / n / OPTIMIZER).exists() for n in names)):
        raise UserError(
            Problem(
                "no checkpoint is left that verifies: " + ("; ".join(aside) or "only weights are left"),
                file=escaped(run),
                fix="start it anew with --overwrite, or `convnn resume RUN --fork` from another run",
            ),
            Exit.STORAGE,
        )
    return None, aside


def chosen(run: Path, name: str) -> Checkpoint:
    """The checkpoint `last` or `best`. Raises UserError when it is missing or damaged."""
    word = pointed(run, name)
    if word is None:
        raise UserError(f"{escaped(run)} has no checkpoint {name}", Exit.NO_RUN)
    try:
        return verified(run / FOLDER / word)
    except Damaged as error:
        raise UserError(f"checkpoint {name} of {escaped(run)} is damaged: {error}", Exit.STORAGE) from error


def _names(run: Path) -> list[str]:
    folder = run / FOLDER
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if _NAME.fullmatch(p.name) and p.is_dir() and not p.is_symlink())


def _clean(folder: Path) -> None:
    for rest in folder.glob(".tmp-*"):  # of a write that was cut off
        shutil.rmtree(rest)


def _room(folder: Path, *tensors: Mapping[str, Tensor]) -> None:
    size = sum(t.numel() * t.element_size() for group in tensors for t in group.values())
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise OSError(28, f"a checkpoint needs {size + SPARE} bytes, {free} are free", str(folder))


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _manifest(folder: Path, names: tuple[str, ...]) -> bytes:
    files = {name: {"size": (folder / name).stat().st_size, "sha256": _digest(folder / name)} for name in names}
    return json.dumps({"files": files}, indent=1).encode()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path, most: int) -> bytes:
    if path.is_symlink():
        raise Damaged(f"{path.name} is a link")
    with path.open("rb") as file:
        return b"".join(_chunks(file, most + 1))


def _chunks(file: Any, most: int) -> Iterator[bytes]:
    while most > 0 and (chunk := file.read(min(most, 1 << 24))):
        most -= len(chunk)
        yield chunk
