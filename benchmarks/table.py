"""Rows as Markdown, what they were measured on, and an earlier file of them to compare with."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import How

MIB = 2**20
Row = dict[str, Any]
"""Figures by column, the first of them the row's name; a list is saved and not shown."""


def printed(found: Iterable[Row | str], kept: list[Row]) -> Iterator[str]:
    """Lines of Markdown as the rows come, which are also added to `kept`; a new set of columns begins a new table."""
    columns: list[str] = []
    for row in found:
        if isinstance(row, str):
            columns = []
            yield f"\n{row}"
            continue
        kept.append(row)
        shown = {name: value for name, value in row.items() if not isinstance(value, list)}
        if list(shown) != columns:
            columns = list(shown)
            yield "\n| " + " | ".join(columns) + " |"
            yield "|" + "---|" * len(columns)
        yield "| " + " | ".join(told(value) for value in shown.values()) + " |"


def told(value: Any) -> str:
    """A figure with as many digits as matter."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def machine(how: How) -> dict[str, str]:
    """What the figures depend on."""
    import torch

    from convnn.training import device

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device.describe(torch.device(how.device)),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "memory": f"{device.memory(torch.device('cpu')) / 2**30:.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        **device.versions(),
        "commit": (device.git_commit() or "none")[:12],
        "rounds": str(how.rounds),
    }


def save(file: Path, on: dict[str, str], rows: list[Row]) -> None:
    """Write the rows and what they were measured on."""
    file.write_text(json.dumps({"machine": on, "rows": rows}, indent=1) + "\n")


def compared(file: Path, rows: list[Row]) -> Iterator[Row | str]:
    """Rows of both, the earlier file's and these, with how many times each figure is what it was."""
    before = json.loads(file.read_text())
    yield f"Beside {file}: {', '.join(f'{key} {value}' for key, value in before['machine'].items())}"
    old = {_name(row): row for row in before["rows"]}
    for row in rows:
        for column, value in list(row.items())[1:]:
            was = old.get(_name(row), {}).get(column)
            if isinstance(value, float) and isinstance(was, float) and was:
                yield {"row": _name(row), "figure": column, "then": was, "now": value, "now / then": value / was}


def _name(row: Row) -> str:
    return str(next(iter(row.values())))
