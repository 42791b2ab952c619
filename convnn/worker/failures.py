"""Classify what ended a run: a sentence, the exit code, and flags that a fork can go on with."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from convnn.costs.memory_fit import ModelMemoryError, accumulation, forecast, is_out_of_memory
from convnn.errors import Exit, UserError
from convnn.text import memory, plural

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig

OTHER_FOLDER = "choose another --runs folder"
FREE_SPACE = "free some space"
MAKE_WRITABLE = "make it writable"
RESTORE = "restore it"
REMOVE_LINK = "remove the link"
STORAGE = {
    errno.ENOSPC: ("the disk is full", FREE_SPACE),
    errno.EDQUOT: ("the disk quota is used up", FREE_SPACE),
    errno.EFBIG: ("a file may grow no further (ulimit -f)", "raise the limit"),
    errno.EROFS: ("the file system is read-only", MAKE_WRITABLE),
    errno.EACCES: ("permission denied", MAKE_WRITABLE),
    errno.EPERM: ("permission denied", MAKE_WRITABLE),
    errno.ENOENT: ("it has vanished", RESTORE),
    errno.ESTALE: ("it has vanished (stale file handle)", RESTORE),
    errno.ELOOP: ("a symbolic link, which is not followed", REMOVE_LINK),
    errno.EMLINK: ("not a file of its own, but a link to another", REMOVE_LINK),
    errno.EIO: ("the disk reports an error", "look at the disk"),
}


@dataclass(frozen=True)
class Failure:
    """Why a run ended, its exit code, and flags that a fork goes on with; none where the run can just be resumed."""

    cause: str
    code: Exit
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunContext:
    """The run that failed: (H, W) in pixels and classes of its data, None where they are not known; bytes of memory."""

    config: RunConfig
    image_size: tuple[int, int] | None
    num_classes: int | None
    memory: int
    has_traceback: bool = True  # log.txt took it
    started: bool = True  # the data was read and the model was built


def classify_failure(error: Exception, context: RunContext) -> Failure:
    """Return the failure that an exception from training stands for; an unknown one keeps its type and first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    summary = f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
    if isinstance(error, UserError):
        return Failure("; ".join(lines), error.code)
    if isinstance(error, ModelMemoryError):
        return _out_of_memory(replace(context, image_size=error.image_size, num_classes=error.num_classes))
    if is_out_of_memory(error):
        return _out_of_memory(context)
    if _is_device_error(error):
        return Failure(f"the device was lost ({summary})", Exit.DATA)
    if isinstance(error, OSError):
        path = error.filename or context.config.data.dataset
        return Failure(f"the data cannot be read: {path}: {error.strerror or error}", Exit.DATA)
    traceback = "the traceback is in log.txt" if context.has_traceback else "log.txt could not be written"
    return Failure(f"{summary} ({traceback})", Exit.FAILED)


def storage_error(error: OSError, path: Path | str, *, in_runs: bool = False) -> UserError:
    """Return the error of a directory or file that cannot be written, with its fix.

    Below the folder of the runs (`in_runs`) another one is suggested.
    """
    reason, fix = STORAGE.get(error.errno or 0, (error.strerror or str(error), ""))
    fixes = [fix, OTHER_FOLDER] if in_runs else [fix]
    return UserError(f"{path}: {reason}", Exit.STORAGE, fix=", or ".join(filter(None, fixes)) or None)


def _is_device_error(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.AcceleratorError)


def _out_of_memory(context: RunContext) -> Failure:
    """Return what was forecast, and the least accumulation whose forecast fits."""
    config, image_size, num_classes = context.config, context.image_size, context.num_classes
    if image_size is None or num_classes is None:
        return Failure("out of memory while the data was read; try a smaller --limit or --resize", Exit.MEMORY)
    if not context.started and forecast(config, image_size, num_classes, config.training.batch_size) <= context.memory:
        cause = "out of memory while the data was read or the model was built; try a smaller --limit or --resize"
        return Failure(cause, Exit.MEMORY)
    batch_size, accumulate = config.training.batch_size, config.training.accumulate
    cause = (
        f"out of memory: a step of {plural(-(-batch_size // accumulate), 'image')} was forecast at "
        f"{memory(forecast(config, image_size, num_classes))}, {memory(context.memory)} are here"
    )
    steps = accumulation(config, image_size, num_classes, context.memory)
    if steps is None:
        return Failure(f"{cause}; no accumulation fits: try a smaller --width, or another device", Exit.MEMORY)
    fits = memory(forecast(config, image_size, num_classes, steps))
    advice = f"--accumulate {steps} ({plural(-(-batch_size // steps), 'image')} at a time) is forecast at {fits}"
    return Failure(f"{cause}; {advice}", Exit.MEMORY, ("--accumulate", str(steps)))
