"""Checkpoints: written completely or not at all, with sizes and SHA-256, and verified before they are loaded.

    checkpoints/00001764/   model.safetensors, optimizer.safetensors, state.json, manifest.json
                            ema.safetensors of a run that keeps a moving average of its weights
    checkpoints/last, best  one line each: the name of a checkpoint

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load, save_file
from torch import Tensor

from convnn.errors import Exit, UserError
from convnn.files import allocate, open_regular, optional_call, sync_directory, sync_file, write_atomic
from convnn.hardware import free_memory
from convnn.runs.run import CHECKPOINT_NAME, CHECKPOINTS
from convnn.text import memory
from convnn.training.state import StateDict
from convnn.worker.crash_points import reach

MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
EMA = "ema.safetensors"
# the fix where a run has no checkpoint
CHOOSE_TRAINED = "choose a run that trained here for an epoch; `convnn resume RUN` trains an unfinished one"
KEEP = 2  # complete checkpoints that stay, beside the best
SPARE = 1 << 17  # bytes that a checkpoint takes beside its tensors: the state, the manifest, directories
LONGEST_MANIFEST, LONGEST_STATE = 1 << 16, 1 << 26  # bytes
LONGEST_HEADER = 1 << 22  # bytes: names, types and shapes of the tensors of a file
# digits: of `try_room`
_OURS = re.compile(rf"{MODEL}|{EMA}|{OPTIMIZER}|{STATE}|{MANIFEST}|\.{MANIFEST}\.[0-9a-f]{{8}}\.tmp|[0-9]")
_TEMPORARY = re.compile(r"\.tmp-([0-9]{8,15}(-before|-gone)?|room)")
_TEMPORARY_POINTER = re.compile(r"\.(last|best)\.[0-9a-f]{8}\.tmp")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and agrees with its manifest."""

    path: Path
    state: StateDict

    @property
    def step(self) -> int:
        return int(self.path.name)


class DamagedCheckpointError(Exception):
    """A checkpoint does not verify; the message says why."""


def write(run: Path, step: int, state: StateDict) -> Path:
    """Write a checkpoint beside the earlier ones; it gets its name only when every byte is on the disk.

    Without an optimizer it can be evaluated but not resumed from. Raises OSError; then the earlier ones are untouched.
    """
    folder = _open_folder(run)
    final, temporary, before = folder / f"{step:08d}", folder / f".tmp-{step:08d}", folder / f".tmp-{step:08d}-before"
    files = {f"{name}.safetensors": tensors for name, tensors in state.parts.items()}
    _check_free_space(folder, SPARE + state.nbytes)
    try:
        temporary.mkdir()
        reach("checkpoint.begun")
        for name, tensors in files.items():
            _save_tensors(temporary / name, tensors)
            reach(f"checkpoint.{name.partition('.')[0]}")
        _write_synced(temporary / STATE, json.dumps(state.plain, indent=1).encode())
        reach("checkpoint.state")
        _write_synced(temporary / MANIFEST, _manifest(temporary, (*files, STATE)))
        sync_directory(temporary)
        reach("checkpoint.manifest")
        if final.exists() and final.name not in _names(run):
            raise OSError(errno.EEXIST, "a folder of somebody else has the name of the checkpoint", str(final))
        if final.exists():  # of the same step: weights alone, or from before an inexact resume
            final.rename(before)
            reach("checkpoint.replaced")
        temporary.rename(final)
        sync_directory(folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)  # on a full disk it would stand in the way of the next attempt
        _undo_exchange(folder)
        raise
    reach("checkpoint.renamed")
    _clean(folder)
    return final


def _open_folder(run: Path) -> Path:
    """Return the folder of the checkpoints, without what was left of earlier writes."""
    folder = run / CHECKPOINTS
    if folder.is_symlink():
        raise OSError(errno.ELOOP, f"{CHECKPOINTS} is a symbolic link, which is not followed", str(folder))
    if not folder.is_dir():
        folder.mkdir()
        sync_directory(run)
    _undo_exchange(folder)
    _clean(folder)
    return folder


def try_room(run: Path, sizes: Sequence[int]) -> None:
    """Try whether the disk takes a checkpoint with files of these sizes in bytes, and leave nothing behind.

    Raises OSError where it does not: it is full, a quota is used up, or files may not grow that large.
    """
    trial = _open_folder(run) / ".tmp-room"
    trial.mkdir()
    try:
        for index, size in enumerate((*sizes, SPARE)):
            allocate(trial / str(index), size)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(trial.parent)) from error
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def write_pointer(run: Path, name: str, step: int) -> None:
    write_atomic(run / CHECKPOINTS / name, f"{step:08d}\n")


