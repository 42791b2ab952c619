"""Checkpoints: written whole or not at all, listed with sizes and SHA-256, verified before they are believed.

    checkpoints/00001764/   model.safetensors, optimizer.safetensors, state.json, manifest.json
    checkpoints/last, best  one line each: the name of a directory beside them

safetensors and JSON only: nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load, save_file
from torch import Tensor

from convnn.errors import Exit, Problem, UserError
from convnn.files import open_regular, sync_directory, write_atomic
from convnn.worker.crash_points import reach

FOLDER = "checkpoints"
MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
KEPT = 2  # whole checkpoints that stay, beside the best
SPARE = 64 << 20  # bytes left free on the disk beyond a checkpoint's own
LONGEST_MANIFEST = 1 << 16  # bytes
_NAME = re.compile(r"[0-9]{8,15}")


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
    if folder.is_symlink():
        raise OSError(errno.ELOOP, f"{FOLDER} is a link, and links out of a run are not followed", str(folder))
    if not folder.is_dir():
        folder.mkdir()
        sync_directory(run)
    final, temporary, before = folder / f"{step:08d}", folder / f".tmp-{step:08d}", folder / f".tmp-{step:08d}-before"
    _put_back(folder)
    _clean(folder)
    files = {MODEL: model} | ({OPTIMIZER: optimizer} if optimizer is not None else {})
    _room(folder, *files.values())
    try:
        temporary.mkdir()
        reach("checkpoint.begun")
        for name, tensors in files.items():
            _save_tensors(temporary / name, tensors)
            reach(f"checkpoint.{name.partition('.')[0]}")
        _write_synced(temporary / STATE, json.dumps(plain, indent=1).encode())
        reach("checkpoint.state")
        _write_synced(temporary / MANIFEST, _manifest(temporary, (*files, STATE)))
        sync_directory(temporary)
        reach("checkpoint.manifest")
        if final.exists():  # of the same step: weights alone, or from before an inexact resume
            final.rename(before)
            reach("checkpoint.replaced")
        temporary.rename(final)
        sync_directory(folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)  # on a full disk it would stand in the way of the next attempt
        _put_back(folder)
        raise
    reach("checkpoint.renamed")
    _clean(folder)
    return final


def point(run: Path, name: str, step: int) -> None:
    """Make `last` or `best` name the checkpoint of a step."""
    write_atomic(run / FOLDER / name, f"{step:08d}\n")


def prune(run: Path, *, finished: bool = False) -> None:
    """Remove what is no longer needed: all but the newest two and the best; of the best only the weights stay.

    A finished run needs no optimizer.
    """
    _clean(run / FOLDER)
    names = _names(run)
    whole = [name for name in names if (run / FOLDER / name / OPTIMIZER).exists()]
    pointed_at = {pointed(run, "best"), pointed(run, "last")}
    kept = set() if finished else set(whole[-KEPT:])
    for name in names:
        folder = run / FOLDER / name
        if name not in kept | pointed_at:
            gone = folder.with_name(f".tmp-{name}-gone")
            folder.rename(gone)  # at once: half of it would look damaged
            shutil.rmtree(gone)
        elif name not in kept:
            _drop_optimizer(folder)


def _drop_optimizer(folder: Path) -> None:
    if not (folder / OPTIMIZER).exists():
        return
    try:
        files = json.loads(_read(folder / MANIFEST, LONGEST_MANIFEST))["files"]
        files.pop(OPTIMIZER, None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # it is left as it is, for whoever verifies it to say so
    write_atomic(folder / MANIFEST, json.dumps({"files": files}, indent=1))  # first: a stray file is no damage
    (folder / OPTIMIZER).unlink()


def pointed(run: Path, name: str) -> str | None:
    """The directory that `last` or `best` names; None when there is no such line."""
    try:
        word = _read(run / FOLDER / name, 64).decode("ascii", "replace").strip()
    except OSError:
        return None
    return word if _NAME.fullmatch(word) else None


def verified(folder: Path) -> Checkpoint:
    """A checkpoint, read once: what is hashed is what is loaded. Raises Damaged."""
    try:
        listed = json.loads(_read(folder / MANIFEST, LONGEST_MANIFEST))["files"]
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
        if not isinstance(plain, dict):
            raise Damaged(f"{STATE} holds no state")
        optimizer = load(content[OPTIMIZER]) if OPTIMIZER in content else None
        return Checkpoint(folder, load(content[MODEL]), optimizer, plain)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{type(error).__name__}: {error}"[:300]) from error
    except safetensors.SafetensorError as error:
        raise Damaged(f"not a safetensors file: {error}"[:300]) from error


def newest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint that verifies, and a sentence for each newer one that does not and was set aside.

    None when there never was one. Raises UserError (storage) when there was one and none is left that verifies.
    """
    _put_back(run / FOLDER)
    names, last = _names(run), pointed(run, "last")
    said = [f"the checkpoint {last} is not there any more"] if last is not None and last not in names else []
    for name in reversed(names):
        folder = run / FOLDER / name
        try:
            found = verified(folder)
        except Damaged as error:
            moved = folder.with_name(f"damaged-{name}-{os.getpid()}")
            folder.rename(moved)
            said.append(f"checkpoint {name} is damaged ({error}); set aside as {moved.name}")
            continue
        if found.optimizer is not None:
            return found, said
    if not said and (earlier := sorted((run / FOLDER).glob("damaged-*"))):
        said = [f"{folder.name} was set aside earlier" for folder in earlier]
    if not said and not names:
        return None, []
    why = "; ".join(said) or "they hold weights only"
    raise UserError(
        Problem(
            f"no checkpoint of {run.name} is left to go on from: {why}",
            fix=f"train it again as a new run: convnn run {shlex.quote(str(run / 'config.toml'))}",
        ),
        Exit.STORAGE,
    )


