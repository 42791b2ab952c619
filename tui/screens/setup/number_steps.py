"""What `up` and `down` make of a number: the next multiple of its step, or of 1, 2 and 5 where it spans decades."""

from __future__ import annotations

import math

from convnn.config.options import Option


def stepped(option: Option, text: str, by: int) -> str:
    """The word one step up (by 1) or down (by -1), within the option's bounds; nonsense becomes the default."""
    try:
        value = option.parse(text)
    except ValueError:
        return option.text(option.default)
    if value is None:
        return text if by < 0 else option.text(_kind(option, _start(option)))
    if not isinstance(value, int | float) or not math.isfinite(value):
        return option.text(option.default)
    new = _multiple(value, option.step, by) if option.step else _decade(value, by)
    low, high = option.lower, option.upper
    if low is not None and (new < low or (option.open_lower and new <= low)):
        if option.optional:
            return "none"
        new = value if option.open_lower else low
    if high is not None and (new > high or (option.open_upper and new >= high)):
        new = value if option.open_upper else high
    return option.text(_kind(option, new))


def _start(option: Option) -> float:
    if option.step and option.step > 1:
        return option.step
    return option.lower if option.lower is not None and not option.open_lower else 1


def _kind(option: Option, value: float) -> int | float:
    return int(value) if option.kind == "int" else float(f"{value:.10g}")


def _multiple(value: float, step: float, by: int) -> float:
    whole = value / step
    near = round(whole) if math.isclose(whole, round(whole), abs_tol=1e-9) else None
    if near is not None:
        return (near + by) * step
    return (math.floor(whole) if by < 0 else math.ceil(whole)) * step


def _decade(value: float, by: int) -> float:
    """The next of ... 0.1, 0.2, 0.5, 1, 2, 5, 10 ...; from 0 to the smallest that is of use."""
    if value <= 0:
        return 1e-6 if by > 0 else value
    exponent = math.floor(math.log10(value) + 1e-12)
    steps = [m * 10.0**e for e in range(exponent - 1, exponent + 2) for m in (1, 2, 5)]
    if by > 0:
        return next(step for step in steps if step > value * (1 + 1e-9))
    smaller = [step for step in steps if step < value * (1 - 1e-9)]
    return 0.0 if smaller[-1] < 1e-9 else smaller[-1]
