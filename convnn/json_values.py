"""Values as our JSON spells them, whatever a file of a person holds: every `--json` document is written from these."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

from convnn.events import iso

LARGEST_INT = 1 << 256  # a larger integer is text: Python refuses to write one of more than 4,300 digits


def json_value(value: Any) -> Any:
    """Return a value as JSON holds it, mappings and sequences with everything in them.

    A number that is not finite is the string "NaN", "Infinity" or "-Infinity"; a time with a time zone is in UTC, and
    one without, a date, or anything else that JSON lacks is its text.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < LARGEST_INT else hex(value)
    if isinstance(value, float):
        return json_number(value)
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, datetime) and value.tzinfo is not None:
        return iso(value)
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value)


def json_number(value: float) -> float | str:
    """Return a number as our JSON spells it: those that are not finite are words."""
    if math.isfinite(value):
        return float(value)
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
