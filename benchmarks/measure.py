"""Measure work in child processes that take turns: median times after warm-up, and peak memory.

The children are forked from a server that has imported torch and run nothing, so that each has its own allocator and
thread pools, and starts in milliseconds.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import multiprocessing
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

WARM_UP = 2  # calls before the first that counts
TURN_SECONDS = 0.02  # a turn repeats the call for at least this long
CALLS, CALLS_SECONDS = 500, 5.0  # calls of each contender in one process, unless they take longer together
PRELOADED = ("torch", "torchvision", "benchmarks.layers", "benchmarks.step", "benchmarks.inputs", "benchmarks.epoch")


@dataclass(frozen=True)
class BenchOptions:
    """The device to measure on, the rounds to take the median of, and whether smaller cases are enough."""

    device: str = "cpu"
    rounds: int = 7
    quick: bool = False


@dataclass(frozen=True)
class Work:
    """What a child runs, and the bytes of its results, which do not count as working memory."""

    run: Callable[[], object]
    output_bytes: int = 0


@dataclass(frozen=True)
class Contender:
    """One side of a comparison: `make(device, *arguments)` makes its work in the child.

    With `keeps_memory` the allocator is set as `convnn` sets it; otherwise it is left as torch ships it.
    """

    make: Callable[..., Work]
    arguments: tuple[Any, ...] = ()
    keeps_memory: bool = True


@dataclass(frozen=True)
class Measurement:
    """Median seconds of a call, those of every round, and peak bytes beyond inputs and results."""

    seconds: float
    rounds: tuple[float, ...]
    memory: int


def measure_interleaved(
    contenders: Sequence[Contender], bench: BenchOptions, *, stop_ratio: float | None = None
) -> list[Measurement]:
    """Measure the contenders in rounds, every second round in reverse order.

    With `stop_ratio`, three rounds are enough if in each the first took more than that many times as long as the last.
    """
    children = [_Child(contender, bench.device) for contender in contenders]
    try:
        memory = [child.ask("memory") for child in children]
        times: list[list[float]] = [[] for _ in contenders]
        for turn in range(bench.rounds):
            for index in range(len(contenders))[:: -1 if turn % 2 else 1]:
                times[index].append(children[index].ask("seconds"))
            pairs = zip(times[0], times[-1], strict=True)
            if stop_ratio is not None and turn == 2 and all(first > stop_ratio * last for first, last in pairs):
                break
    finally:
        for child in children:
            child.close()
    return [Measurement(median(t), tuple(t), int(peak)) for t, peak in zip(times, memory, strict=True)]


def measure_calls(contenders: Sequence[Contender], bench: BenchOptions) -> list[float]:
    """Median seconds of single calls that alternate in one process.

    For calls of a few milliseconds or less: threads of another process that still spin after its turn, or wake up on
    this one's core, can double the time of a whole turn of `measure_interleaved`.
    """
    child = _Child(contenders, bench.device, _serve_alternating)
    try:
        return [child.ask(str(index)) for index in range(len(contenders))]
    finally:
        child.close()


class _Child:
    """A process that measures its work on request."""

    def __init__(
        self, work: Contender | Sequence[Contender], device: str, serve: Callable[..., None] | None = None
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        self.pipe, child_pipe = context.Pipe()
        self.process = context.Process(target=serve or _serve, args=(child_pipe, work, device))
        self.process.start()
        child_pipe.close()

    def ask(self, request: str) -> float:
        self.pipe.send(request)
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            raise RuntimeError("a measuring process ended: see its output above") from None

    def close(self) -> None:
        self.pipe.close()  # ends its loop
        self.process.join()


def _serve(pipe: Connection, contender: Contender, device: str) -> None:
    """Answer "memory" and "seconds" until the pipe is closed."""
    import torch

    from convnn.training import allocator

    if contender.keeps_memory:
        allocator.keep_memory()
    torch.manual_seed(0)
    work = contender.make(torch.device(device), *contender.arguments)
    for _ in range(WARM_UP):
        seconds = _seconds(work, 1, device)
    calls = max(1, math.ceil(TURN_SECONDS / max(seconds, 1e-6)))
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        pipe.send(_peak_memory(work, device) if request == "memory" else _seconds(work, calls, device))


def _serve_alternating(pipe: Connection, contenders: Sequence[Contender], device: str) -> None:
    """Time the contenders alternately, with convnn's allocator settings, then answer with the median of an index."""
    import torch

    from convnn.training import allocator

    allocator.keep_memory()
    torch.manual_seed(0)
    works = [contender.make(torch.device(device), *contender.arguments) for contender in contenders]
    times: list[list[float]] = [[] for _ in contenders]
    start = time.perf_counter()
    for call in range(WARM_UP + CALLS):
        if call >= 2 * WARM_UP and time.perf_counter() - start >= CALLS_SECONDS:
            break
        for work, work_times in zip(works, times, strict=True):
            work_times.append(_seconds(work, 1, device))
    while True:
        try:
            pipe.send(median(times[int(pipe.recv())][WARM_UP:]))
        except EOFError:
            return


def _seconds(work: Work, calls: int, device: str) -> float:
    """Mean seconds of consecutive calls."""
    _synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        work.run()
    _synchronize(device)
    return (time.perf_counter() - start) / calls


def _peak_memory(work: Work, device: str) -> int:
    """Peak bytes of a call, beyond what was allocated before and its results."""
    if device != "cpu":
        torch = importlib.import_module("torch")
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work.run()
        return max(0, torch.cuda.max_memory_allocated() - before - work.output_bytes)
    ctypes.CDLL(None).malloc_trim(0)  # free memory that earlier calls left on the heap would hide what this one takes
    reset_peak_memory()
    before = memory_status("VmRSS")
    work.run()
    return max(0, memory_status("VmHWM") - before - work.output_bytes)


def _synchronize(device: str) -> None:
    if device != "cpu":
        importlib.import_module("torch").cuda.synchronize()


def reset_peak_memory() -> None:
    """Reset this process's peak resident memory (VmHWM) to its present one."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def memory_status(field: str) -> int:
    """Bytes of this process's memory, by a field of /proc/self/status."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert match
    return int(match[1]) * 1024