def chosen(run: Path, name: str) -> Checkpoint:
    """The checkpoint `last` or `best`. Raises UserError when it is missing or damaged."""
    word = pointed(run, name)
    if word is None:
        raise UserError(f"{run} has no checkpoint {name}", Exit.NO_RUN)
    try:
        return verified(run / FOLDER / word)
    except Damaged as error:
        raise UserError(f"checkpoint {name} of {run} is damaged: {error}", Exit.STORAGE) from error


def _names(run: Path) -> list[str]:
    """The checkpoints by step; links are not followed."""
    folder = run / FOLDER
    if folder.is_symlink() or not folder.is_dir():
        return []
    found = [p.name for p in folder.iterdir() if _NAME.fullmatch(p.name) and p.is_dir() and not p.is_symlink()]
    return sorted(found, key=int)


def _put_back(folder: Path) -> None:
    """Undo an exchange that was cut off between its two renames."""
    for before in [] if folder.is_symlink() else folder.glob(".tmp-*-before"):
        if not (final := before.with_name(before.name[5:-7])).exists():
            before.rename(final)


def _clean(folder: Path) -> None:
    """Remove what writes that were cut off left; what cannot be removed yet (NFS, while it is read) stops no other."""
    for rest in folder.glob(".*"):
        if rest.is_dir() and not rest.is_symlink():
            shutil.rmtree(rest, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                rest.unlink()


def _room(folder: Path, *tensors: Mapping[str, Tensor]) -> None:
    size = sum(t.numel() * t.element_size() for group in tensors for t in group.values())
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise OSError(errno.ENOSPC, f"a checkpoint needs {size + SPARE} bytes, {free} are free", str(folder))


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path)
    except safetensors.SafetensorError as error:  # it says "I/O error: ... (os error 28)" in words of its own
        number = re.search(r"os error ([0-9]+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from error
    path.chmod(path.parent.stat().st_mode & 0o666)  # the library allows nobody else to read it, whatever the umask
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
    """The bytes of a file, `most` and one at the most. Raises OSError for a link, a pipe or another thing."""
    with open_regular(path) as file:
        return file.read(max(0, min(most, os.fstat(file.fileno()).st_size)) + 1)
