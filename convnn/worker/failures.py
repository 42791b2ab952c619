"""What ended a run, in one sentence: its exit code, and the flags to go on with where it cannot go on as it was."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convnn.costs.fit import accumulation, forecast
from convnn.errors import Exit, Problem, UserError
from convnn.text import escaped

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig

NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")
WORKER = "dataloader worker"
ROOM = "make room, or choose another --runs folder"
WRITABLE = "make it writable, or choose another --runs folder"
BACK = "bring it back, or choose another --runs folder"
STORAGE = {
    errno.ENOSPC: ("the disk is full", ROOM),
    errno.EDQUOT: ("the disk quota is used up", ROOM),
    errno.EFBIG: ("a file may grow no further (ulimit -f)", "raise the limit, or choose another --runs folder"),
    errno.EROFS: ("the file system is read-only", WRITABLE),
    errno.EACCES: ("it may not be written", WRITABLE),
    errno.EPERM: ("it may not be written", WRITABLE),
    errno.ENOENT: ("it has vanished", BACK),
    errno.ESTALE: ("it has vanished (stale file handle)", BACK),
    errno.EIO: ("the disk reports an error", "look at the disk, and choose another --runs folder"),
}


@dataclass(frozen=True)
class Fault:
    """Why a run ended, its exit code, and flags that a fork goes on with; none where it can just be resumed."""

    cause: str
    code: Exit
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """Where a fault happened: (H, W) in pixels and classes of the data, None before it was read; bytes of memory."""

    config: RunConfig
    image_size: tuple[int, int] | None
    classes: int | None
    memory: int


def named(error: Exception, at: Setting) -> Fault:
    """The fault that an exception from training stands for; an unknown one keeps its type and its first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = escaped(f"{type(error).__name__}: {lines[0] if lines else ''}")[:300]
    if isinstance(error, UserError):
        return Fault("; ".join(lines), error.code)
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY):
        return _memory(at)
    if _device_lost(error):
        return Fault(f"the device was lost ({said})", Exit.DATA)
    if WORKER in str(error).lower():
        return Fault(
            f"a data worker was killed, as by a lack of memory ({said}); fewer --workers take less", Exit.FAILED
        )
    if isinstance(error, OSError):
        where = escaped(error.filename) if error.filename else at.config.data.dataset
        return Fault(f"the data cannot be read: {where}: {escaped(error.strerror or error)}", Exit.DATA)
    return Fault(f"{said} (the traceback is in log.txt)", Exit.FAILED)


def storage(error: OSError, what: Path | str) -> UserError:
    """A directory or file that cannot be written, as something a person can fix."""
    reason, fix = STORAGE.get(error.errno or 0, (escaped(error.strerror or error), "choose another --runs folder"))
    return UserError(Problem(f"{escaped(what)}: {reason}", fix=fix), Exit.STORAGE)


def _device_lost(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.AcceleratorError)


def _memory(at: Setting) -> Fault:
    """Out of memory: what was forecast, and the least accumulation whose forecast fits."""
    if at.image_size is None or at.classes is None:
        return Fault("out of memory while the data was read; try a smaller --limit or --resize", Exit.MEMORY)
    training = at.config.training
    images = -(-training.batch_size // training.accumulate)
    need = forecast(at.config, at.image_size, at.classes)
    told = f"out of memory: a step of {images} images was forecast at {_gb(need)}, {_gb(at.memory)} are here"
    parts = accumulation(at.config, at.image_size, at.classes, at.memory)
    if parts is None:
        return Fault(f"{told}; no accumulation fits: try a smaller --width, or another device", Exit.MEMORY)
    fits = forecast(at.config, at.image_size, at.classes, parts)
    rest = f"--accumulate {parts} ({-(-training.batch_size // parts)} images at a time) is forecast at"
    return Fault(f"{told}; {rest} {_gb(fits)}", Exit.MEMORY, ("--accumulate", str(parts)))


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
