"""Names of runs in little room."""

from __future__ import annotations

import re

from convnn.text import fit

_TIME = re.compile(r"^\d{8}-\d{6}-")


def without_time(name: str) -> str:
    """Return the name of a run without the time that it begins with."""
    return _TIME.sub("", name)


def short_name(name: str, width: int) -> str:
    """Return the name in at most `width` cells: first without its time, then without its middle."""
    if len(name) <= width:
        return name
    name = without_time(name)
    if len(name) <= width or width < 9:
        return fit(name, width)
    return f"{name[: width - 6]}…{name[-5:]}"
