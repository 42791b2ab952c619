"""Kill the real command, resume it, and compare with an undisturbed run: used by the tests and by `make torture`."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from pathlib import Path

from support import training
from support.processes import Command, Result, convnn, until

from convnn.runs import event_log
from convnn.runs.find import list_runs
from convnn.runs.run import Run
from convnn.worker.crash_points import VARIABLE

# one thing that could break exactness in each, and all of them at once
CONFIGURATIONS: dict[str, dict[str, object]] = {
    "plain": training.SMALL | {"limit": 40},
    "rich": training.RICH,
    "random candidates": training.SMALL
    | {"layer": "ConvNN", "sampling_type": "random", "num_samples": 16, "K": 4, "limit": 40},
    "dropout": training.SMALL | {"layer": "ConvNN_Attn", "attention_dropout": 0.3, "K": 4, "limit": 40},
    "augmentation": training.SMALL | {"augment": True, "noise": 0.2, "limit": 40},
    "amp": training.SMALL | {"use_amp": True, "limit": 40},
    "accumulation": training.SMALL | {"accumulate": 3, "limit": 40},
    "plateau": training.SMALL | {"scheduler": "plateau", "val_share": 0.2, "limit": 40},
    "shared update": training.SMALL | {"model": "vgg11", "resize": 32, "limit": 40},
    "sgd": training.SMALL | {"optimizer": "sgd", "scheduler": "step", "lr_step": 1, "limit": 40},
}


def arguments(options: dict[str, object]) -> list[str]:
    """The options as flags of a command line."""
    words = []
    for name, value in options.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return words


def undisturbed(cwd: Path, options: dict[str, object]) -> Run:
    """The run that every killed one is compared with."""
    run, ended = training.train(cwd / "whole", training.config(options))
    assert ended.finished.outcome == "done", ended.finished.cause
    return run


def write_in_background() -> None:
    """Let this process write checkpoints as it does beside a GPU, while training goes on."""
    from convnn.worker import checkpoint_schedule

    checkpoint_schedule.BACKGROUND_DEVICES = ("cpu",)


def only_run(cwd: Path) -> Run:
    runs, warnings = list_runs(cwd / "runs")
    assert len(runs) == 1 and warnings == [], (runs, warnings)
    return runs[0]


def finish(cwd: Path) -> None:
    """Resume until done; a run that had no directory yet would be started again by hand."""
    ended = convnn("resume", "--plain", cwd=cwd)
    assert ended.code == 0, ended.err


def kill_at(cwd: Path, options: dict[str, object], point: str) -> Result:
    """Start the run and let it be killed at a named point, "POINT:N" for the N-th time; then finish it."""
    ended = convnn("run", *arguments(options), "--plain", cwd=cwd, **{VARIABLE: point})
    assert ended.code == -signal.SIGKILL, f"{point} was not reached: {ended}"
    if only_run(cwd).status() != "done":
        finish(cwd)
    return ended


def kill_after(cwd: Path, options: dict[str, object], seconds: float) -> bool:
    """Start the run, kill it so long after its directory appears, and finish it; whether there was anything left."""
    command = Command(["run", *arguments(options), "--plain"], cwd)
    until(lambda: (cwd / "runs").is_dir() and bool(list_runs(cwd / "runs")[0]))
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        command.signal(signal.SIGKILL)
    command.wait()
    left = only_run(cwd).status() != "done"
    if left:
        finish(cwd)
    return left


def check(run: Run, whole: Run, *, clean: bool = True) -> None:
    """A finished run has the weights and the trace of the undisturbed one, and nothing torn in its history.

    It is `clean` where nothing half-written is left: what was killed after its last event is not touched again.
    """
    assert run.status() == "done"
    assert event_log.EventReader().read(run.events_path)[1] == []
    assert run.history().digest() == whole.history().digest()
    assert training.same_weights(run, whole)
    left = [path.name for path in run.path.rglob(".*")]
    assert not (clean and left), f"left behind: {left}"


def sample(items: list[str], count: int, seed: int) -> list[str]:
    return random.Random(seed).sample(items, count)
