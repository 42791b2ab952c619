"""Growth of time and memory with positions, K, channels, batch and candidates: fitted exponents, and a chart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.layers import work
from benchmarks.measure import BenchOptions, Contender, measure_interleaved
from benchmarks.table import MIB, Row
from convnn.charts.chart import Series, draw

DEFAULTS = {"side": 32, "K": 9, "channels": 32, "batch": 4}
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


def sweep(
    bench: BenchOptions, values: Sequence[int], variable: str, options: dict[str, Any]
) -> tuple[list[float], list[float]]:
    """Seconds, and bytes beyond input and output, of ConvNN2d at each value of a variable."""
    times, memory = [], []
    for value in values:
        layer_options = DEFAULTS | options | {variable: value}
        side, channels, batch = (layer_options.pop(name) for name in ("side", "channels", "batch"))
        contender = Contender(work, (True, "ConvNN", layer_options, (channels, channels, side), batch))
        measurement = measure_interleaved([contender], BenchOptions(bench.device, ROUNDS))[0]
        times.append(measurement.seconds)
        memory.append(float(measurement.memory))
    return times, memory


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Slope of log y over log x by least squares, over the last three points: the first are dominated by overhead."""
    logs = [(math.log(x), math.log(y)) for x, y in zip(xs, ys, strict=True) if y > 0][-3:]
    if len(logs) < 2:
        return math.nan
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def rows(bench: BenchOptions) -> Iterator[Row | str]:
    """A row for each variable, and charts of time and memory over N for each sampling."""
    sides = SIDES[:-1] if bench.quick else SIDES
    time_series, memory_series = [], []
    for sampling, options in SAMPLINGS.items():
        positions = [side * side for side in sides]
        times, memory = sweep(bench, sides, "side", options)
        yield _row(f"{sampling}, N = {positions[0]} to {positions[-1]}", positions, times, memory)
        log_positions = [math.log2(n) for n in positions]
        time_series.append(Series(sampling, log_positions, [1e3 * seconds for seconds in times]))
        memory_series.append(Series(sampling, log_positions, [size / MIB for size in memory]))
    if not bench.quick:
        for variable, values in SWEEPS.items():
            yield _row(f"all, {variable} = {values[0]} to {values[-1]}", values, *sweep(bench, values, variable, {}))
        results = sweep(bench, CANDIDATES, "num_samples", {"sampling_type": "random"})
        yield _row(f"random, candidates = {CANDIDATES[0]} to {CANDIDATES[-1]}", CANDIDATES, *results)
    for unit, series in (("ms", time_series), ("MiB", memory_series)):
        chart = draw(series, WIDTH, HEIGHT, x="log2 N", log_y=True, empty_text="no measurements")
        yield f"{unit} over log2 N\n\n" + "\n".join(line.plain.rstrip() for line in chart.lines)


def _row(name: str, xs: Sequence[int], times: list[float], memory: list[float]) -> Row:
    return {
        "growth of ConvNN2d": name,
        "ms": " ".join(f"{1e3 * seconds:.1f}" for seconds in times),
        "exponent of time": exponent(xs, times),
        "MiB": " ".join(f"{size / MIB:.1f}" for size in memory),
        "exponent of memory": exponent(xs, memory),
    }