def prune(run: Path, *, keep: int = KEEP) -> None:
    """Remove all checkpoints but the newest `keep` complete ones; of the last and the best the weights stay."""
    _clean(run / CHECKPOINTS)
    names = _names(run)
    complete = [name for name in names if (run / CHECKPOINTS / name / OPTIMIZER).exists()]
    pointed_at = {read_pointer(run, "best"), read_pointer(run, "last")}
    resumable = set(complete[len(complete) - keep :]) if keep < len(complete) else set(complete)
    for name in names:
        folder = run / CHECKPOINTS / name
        if not _holds_only_ours(folder) or _manifest_files(folder) is None:
            continue  # what a person put there stays
        if name not in resumable | pointed_at:
            removed = folder.with_name(f".tmp-{name}-gone")
            folder.rename(removed)  # in one go: half of it would look damaged
            _remove(removed)
        elif name not in resumable:
            _drop_optimizer(folder)


def _drop_optimizer(folder: Path) -> None:
    if not (folder / OPTIMIZER).exists():
        return
    if (files := _manifest_files(folder)) is None:
        return  # damaged: that is reported when it is verified
    files.pop(OPTIMIZER, None)
    write_atomic(folder / MANIFEST, json.dumps({"files": files}, indent=1))  # first: a stray file is no damage
    (folder / OPTIMIZER).unlink()


def _manifest_files(folder: Path) -> dict[str, Any] | None:
    """Return the files that the manifest of a checkpoint lists; None where it is no manifest of ours."""
    try:
        files = json.loads(_read(folder / MANIFEST, LONGEST_MANIFEST))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    is_ours = isinstance(files, dict) and {MODEL, STATE} <= files.keys() <= {MODEL, EMA, STATE, OPTIMIZER}
    return files if is_ours else None


def _holds_only_ours(folder: Path) -> bool:
    return all(_OURS.fullmatch(path.name) and not path.is_dir() for path in folder.iterdir())


def _remove(folder: Path) -> None:
    """Remove a checkpoint, whole or in part: the files that we write, never a tree. Raises OSError for more."""
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink()
    folder.rmdir()


def read_pointer(run: Path, name: str) -> str | None:
    """Return the name of the checkpoint that `last` or `best` points at, None where there is no such line."""
    try:
        word = _read(run / CHECKPOINTS / name, 64).decode("ascii", "replace").strip()
    except OSError:
        return None
    return word if CHECKPOINT_NAME.fullmatch(word) else None


def load_verified(folder: Path, *, with_tensors: bool = True) -> Checkpoint:
    """Read a checkpoint and return it; the bytes that are hashed are those that are loaded.

    Without its tensors, state.json alone is read.
    Raises DamagedCheckpointError, and UserError (memory) where it is larger than the memory that is free.
    """
    try:
        listed = json.loads(_read(folder / MANIFEST, LONGEST_MANIFEST))["files"]
        needed = {MODEL, STATE}
        if not isinstance(listed, dict) or not needed <= set(listed) <= needed | {EMA, OPTIMIZER}:
            raise DamagedCheckpointError(f"{MANIFEST} does not list the files of a checkpoint")
        _check_sizes(folder, listed)
        names = listed if with_tensors else [STATE]
        content = {name: _read_verified(folder / name, listed[name]) for name in names}
        plain = json.loads(content[STATE])
        if not isinstance(plain, dict):
            raise DamagedCheckpointError(f"{STATE} is not an object")
        tensors = {name: _load_tensors(data) for name, data in content.items() if name != STATE}
        return Checkpoint(folder, StateDict(tensors.get(MODEL, {}), tensors.get(OPTIMIZER), plain, tensors.get(EMA)))
    except safetensors.SafetensorError as error:
        raise DamagedCheckpointError(f"not a safetensors file: {error}"[:300]) from error
    except READ_ERRORS as error:
        raise DamagedCheckpointError(f"{type(error).__name__}: {error}"[:300]) from error


def _check_sizes(folder: Path, listed: Mapping[str, Any]) -> None:
    """Check the sizes in a manifest against the files and the memory before anything of them is read."""
    total = 0
    for name, entry in listed.items():
        size, present = entry["size"], (folder / name).lstat().st_size
        if type(size) is not int or size != present:
            raise DamagedCheckpointError(f"{name} does not have its size and SHA-256")
        if name == STATE and size > LONGEST_STATE:
            raise DamagedCheckpointError(f"{name} has {size} bytes, more than any state")
        total += size
    free = free_memory("cpu")[1]
    if free is not None and total > free:
        message = f"checkpoint {folder} takes {memory(total)} of memory, {memory(free)} are free"
        raise UserError(message, Exit.MEMORY, fix="free some memory")


