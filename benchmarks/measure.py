"""Work measured in child processes that take turns: each side as a person meets it, warm, and the medians.

The children are forked from a server that has imported torch and run nothing, so that each has an allocator and thread
pools of its own, and starts in milliseconds.
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

WARM = 2  # calls before the first that counts
TURN = 0.02  # seconds that a turn lasts at least, of however many calls
CALLS, CALLS_SECONDS = 500, 5.0  # calls of each side in one process, unless they take longer together
PRELOADED = ("torch", "torchvision", "benchmarks.layers", "benchmarks.step", "benchmarks.inputs", "benchmarks.epoch")


@dataclass(frozen=True)
class How:
    """What to measure on, how often, and whether only a first look is wanted."""

    device: str = "cpu"
    rounds: int = 7
    quick: bool = False


@dataclass(frozen=True)
class Work:
    """What a child does in a turn, and the bytes of what it gives, which are not counted as working memory."""

    run: Callable[[], object]
    gives: int = 0


@dataclass(frozen=True)
class Side:
    """A side of a comparison: `make(device, *arguments)` makes its work in the child.

    With `keeps` the allocator is set as `convnn` sets it, else it is left as torch ships it.
    """

    make: Callable[..., Work]
    arguments: tuple[Any, ...] = ()
    keeps: bool = True


@dataclass(frozen=True)
class Measured:
    """Median seconds of a call, all of them, and the most bytes it held beyond what was there and what it gives."""

    seconds: float
    rounds: tuple[float, ...]
    memory: int


def take_turns(sides: Sequence[Side], how: How, *, clear: float | None = None) -> list[Measured]:
    """Measure the sides in rounds, every other one in reverse order.

    With `clear`, three rounds are enough if in each the first side took more than that many times the last.
    """
    children = [_Child(side, how.device) for side in sides]
    try:
        memory = [child.ask("memory") for child in children]
        times: list[list[float]] = [[] for _ in sides]
        for turn in range(how.rounds):
            for at in range(len(sides))[:: -1 if turn % 2 else 1]:
                times[at].append(children[at].ask("seconds"))
            pairs = zip(times[0], times[-1], strict=True)
            if clear is not None and turn == 2 and all(first > clear * last for first, last in pairs):
                break
    finally:
        for child in children:
            child.close()
    return [Measured(median(each), tuple(each), int(held)) for each, held in zip(times, memory, strict=True)]


def call_by_call(sides: Sequence[Side], how: How) -> list[float]:
    """Median seconds of single calls that take turns in one process.

    For work of some milliseconds and less: threads of another process that still spin after its turn, or wake on the
    core of this one's, may double the time of a whole turn of `take_turns`.
    """
    child = _Child(sides, how.device, _alternate)
    try:
        return [child.ask(str(at)) for at in range(len(sides))]
    finally:
        child.close()


class _Child:
    """A process that measures its work when asked."""

    def __init__(self, of: Side | Sequence[Side], device: str, serve: Callable[..., None] | None = None) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve or _serve, args=(theirs, of, device))
        self.process.start()
        theirs.close()

    def ask(self, what: str) -> float:
        self.pipe.send(what)
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            raise RuntimeError("a measuring process ended; what it said is above") from None

    def close(self) -> None:
        self.pipe.close()  # ends its loop
        self.process.join()


def _serve(pipe: Connection, side: Side, device: str) -> None:
    """Answer what is asked until the other end closes."""
    import torch

    from convnn.training import allocator

    if side.keeps:
        allocator.keep_memory()
    torch.manual_seed(0)
    work = side.make(torch.device(device), *side.arguments)
    for _ in range(WARM):
        once = _seconds(work, 1, device)
    calls = max(1, math.ceil(TURN / max(once, 1e-6)))
    while True:
        try:
            what = pipe.recv()
        except EOFError:
            return
        pipe.send(_memory(work, device) if what == "memory" else _seconds(work, calls, device))


def _alternate(pipe: Connection, sides: Sequence[Side], device: str) -> None:
    """Measure the sides by turns, with the allocator that ours has, and answer with a side's median when asked."""
    import torch

    from convnn.training import allocator

    allocator.keep_memory()
    torch.manual_seed(0)
    works = [side.make(torch.device(device), *side.arguments) for side in sides]
    times: list[list[float]] = [[] for _ in sides]
    started = time.perf_counter()
    while len(times[0]) < WARM + CALLS and (len(times[0]) < 2 * WARM or time.perf_counter() - started < CALLS_SECONDS):
        for work, each in zip(works, times, strict=True):
            each.append(_seconds(work, 1, device))
    while True:
        try:
            pipe.send(median(times[int(pipe.recv())][WARM:]))
        except EOFError:
            return


def _seconds(work: Work, calls: int, device: str) -> float:
    """Seconds of a call, the mean of some in a row."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        work.run()
    _wait(device)
    return (time.perf_counter() - start) / calls


def _memory(work: Work, device: str) -> int:
    """Bytes that a call holds at most, beyond what was there before and what it gives."""
    if device != "cpu":
        torch = importlib.import_module("torch")
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work.run()
        return max(0, torch.cuda.max_memory_allocated() - before - work.gives)
    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls left on the heap would hide what this one takes
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest size so far
    before = resident("VmRSS")
    work.run()
    return max(0, resident("VmHWM") - before - work.gives)


def _wait(device: str) -> None:
    if device != "cpu":
        importlib.import_module("torch").cuda.synchronize()


def resident(field: str) -> int:
    """Bytes of this process's memory by a field of /proc/self/status."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024
