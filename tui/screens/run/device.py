"""The machine a run trains on, the memory it takes, and the size of what it trains."""

from __future__ import annotations

from collections.abc import Iterator

from convnn.events import Started
from convnn.runs.history import History
from convnn.text import duration, memory, number
from tui.screens.run.pane import WordsPane


class DevicePane(WordsPane):
    """Device, threads, memory, speed, and the model in figures."""

    TITLE = "device"
    SAID_WHEN_EMPTY = "known when the run has started"
    HELP = (
        "Where the run trains: device, threads, the most memory held so far beside what was expected of a training "
        "step, times of the last epoch, and the size of the model. On cpu the memory is that of the whole process."
    )

    def show(self, history: History) -> None:
        if history.started is not None:
            self.tell([*_machine(history.started), *_epoch(history), *_model(history.started)])
        elif history.finished is not None:
            self.tell([("the run ended before it started", "")])


def _machine(started: Started) -> Iterator[tuple[str, str]]:
    yield "device", started.device or "unknown"
    if started.threads:
        yield "threads", str(started.threads)
    if started.amp:
        yield "precision", str(started.amp.get("dtype", "mixed"))
    if started.compile:
        yield "compiled", f"{started.compile.get('graphs', '?')} graphs, {started.compile.get('breaks', '?')} breaks"


def _epoch(history: History) -> Iterator[tuple[str, str]]:
    last = history.epochs[-1].metrics if history.epochs else {}
    if "peak_bytes" in last:
        yield "memory", f"{memory(last['peak_bytes'])} at most"
    if history.started and history.started.memory_bytes:
        yield "expected", f"{memory(history.started.memory_bytes)} a step"
    if "images_per_s" in last:
        yield "speed", f"{number(last['images_per_s'])} images/s"
    if "train_s" in last:
        test = f" + {duration(last['eval_s'])} test" if "eval_s" in last else ""
        yield "an epoch", f"{duration(last['train_s'])}{test or ' training'}"


def _model(started: Started) -> Iterator[tuple[str, str]]:
    if started.parameters:
        yield "parameters", f"{started.parameters:,}"
    if started.flops:
        yield "FLOPs", f"{number(started.flops)} an image"
    if started.images:
        yield "images", ", ".join(f"{count:,} {split}" for split, count in started.images.items())
    if started.image_size:
        yield "image", "x".join(map(str, started.image_size)) + f", {started.num_classes} classes"
    if started.host:
        yield "host", started.host
    versions = [f"{name} {version}" for name, version in started.versions.items()]
    if versions:
        yield "versions", ", ".join(versions)
    if started.git_commit:
        yield "commit", started.git_commit[:12] + ("+" if started.git_commit.endswith("+") else "")
