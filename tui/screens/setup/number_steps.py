"""The steps of a number: multiples of its step, or 1, 2 and 5 times powers of ten for one that spans decades."""

from __future__ import annotations

import math

from convnn.config.options import Option


def step_number(option: Option, text: str, direction: int) -> str:
    """Return the text one step up (direction 1) or down (-1), within the option's bounds.

    A text that is no number becomes the default; several values stay as they are.
    """
    if "," in text or ".." in text:
        return text
    try:
        value = option.parse(text)
    except ValueError:
        return option.text(option.default)
    if value is None:
        if direction < 0:
            return text
        return option.text(_typed(option, _lowest(option)))
    if not isinstance(value, int | float) or not math.isfinite(value):
        return option.text(option.default)
    new = _next_multiple(value, option.step, direction) if option.step else _next_in_decades(value, direction)
    low, high = option.lower, option.upper
    if low is not None and (new < low or (option.open_lower and new <= low)):
        if option.optional:
            return "none"
        new = value if option.open_lower else low
    if high is not None and (new > high or (option.open_upper and new >= high)):
        new = value if option.open_upper else high
    return option.text(_typed(option, new))


def _lowest(option: Option) -> float:
    """The first value above "none"."""
    if option.step and option.step > 1:
        return option.step
    return option.lower if option.lower is not None and not option.open_lower else 1


def _typed(option: Option, value: float) -> int | float:
    return int(value) if option.kind == "int" else float(f"{value:.10g}")


def _next_multiple(value: float, step: float, direction: int) -> float:
    ratio = value / step
    if math.isclose(ratio, round(ratio), abs_tol=1e-9):
        return (round(ratio) + direction) * step
    if direction < 0:
        return math.floor(ratio) * step
    return math.ceil(ratio) * step


def _next_in_decades(value: float, direction: int) -> float:
    """The next of ... 0.1, 0.2, 0.5, 1, 2, 5, 10 ...; from 0 up to 1e-6."""
    if value <= 0:
        return 1e-6 if direction > 0 else value
    exponent = math.floor(math.log10(value) + 1e-12)
    steps = [factor * 10.0**power for power in range(exponent - 1, exponent + 2) for factor in (1, 2, 5)]
    if direction > 0:
        return next(step for step in steps if step > value * (1 + 1e-9))
    smaller = [step for step in steps if step < value * (1 - 1e-9)]
    if smaller[-1] < 1e-9:
        return 0.0
    return smaller[-1]
