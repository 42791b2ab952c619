"""The numbers along a chart: where ticks go and how values, steps and times are written."""

from __future__ import annotations

import math
from itertools import pairwise

_TIMES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)  # seconds


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """At most `most` round values in [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    span = high - low
    if most < 1 or not span > 0 or not math.isfinite(span):
        return []
    exponent = math.floor(math.log10(span / most)) if span / most > 1e-300 else -300
    for step in (m * 10.0**e for e in range(exponent, exponent + 3) for m in (1, 2, 5)):
        if (not whole or step >= 1) and len(found := _multiples(low, high, step)) <= most:
            return found
    return []


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Ticks for a logarithmic axis; low and high, and the answer, are powers of ten (0 is 1, -3 is 0.001)."""
    if high - low < 0.6:  # less than from 1 to 4: round values, as on a linear axis
        return [math.log10(v) for v in ticks(10.0**low, 10.0**high, most) if v > 0]
    if high - low < 2.5:
        decades = range(math.floor(low), math.ceil(high) + 1)
        fine = [e + math.log10(m) for e in decades for m in (1, 2, 5) if low <= e + math.log10(m) <= high]
        if len(fine) <= most:
            return fine
    return ticks(low, high, most, whole=True)


def time_ticks(low: float, high: float, most: int) -> list[float]:
    """Ticks in seconds at round minutes, hours or days."""
    if high - low <= 5 or high - low > _TIMES[-1] * most:
        day = _TIMES[-1] if high - low > 5 else 1
        return [t * day for t in ticks(low / day, high / day, most, whole=day > 1)]
    return next((found for step in _TIMES if len(found := _multiples(low, high, step)) <= most), [])


def labels(values: list[float], *, log: bool = False) -> list[str]:
    """The ticks in words, all with as many decimals as their step needs; on a logarithmic axis each for itself."""
    if log:
        return [f"{v:.3g}".replace("e-0", "e-").replace("e+0", "e") for v in values]
    step = min((b - a for a, b in pairwise(values)), default=abs(values[0]) if values else 1.0)
    largest = max(map(abs, values), default=0.0)
    if largest >= 1e15 or 0 < largest < 1e-3 or step <= 0:
        return ["0" if v == 0 else f"{v:.3g}".replace("e-0", "e-").replace("e+0", "e") for v in values]
    scale, unit = next(((s, u) for s, u in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if largest >= 10 * s), (1.0, ""))
    decimals = max(0, -math.floor(math.log10(step / scale) + 1e-9))
    return ["0" if v == 0 else f"{v / scale:.{decimals}f}{unit}" for v in values]


def time_labels(values: list[float]) -> list[str]:
    """Ticks in seconds, all in the unit that suits the largest: 0, 0.5 h, 1 h."""
    largest = max(values, default=0.0)
    unit, size = next(((u, s) for u, s in (("d", 86400), ("h", 3600), ("m", 60)) if largest >= 2 * s), ("s", 1))
    return ["0" if v == 0 else f"{v / size:.3g} {unit}" for v in values]


def _multiples(low: float, high: float, step: float) -> list[float]:
    slack = step * 1e-9  # a bound that is itself a multiple counts, whatever rounding says
    first, last = math.ceil((low - slack) / step), math.floor((high + slack) / step)
    return [i * step for i in range(first, min(last, first + 1000) + 1)]
