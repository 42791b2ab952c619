"""JSON as every command and file of ours spells it: one document that any reader accepts, whatever a value is.

Numbers that are not finite are the words NaN, Infinity and -Infinity, times are UTC, and text that is no Unicode, as a
file name may be, has its bytes as visible escapes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from enum import Enum
from typing import Any

LARGEST_INT = 1 << 256  # a larger integer is text: Python refuses to write one of more than 4,300 digits


def iso(moment: datetime) -> str:
    """Return a time as files and JSON spell it: 2026-11-22T15:15:00.123Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def json_number(value: float) -> float | str:
    """Return a number as our JSON spells it: those that are not finite are words."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def json_value(value: Any) -> Any:
    """Return a value as JSON holds it: TOML also has dates, Python has paths, sets and enumerations."""
    match value:
        case None | bool():
            return value
        case Enum():
            return json_value(value.value)
        case str():
            return _unicode(value)
        case int():
            return value if abs(value) < LARGEST_INT else hex(value)
        case float():
            return json_number(value)
        case datetime() if value.tzinfo is not None:
            return iso(value)
        case date() | time():
            return value.isoformat()
        case Mapping():
            return {_unicode(str(key)): json_value(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [json_value(item) for item in value]
    return _unicode(str(value))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON text in ASCII."""
    return json.dumps(json_value(value), indent=indent, allow_nan=False)


def check_depth(value: Any, levels: int) -> None:
    """Raise ValueError where lists and tables are nested more than `levels` deep, which ends programs."""
    level = [value]
    for _ in range(levels + 1):
        level = [
            item
            for part in level
            if isinstance(part, dict | list)
            for item in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {levels} levels deep")


def _unicode(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
