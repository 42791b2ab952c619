"""Where the time of a quickstart epoch goes, and how long `convnn run` takes from torch's import to the first step."""

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

from benchmarks.measure import How
from benchmarks.table import Row
from convnn.events import Epoch
from convnn.presets import resolve, store
from convnn.training.trainer import Trainer

OPERATORS = 15  # how many the profile shows
TARGET = "2"
# the command as it is, which reads its own modules before torch, in a process that notes when torch was there
RUN = "from convnn.cli import main; import torch, time; print(time.time(), flush=True); main()"


def profiled(device: str) -> tuple[dict[str, float], list[tuple[str, float, int]]]:
    """Figures of the second epoch, and of the third its operators: name, seconds of their own, calls."""
    words = {"training.num_epochs": "3", "runtime.device": device}
    stream = Trainer.from_config(resolve.resolve(store.read("quickstart"), words).checked()).run()

    def finish() -> Epoch:
        return next(event for event in stream if isinstance(event, Epoch))

    finish()
    figures = finish().metrics
    with torch.profiler.profile() as profile:
        finish()
    on = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    found = [(each.key, getattr(each, on) / 1e6, each.count) for each in profile.key_averages()]
    return figures, sorted(found, key=lambda each: -each[1])


def start(device: str) -> float:
    """Seconds from the end of torch's import to that of the first step, of the command as a person types it."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--device", device, "--runs", folder, "--plain", "--max-minutes", "0"]  # ends after one step
        words = [sys.executable, "-c", RUN, "run", "quickstart", *flags]
        done = subprocess.run(words, capture_output=True, text=True)
        lines = next(Path(folder).glob("*/events.jsonl")).read_text().splitlines()
    first: dict[str, Any] = next(event for event in map(json.loads, lines) if event["event"] == "Step")
    return datetime.fromisoformat(first["time"]).timestamp() - float(done.stdout.split()[0])


def rows(how: How) -> Iterator[Row | str]:
    """The start, the epoch's seconds, and a row for each of its most expensive operators."""
    times = [start(how.device) for _ in range(3)]
    yield {
        "start of convnn run quickstart": "torch imported, to the end of the first step",
        "median s": median(times),
        "worst s": max(times),
        "target s": TARGET,
    }
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as child:
        figures, operators = child.submit(profiled, how.device).result()
    total = sum(seconds for _, seconds, _ in operators)
    yield (
        f"a quickstart epoch: {figures['train_s']:.2f} s of training at {figures['images_per_s']:.0f} images/s, "
        f"{figures['eval_s']:.2f} s of evaluation; its operators under the profiler:"
    )
    for name, seconds, calls in operators[:OPERATORS]:
        yield {"operator": name, "ms": 1e3 * seconds, "share": f"{seconds / total:.0%}", "calls": calls}
