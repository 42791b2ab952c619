"""A run directory that looks like a real one, the same every time: for the screens that show it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

from convnn.config.toml import dumps
from convnn.events import Epoch, Event, Finished, Noted, Paused, Resumed, Saved, Started, Step, Warned
from convnn.presets.resolve import resolve
from convnn.runs.event_log import event_line
from convnn.runs.run import Run

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
STEPS = 20  # an epoch
NAME = "20260101-120000-vgg11-Branching-3f2a"


def events_of(epochs: int, of: int = 30) -> list[Event]:
    """Curves that fall and rise as they should, a pause after the third epoch, a checkpoint every fourth."""
    time = START
    events: list[Event] = [_started(time, of)]
    for epoch in range(1, epochs + 1):
        for step in range((epoch - 1) * STEPS + 1, epoch * STEPS + 1):
            time += timedelta(seconds=1)
            ripple = 0.1 * math.sin(2.3 * step) * math.exp(-step / 300)
            fields = {"lr": 1e-3 * (1 + math.cos(math.pi * (epoch - 1) / of)) / 2, "images_per_s": 1230.0}
            events.append(
                Step(
                    time=time,
                    epoch=epoch,
                    step=step,
                    loss=_fall(step / STEPS) + ripple,
                    grad_norm=1.5 + ripple,
                    **fields,
                )
            )
        time += timedelta(seconds=3)
        events.append(Epoch(time=time, epoch=epoch, step=epoch * STEPS, metrics=_metrics(epoch)))
        if epoch % 4 == 0:
            events.append(Saved(time=time, step=epoch * STEPS, path=f"checkpoints/{epoch * STEPS:08d}"))
        if epoch == 3:
            events.append(Paused(time=time, epoch=epoch, step=epoch * STEPS))
            time += timedelta(minutes=5)
            events.append(Resumed(time=time, epoch=epoch, step=epoch * STEPS, note="after a pause"))
            events.append(Noted(time=time, text="optimizer.lr 0.001 to 0.0005"))
        if epoch == 5:
            events.append(Warned(time=time, message="a checkpoint takes 2.1 s: they are written less often than asked"))
    return events


def make(
    root: Path, epochs: int = 12, *, name: str = NAME, outcome: str | None = None, cause: str = "", **typed: str
) -> Run:
    """A run of that many epochs in `root`; without an outcome it is one that nobody ended."""
    chosen = {"layer.type": "Branching", "training.num_epochs": "30", "scheduler.name": "cosine"} | typed
    events = events_of(epochs)
    if outcome is not None:
        events.append(Finished(time=events[-1].time, outcome=outcome, cause=cause, code=0))
    run = Run(root / name, name)
    run.path.mkdir(parents=True)
    run.config_path.write_text(dumps(resolve(None, chosen).config, whole=True))
    run.events_path.write_text("".join(event_line(event) + "\n" for event in events))
    (run.path / "log.txt").write_text(
        "UserWarning: something a library said \x1b[31min red\x1b[0m [bold]and bold[/bold]\n"
    )
    return run


def _started(time: datetime, epochs: int) -> Started:
    return Started(
        time=time,
        versions={"python": "3.11.7", "convnn": "0.1.0", "torch": "2.9.0"},
        device="cuda:0 (NVIDIA H200)",
        threads=16,
        host="atlas",
        seed=0,
        num_classes=10,
        image_size=(3, 32, 32),
        images={"train": 50_000, "test": 10_000},
        parameters=9_756_426,
        trainable_parameters=9_756_426,
        flops=1.53e8,
        memory_bytes=1_900_000_000,
        epochs=epochs,
        steps_per_epoch=STEPS,
    )


def _fall(epoch: float) -> float:
    return 2.3 * math.exp(-epoch / 8)


def _metrics(epoch: int) -> dict[str, float]:
    return {
        "train_loss": _fall(epoch - 0.5),
        "train_top1": 98 - 75 * math.exp(-epoch / 7),
        "test_loss": 0.3 + 1.9 * math.exp(-epoch / 9),
        "test_top1": 90 - 65 * math.exp(-epoch / 6) + math.sin(epoch),
        "lr": 1e-3,
        "grad_norm": 1.5,
        "images_per_s": 1230.0,
        "train_s": 20.0,
        "eval_s": 3.0,
        "peak_bytes": 2.1e9,
    }
