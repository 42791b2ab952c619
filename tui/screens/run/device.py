"""The machine a run trains on, the memory it takes, and the size of its model and data."""

from __future__ import annotations

from collections.abc import Iterator

from convnn.events import Started
from convnn.runs.history import History
from convnn.text import duration, memory, number, plural
from tui.screens.run.pane import Changes, TextPane


class DevicePane(TextPane):
    """Device, threads, memory, speed, model and data in numbers."""

    ID = "device"
    TITLE = "device"
    HELP = (
        "Where the run trains: device, threads, the peak memory so far beside the expected memory of a training step, "
        "the times of the last epoch, and the size of the model. Both memories are without torch and the data."
    )
    IS_SECONDARY = True
    PLACEHOLDER = "known when the run has started"

    def show(self, history: History, changes: Changes) -> None:
        if history.started is not None:
            self.write([*_machine(history.started), *_last_epoch(history), *_model_and_data(history.started)])
        elif history.finished is not None:
            self.write([("the run ended before it started", "")])


def _machine(started: Started) -> Iterator[tuple[str, str]]:
    yield "device", started.device or "unknown"
    if started.threads:
        yield "threads", str(started.threads)
    if started.amp:
        yield "precision", str(started.amp.get("dtype", "mixed"))
    if started.compile:
        counts = [
            plural(started.compile[f"{noun}s"], noun) for noun in ("graph", "break") if f"{noun}s" in started.compile
        ]
        yield "compiled", ", ".join(counts)


def _last_epoch(history: History) -> Iterator[tuple[str, str]]:
    metrics = history.epochs[-1].metrics if history.epochs else {}
    if "peak_bytes" in metrics:
        yield "memory", f"{memory(metrics['peak_bytes'])} peak"
    if history.started and history.started.memory_bytes:
        yield "expected", memory(history.started.memory_bytes)
    if "images_per_s" in metrics:
        yield "speed", f"{number(metrics['images_per_s'])} images/s"
    if "train_s" in metrics:
        test = f" + {duration(metrics['eval_s'])} test" if "eval_s" in metrics else " training"
        yield "epoch", f"{duration(metrics['train_s'])}{test}"


def _model_and_data(started: Started) -> Iterator[tuple[str, str]]:
    if started.parameters:
        yield "parameters", f"{started.parameters:,}"
    if started.flops:
        yield "FLOPs/image", number(started.flops)
    if started.images:
        yield "images", ", ".join(f"{count:,} {split}" for split, count in started.images.items())
    if started.image_size:
        yield (
            "image",
            "x".join(map(str, started.image_size)) + f", {plural(started.num_classes or 0, 'class', 'classes')}",
        )
    if started.host:
        yield "host", started.host
    if started.versions:
        yield "versions", ", ".join(f"{name} {version}" for name, version in started.versions.items())
    if started.git_commit:
        yield "commit", started.git_commit[:12] + ("+" if started.git_commit.endswith("+") else "")