def _read_verified(path: Path, entry: Mapping[str, Any]) -> bytes:
    data = _read(path, entry["size"])
    if len(data) != entry["size"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise DamagedCheckpointError(f"{path.name} does not have its size and SHA-256")
    return data


def _load_tensors(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, whose library checks shapes and offsets against the data."""
    if int.from_bytes(data[:8], "little") > LONGEST_HEADER:
        raise DamagedCheckpointError("the header of a safetensors file is longer than that of any model")
    return load(data)


# what reading a file raises that a stranger wrote, or a disk damaged
READ_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, RuntimeError)


def recover_newest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest complete checkpoint that verifies, and a warning for each newer one, which is set aside.

    None where none was written yet. Raises UserError (storage) where none of those written verifies.
    """
    _undo_exchange(run / CHECKPOINTS)
    names, last = _names(run), read_pointer(run, "last")
    warnings = [f"the checkpoint {last} is missing"] if last is not None and last not in names else []
    for name in reversed(names):
        folder = run / CHECKPOINTS / name
        try:
            checkpoint = load_verified(folder)
        except DamagedCheckpointError as error:
            moved = folder.with_name(f"damaged-{name}-{os.getpid()}")
            folder.rename(moved)
            warnings.append(f"checkpoint {name} is damaged ({error}); set aside as {moved.name}")
            continue
        if checkpoint.state.optimizer is not None:
            return checkpoint, warnings
    if not warnings:
        warnings = [f"{folder.name} was set aside earlier" for folder in sorted((run / CHECKPOINTS).glob("damaged-*"))]
    if not warnings and not names:
        return None, []
    message = f"no checkpoint of {run.name} is left to resume from: {'; '.join(warnings) or 'they hold weights only'}"
    fix = f"train it again as a new run: convnn run {shlex.quote(str(run / 'config.toml'))}"
    raise UserError(message, Exit.STORAGE, fix=fix)


def load_named(run: Path, name: str, *, with_tensors: bool = True) -> Checkpoint:
    """Read the checkpoint `last`, `best` or of a folder's name. Raises UserError where it is missing or damaged."""
    word = name if CHECKPOINT_NAME.fullmatch(name) and name in _names(run) else read_pointer(run, name)
    if word is None:
        raise UserError(f"{run} has no checkpoint {name}", Exit.NO_RUN, fix=CHOOSE_TRAINED)
    try:
        return load_verified(run / CHECKPOINTS / word, with_tensors=with_tensors)
    except DamagedCheckpointError as error:
        raise UserError(f"checkpoint {name} of {run} is damaged: {error}", Exit.STORAGE) from error


def _names(run: Path) -> list[str]:
    """Return the names of the checkpoints in the order of their steps; a folder without any file of ours is none."""
    folder = run / CHECKPOINTS
    if folder.is_symlink() or not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    files = (MODEL, EMA, OPTIMIZER, STATE, MANIFEST)
    ours = [path for path in paths if any(os.path.lexists(path / file) for file in files)]
    return sorted((path.name for path in ours if CHECKPOINT_NAME.fullmatch(path.name)), key=int)


def _undo_exchange(folder: Path) -> None:
    """Restore a checkpoint whose replacement was cut off between its two renames."""
    for before in [] if folder.is_symlink() else folder.glob(".tmp-*-before"):
        if not _TEMPORARY.fullmatch(before.name):
            continue
        if not (final := before.with_name(before.name[5:-7])).exists():
            before.rename(final)


def _clean(folder: Path) -> None:
    """Remove what interrupted writes left; what cannot be removed yet (on NFS, while it is read) is passed over."""
    for rest in folder.glob(".*"):
        with contextlib.suppress(OSError):
            if _TEMPORARY.fullmatch(rest.name) and rest.is_dir() and not rest.is_symlink():
                _remove(rest)
            elif _TEMPORARY_POINTER.fullmatch(rest.name):
                rest.unlink()


def _check_free_space(folder: Path, needed: int) -> None:
    usage = shutil.disk_usage(folder)
    if usage.total and usage.free < needed:  # some file systems do not know how large they are
        message = f"a checkpoint needs {memory(needed)}, {memory(usage.free)} are free"
        raise OSError(errno.ENOSPC, message, str(folder))


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path)
    except safetensors.SafetensorError as error:  # it says "I/O error: ... (os error 28)" in words of its own
        number = re.search(r"os error ([0-9]+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from error
    with optional_call():  # the library allows nobody else to read it, whatever the umask
        path.chmod(path.parent.stat().st_mode & 0o666)
    with path.open("rb") as file:
        sync_file(file.fileno())


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        sync_file(file.fileno())


def _manifest(folder: Path, names: tuple[str, ...]) -> bytes:
    files = {name: {"size": (folder / name).stat().st_size, "sha256": _digest(folder / name)} for name in names}
    return json.dumps({"files": files}, indent=1).encode()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path, most: int) -> bytes:
    """Return the bytes of a file, one more than `most` at the most. Raises OSError for a link or a pipe."""
    with open_regular(path) as file:
        return file.read(max(0, min(most, os.fstat(file.fileno()).st_size)) + 1)
