"""Time of a quickstart epoch by operator, and of `convnn run` from the import of torch to the first step."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.measure import BenchOptions
from benchmarks.table import Row
from convnn.events import Epoch
from convnn.presets import resolve, store
from convnn.training.trainer import Trainer

OPERATORS = 15  # rows of the profile
TARGET = "2"
# the command itself, in a process that prints when torch was imported
RUN = "from convnn.cli import main; import torch, time; print(time.time(), flush=True); main()"


def profile_epoch(device: str) -> tuple[dict[str, float], float, list[tuple[str, float, int]]]:
    """Metrics of the second epoch, seconds of statistics, and operators of the third: name, self time, calls."""
    options = {"training.num_epochs": "4", "runtime.device": device}
    trainer = Trainer.from_config(resolve.resolve(store.read("quickstart"), options).checked())
    stream = trainer.run()

    def next_epoch() -> Epoch:
        return next(event for event in stream if isinstance(event, Epoch))

    next_epoch()
    metrics = next_epoch().metrics
    state = trainer.state.layer_statistics
    events = [
        trainer.layers.take(state, epoch=2, step=0, epoch_seconds=metrics["train_s"], loss_scale=1.0)[0]
        for _ in range(5)
    ]
    statistics_seconds = median(event.seconds for event in events)
    with torch.profiler.profile() as profile:
        next_epoch()
    attribute = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    operators = [(event.key, getattr(event, attribute) / 1e6, event.count) for event in profile.key_averages()]
    return metrics, statistics_seconds, sorted(operators, key=lambda operator: -operator[1])


def start_seconds(device: str) -> float:
    """Seconds of the command from the end of the import of torch to the end of the first step."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--device", device, "--runs", folder, "--plain", "--max-minutes", "0"]  # ends after one step
        command = [sys.executable, "-c", RUN, "run", "quickstart", *flags]
        process = subprocess.run(command, capture_output=True, text=True)
        lines = next(Path(folder).glob("*/events.jsonl")).read_text().splitlines()
    first: dict[str, Any] = next(event for event in map(json.loads, lines) if event["event"] == "Step")
    return datetime.fromisoformat(first["time"]).timestamp() - float(process.stdout.split()[0])


def rows(bench: BenchOptions) -> Iterator[Row | str]:
    """The start, the epoch's seconds, and a row for each of its most expensive operators."""
    times = [start_seconds(bench.device) for _ in range(3)]
    yield {
        "start of convnn run quickstart": "from torch imported to the end of the first step",
        "median s": median(times),
        "worst s": max(times),
        "target s": TARGET,
    }
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as child:
        metrics, statistics_seconds, operators = child.submit(profile_epoch, bench.device).result()
    epoch_seconds = metrics["train_s"] + metrics["eval_s"]
    yield {
        "statistics of the quickstart's layers": "8 layers, 16 images, with the gradients of both branches",
        "ms": 1e3 * statistics_seconds,
        "of the epoch": f"{statistics_seconds / epoch_seconds:.2%}",
    }
    total = sum(seconds for _, seconds, _ in operators)
    yield (
        f"a quickstart epoch: {metrics['train_s']:.2f} s of training at {metrics['images_per_s']:.0f} images/s, "
        f"{metrics['eval_s']:.2f} s of evaluation; its operators under the profiler:"
    )
    for name, seconds, calls in operators[:OPERATORS]:
        yield {"operator": name, "ms": 1e3 * seconds, "share": f"{seconds / total:.0%}", "calls": calls}
