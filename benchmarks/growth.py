"""How time and memory grow with positions, K, channels, batch and candidates: fitted exponents, and a chart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from benchmarks.layers import KINDS
from benchmarks.measure import How, Side, Work, take_turns
from benchmarks.table import MIB, Row
from convnn.charts.chart import Series, draw

START = {"side": 32, "K": 9, "channels": 32, "batch": 4}
SAMPLINGS: dict[str, dict[str, Any]] = {
    "all": {},
    "random": {"sampling_type": "random", "num_samples": 64},
    "spatial": {"sampling_type": "spatial", "num_samples": 8},
}
SIDES = (8, 16, 32, 64, 128)
SWEEPS: dict[str, tuple[int, ...]] = {"K": (2, 4, 8, 16), "channels": (16, 32, 64, 128), "batch": (4, 8, 16, 32)}
CANDIDATES = (64, 128, 256, 512, 1024)
WIDTH, HEIGHT = 78, 16
ROUNDS = 3


def work(device: torch.device, side: int, K: int, channels: int, batch: int, options: dict[str, Any]) -> Work:
    """ConvNN2d of as many channels out as in, forward and backward."""
    layer = KINDS["ConvNN"][1](channels, channels, K=K, **options).to(device)
    x = torch.randn(batch, channels, side, side, device=device, requires_grad=True)
    grad = torch.randn(batch, channels, side, side, device=device)

    def run() -> None:
        layer(x).backward(grad)
        x.grad = None
        layer.zero_grad(set_to_none=True)

    return Work(run, grad.nbytes + x.nbytes + sum(p.nbytes for p in layer.parameters()))


def sweep(how: How, xs: Sequence[int], changed: str, options: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Seconds, and bytes beyond input and output, at each x."""
    times, held = [], []
    for x in xs:
        at = START | ({changed: x} if changed in START else {})
        more = options | ({"num_samples": x} if changed == "num_samples" else {})
        found = take_turns([Side(work, (*at.values(), more))], How(how.device, ROUNDS))[0]
        times.append(found.seconds)
        held.append(float(found.memory))
    return times, held


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Slope of log y over log x by least squares, over the last three points: small ones are all overhead."""
    logs = [(math.log(x), math.log(y)) for x, y in zip(xs, ys, strict=True) if y > 0][-3:]
    if len(logs) < 2:
        return math.nan
    middle_x, middle_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return sum((x - middle_x) * (y - middle_y) for x, y in logs) / sum((x - middle_x) ** 2 for x, _ in logs)


def rows(how: How) -> Iterator[Row | str]:
    """A row for each quantity that grows, and a chart of the milliseconds against N for each sampling."""
    sides = SIDES[:-1] if how.quick else SIDES
    lines, held = [], []
    for sampling, options in SAMPLINGS.items():
        positions = [side * side for side in sides]
        times, memory = sweep(how, sides, "side", options)
        yield _row(f"{sampling}, N = {positions[0]} to {positions[-1]}", positions, times, memory)
        doubled = [math.log2(n) for n in positions]
        lines.append(Series(sampling, doubled, [1e3 * each for each in times]))
        held.append(Series(sampling, doubled, [each / MIB for each in memory]))
    if not how.quick:
        for changed, values in SWEEPS.items():
            yield _row(f"all, {changed} = {values[0]} to {values[-1]}", values, *sweep(how, values, changed, {}))
        random = {"sampling_type": "random"}
        found = sweep(how, CANDIDATES, "num_samples", random)
        yield _row(f"random, candidates = {CANDIDATES[0]} to {CANDIDATES[-1]}", CANDIDATES, *found)
    for title, series in (("milliseconds", lines), ("MiB", held)):
        chart = draw(series, WIDTH, HEIGHT, x="log2 N", log_y=True, empty_text="nothing measured")
        yield f"{title} against log2 N\n\n" + "\n".join(line.plain.rstrip() for line in chart.lines)


def _row(name: str, xs: Sequence[int], times: list[float], memory: list[float]) -> Row:
    return {
        "growth of ConvNN2d": name,
        "ms": " ".join(f"{1e3 * each:.1f}" for each in times),
        "exponent of time": exponent(xs, times),
        "MiB": " ".join(f"{each / MIB:.1f}" for each in memory),
        "exponent of memory": exponent(xs, memory),
    }
