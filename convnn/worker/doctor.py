"""Check this machine: versions, devices, mixed precision, compilation, storage and data sets."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from convnn.config.options import BY_NAME
from convnn.config.schema import RunConfig
from convnn.data.catalog import DATASETS, DatasetInfo, data_summary, dataset_info
from convnn.errors import UserError
from convnn.files import sync_directory, write_atomic
from convnn.hardware import available_cpus
from convnn.presets.resolve import resolve
from convnn.runs.file_lock import flock_warnings
from convnn.runs.lock import is_locked, lock_run
from convnn.text import memory, plural
from convnn.training import device as training_device
from convnn.training.trainer import Trainer
from convnn.version import version
from convnn.worker import resume_trial

STEPS = 5  # timed, after one that warms up
KILLS = 5
LITTLE_SPACE = 128 << 20  # bytes: a few checkpoints of a large model need more
SMALL = {"dataset": "digits", "layer": "ConvNN", "K": "9", "width": "0.125", "limit": "64", "batch_size": "32"}
PACKAGES = ("torch", "torchvision", "numpy", "textual", "typer", "pydantic", "safetensors", "scipy")


@dataclass(frozen=True)
class Finding:
    """The result of one check; `ok` is None where it is information only."""

    name: str
    ok: bool | None
    message: str

    def json(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, "message": self.message}


def small(**options: str) -> RunConfig:
    """Return a configuration that trains in seconds: a narrow vgg11 on a few digits."""
    return resolve(None, {BY_NAME[name].key: value for name, value in (SMALL | options).items()}).checked()


def findings(runs: Path, data: str) -> Iterator[Finding]:
    """Yield the findings of every check but the deep one, each as soon as it is known."""
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    yield Finding("versions", None, f"convnn {version()}, python {platform.python_version()}, {packages}")
    device = training_device.select_device(RunConfig())
    size = f"{memory(training_device.total_memory(device))}, {plural(available_cpus(), 'CPU')}"
    available = ", ".join(training_device.available_devices())
    yield Finding("device", None, f"{training_device.describe(device)}, {size}; available: {available}")
    yield from speeds()
    yield from storage(runs)
    for name, dataset in DATASETS.items():
        if dataset.published == DatasetInfo():
            continue  # a person's own images
        info = dataset_info(name, data)
        is_present = info.problem is None and info.download is None
        yield Finding(f"data {name}", True if is_present else None, data_summary(name, data, info))


def speeds() -> Iterator[Finding]:
    """Yield the speed of a training step of a small model: plain, in mixed precision, compiled."""
    plain = _seconds_per_step(small())
    yield Finding("training", True, f"a step of the small model takes {1000 * plain:.1f} ms")
    for name, options in (("amp", {"use_amp": "true"}), ("compile", {"use_compiled": "true"})):
        try:
            seconds = _seconds_per_step(small(**options))
        except UserError as error:
            yield Finding(name, False, str(error.problems[0]))
            continue
        speedup = plain / seconds
        verdict = f"{speedup:.2f}x the speed" + (", slower on this machine" if speedup < 1 else "")
        yield Finding(name, True, f"works; a step takes {1000 * seconds:.1f} ms, {verdict}")


def _seconds_per_step(config: RunConfig) -> float:
    trainer = Trainer.from_config(config)
    next(trainer.run())  # the checks before the first step: that the model compiles
    trainer.state.model.train()
    times = []
    for _ in range(STEPS + 1):
        x, y = next(trainer.state.train_loader.epoch(1))
        start = time.perf_counter()
        loss, _norm = trainer.train_step(x, y)
        loss.item()  # waits for the device
        times.append(time.perf_counter() - start)
    return median(times[1:])


def storage(runs: Path) -> Iterator[Finding]:
    """Try rename, sync and lock in the folder of the runs, and measure its free space.

    A folder that did not exist is removed again.
    """
    made = not runs.exists()
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".doctor-", dir=runs) as name:
            folder = Path(name)
            yield _tried("rename", lambda: _rename(folder), "a file is replaced whole")
            yield _tried("sync", lambda: _sync(folder), "what is written reaches the disk")
            yield _tried("lock", lambda: _lock(folder), "one process at a time trains a run")
            for warning in flock_warnings():
                yield Finding("flock", None, warning)
    except OSError as error:
        yield Finding("runs folder", False, f"{runs}: {error.strerror or error}")
        return
    free = shutil.disk_usage(runs).free
    if made:
        with suppress(OSError):  # not empty: a run was created there meanwhile
            runs.rmdir()
    yield Finding("free space", free > LITTLE_SPACE, f"{memory(free)} in {runs}")


def _tried(name: str, attempt: Callable[[], None], success: str) -> Finding:
    start = time.perf_counter()
    try:
        attempt()
    except (OSError, UserError) as error:
        return Finding(name, False, str(error))
    return Finding(name, True, f"{success}, in {1000 * (time.perf_counter() - start):.1f} ms")


def _rename(folder: Path) -> None:
    for word in ("old", "new"):
        write_atomic(folder / "renamed", word)
    if (folder / "renamed").read_text(encoding="utf-8") != "new":
        raise OSError("a renamed file does not hold what was written")


def _sync(folder: Path) -> None:
    with (folder / "synced").open("wb") as file:
        file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    sync_directory(folder)


def _lock(folder: Path) -> None:
    with lock_run(folder):
        if not is_locked(folder):
            raise OSError("a lock that is held looks free: this file system does not keep `flock`")
    if is_locked(folder):
        raise OSError("a lock that was let go looks held")


def deep(runs: Path, say: Callable[[str], None]) -> Finding:
    """Train a small run in the runs folder, kill and resume it five times, and compare it with an undisturbed one."""
    device = training_device.select_device(RunConfig())
    deterministic = str(device.type != "cpu").lower()  # on the CPU every run is
    config = small(num_epochs=str(KILLS + 1), device=str(device), deterministic=deterministic)
    trial = resume_trial.run_trial(config, runs, KILLS, say)
    same = f"killed and resumed {plural(len(trial.kills), 'time')}: the same weights and metrics, bit for bit"
    is_exact = not trial.differences and len(trial.kills) == KILLS
    return Finding("resume", is_exact, "; ".join(trial.differences[:3]) or same)
