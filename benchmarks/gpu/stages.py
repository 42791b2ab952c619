"""The stages in the order they run, each with its part of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.gpu import ceilings, correctness, fused, modes, product, speed
from benchmarks.gpu.bench import GpuBench
from benchmarks.table import Row


@dataclass(frozen=True)
class Stage:
    """Rows to measure, and the seconds that they may take of nine minutes."""

    rows: Callable[[GpuBench], Iterator[Row | str]]
    seconds: float


STAGES = {
    "ceilings": Stage(ceilings.rows, 20),
    "fused": Stage(fused.rows, 60),
    "speed": Stage(speed.rows, 90),
    "kernels": Stage(speed.kernel_rows, 35),
    "correct": Stage(correctness.correct_rows, 60),
    "amp": Stage(correctness.amp_rows, 15),
    "syncs": Stage(correctness.sync_rows, 25),
    "product": Stage(product.rows, 90),
    "memory": Stage(speed.memory_rows, 30),
    "modes": Stage(modes.rows, 150),
}
