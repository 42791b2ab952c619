"""The numbers along a chart: where ticks lie, and how values, steps and times are written."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)  # seconds
DAY = TIME_STEPS[-1]


def ticks(low: float, high: float, limit: int, *, whole: bool = False) -> list[float]:
    """Return at most `limit` round values in [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    span = high - low
    if limit < 1 or not span > 0 or not math.isfinite(span):
        return []
    exponent = math.floor(math.log10(span / limit)) if span / limit > 1e-300 else -300
    for step in (mantissa * 10.0**e for e in range(exponent, exponent + 3) for mantissa in (1, 2, 5)):
        if (not whole or step >= 1) and len(values := _multiples(low, high, step)) <= limit:
            return values
    return []


def log_ticks(low: float, high: float, limit: int) -> list[float]:
    """Return ticks for a logarithmic axis; low, high and the ticks are powers of ten (0 is 1, -3 is 0.001)."""
    if high - low < 0.6:  # less than from 1 to 4: round values, as on a linear axis
        return [math.log10(value) for value in ticks(10.0**low, 10.0**high, limit) if value > 0]
    if high - low < 2.5:
        decades = range(math.floor(low), math.ceil(high) + 1)
        exponents = [decade + math.log10(mantissa) for decade in decades for mantissa in (1, 2, 5)]
        inside = [exponent for exponent in exponents if low <= exponent <= high]
        if len(inside) <= limit:
            return inside
    return ticks(low, high, limit, whole=True)


def time_ticks(low: float, high: float, limit: int) -> list[float]:
    """Return ticks in seconds at round minutes, hours or days."""
    span = high - low
    if span <= 5:
        return ticks(low, high, limit)
    if span > DAY * limit:
        return [day * DAY for day in ticks(low / DAY, high / DAY, limit, whole=True)]
    for step in TIME_STEPS:
        if len(values := _multiples(low, high, step)) <= limit:
            return values
    return []


def labels(values: list[float], *, log: bool = False) -> list[str]:
    """Return the ticks as text with as many decimals as their step needs; on a logarithmic axis each for itself."""
    if log:
        return [_significant(value) for value in values]
    largest = max(map(abs, values), default=0.0)
    step = min((b - a for a, b in pairwise(values)), default=largest or 1.0)
    if largest >= 1e15 or 0 < largest < 1e-3 or step <= 0:
        return _texts(values, _significant)
    units = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
    scale, unit = next(((scale, unit) for scale, unit in units if largest >= 10 * scale), (1.0, ""))
    decimals = max(0, -math.floor(math.log10(step / scale) + 1e-9))
    return _texts(values, lambda value: f"{value / scale:.{decimals}f}{unit}")


def _texts(values: list[float], text: Callable[[float], str]) -> list[str]:
    """Return the text of each value, and "0" for zero."""
    return ["0" if value == 0 else text(value) for value in values]


def _significant(value: float) -> str:
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")


def time_labels(values: list[float]) -> list[str]:
    """Return ticks in seconds as text, all in the unit that suits the largest: 0, 0.5 h, 1 h."""
    largest = max(values, default=0.0)
    units = (("d", 86400), ("h", 3600), ("m", 60))
    unit, seconds = next(((unit, seconds) for unit, seconds in units if largest >= 2 * seconds), ("s", 1))
    return _texts(values, lambda value: f"{value / seconds:.3g} {unit}")


def _multiples(low: float, high: float, step: float) -> list[float]:
    slack = step * 1e-9  # a bound that is itself a multiple counts, whatever rounding says
    first, last = math.ceil((low - slack) / step), math.floor((high + slack) / step)
    return [index * step for index in range(first, min(last, first + 1000) + 1)]
