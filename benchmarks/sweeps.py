"""Sweeps and the queue: planning, listing a long queue, and what two slots do beside one on the same cores.

python -m benchmarks.sweeps
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks import table
from convnn.config.schema import RunConfig
from convnn.config.toml import dumps
from convnn.presets.resolve import build_config
from convnn.sweeps.file import find_sweep, parse_sweep
from convnn.sweeps.plan import plan_sweep
from convnn.sweeps.queue import Entry, Queue
from convnn.sweeps.queue_view import queue_rows

ROUNDS = 5
ENTRIES = 500
RUNS, EPOCHS = 4, 3  # of the throughput
LARGE = """
base = "quickstart"
[axes]
layer.K = { from = 1, to = 10 }
branching.ratio = { from = 0, to = 1, steps = 100 }
optimizer.lr = { from = 1e-5, to = 1e-3, steps = 10, log = true }
"""
TINY = {
    "model.name": "resnet18",
    "model.width": 0.25,
    "layer.type": "ConvNN",
    "data.dataset": "digits",
    "data.resize": 8,
    "data.limit": 400,
    "training.batch_size": 32,
    "training.num_epochs": EPOCHS,
}


def main() -> None:
    results: list[table.Row] = []
    for line in table.format_rows(rows(), results):
        print(line, flush=True)


def rows() -> Iterator[table.Row | str]:
    """Yield the median of each measurement; a command counts its whole process."""
    plan = [sys.executable, "-P", "-m", "convnn", "sweep", "check", "n", "--json"]
    yield {"sweeps": "`convnn sweep check n`: 256 cells, the whole process", "s": _median(lambda: _run(plan))}
    yield {"sweeps": "planning the 256 cells of n", "s": _median(lambda: plan_sweep(find_sweep("n")))}
    yield {"sweeps": "planning 10,000 cells", "s": _median(lambda: plan_sweep(parse_sweep(LARGE, "large")), rounds=1)}
    with tempfile.TemporaryDirectory() as folder:
        queue = Queue(Path(folder))
        queue.add([Entry(config=_config(seed=index), name=f"run-{index}") for index in range(ENTRIES)])
        yield {"sweeps": f"reading a queue of {ENTRIES}", "s": _median(lambda: queue_rows(queue))}
        listing = [sys.executable, "-P", "-m", "convnn", "queue", "--runs", folder]
        yield {"sweeps": f"`convnn queue`: {ENTRIES} entries, the whole process", "s": _median(lambda: _run(listing))}
    seconds = {slots: _throughput(slots) for slots in (1, 2)}
    for slots, value in seconds.items():
        name = f"{RUNS} runs of {EPOCHS} epochs, {os.cpu_count()} cores, slots {slots}"
        yield {"sweeps": name, "s": value}
    yield {"sweeps": "throughput of 2 slots beside 1", "s": seconds[1] / seconds[2]}


def _config(*, seed: int) -> str:
    config: RunConfig = build_config({**TINY, "training.seed": seed})
    return dumps(config, whole=True)


def _throughput(slots: int) -> float:
    """Return the seconds in which a worker empties a queue of RUNS runs."""
    with tempfile.TemporaryDirectory() as folder:
        queue = Queue(Path(folder))
        queue.add([Entry(config=_config(seed=index), name=f"run-{index}") for index in range(RUNS)])
        command = [sys.executable, "-P", "-m", "convnn", "work", "--once", "--slots", str(slots), "--runs", folder]
        start = time.perf_counter()
        _run(command)
        seconds = time.perf_counter() - start
        left = len(queue.entries()[0]) + len(queue.ended())
        assert not left, f"{left} runs did not end"
        return seconds


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _median(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    def seconds() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return median(seconds() for _ in range(rounds))


if __name__ == "__main__":
    main()
