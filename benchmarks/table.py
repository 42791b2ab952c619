"""Results as Markdown tables, the machine they were measured on, and comparison with a saved file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import BenchOptions

MIB = 2**20
Row = dict[str, Any]
"""Values by column, the first of them the row's name. A list is saved but not printed."""


def format_rows(rows: Iterable[Row | str], results: list[Row]) -> Iterator[str]:
    """Lines of Markdown as the rows come; rows are appended to `results`, and new columns begin a new table."""
    columns: list[str] = []
    for row in rows:
        if isinstance(row, str):
            columns = []
            yield f"\n{row}"
            continue
        results.append(row)
        cells = {column: value for column, value in row.items() if not isinstance(value, list)}
        if list(cells) != columns:
            columns = list(cells)
            yield "\n| " + " | ".join(columns) + " |"
            yield "|" + "---|" * len(columns)
        yield "| " + " | ".join(format_value(value) for value in cells.values()) + " |"


def format_value(value: Any) -> str:
    """A number with about three digits; other values as they are."""
    if not isinstance(value, float):
        return str(value)
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def machine(bench: BenchOptions) -> dict[str, str]:
    """What the results depend on."""
    import torch

    from convnn.repository.head import git_commit
    from convnn.training import device
    from convnn.training.state import versions

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device.describe(torch.device(bench.device)),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "memory": f"{device.total_memory(torch.device('cpu')) / 2**30:.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        **versions(),
        "commit": (git_commit() or "none")[:12],
        "rounds": str(bench.rounds),
    }


def save(file: Path, machine: dict[str, str], rows: list[Row]) -> None:
    """Write the rows and the machine as JSON."""
    file.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def compare(file: Path, rows: list[Row]) -> Iterator[Row | str]:
    """A row for every number that the saved file has too."""
    saved = json.loads(file.read_text(encoding="utf-8"))
    yield f"compared with {file}: {', '.join(f'{key} {value}' for key, value in saved['machine'].items())}"
    saved_rows = {_name(row): row for row in saved["rows"]}
    for row in rows:
        saved_row = saved_rows.get(_name(row), {})
        for column, value in list(row.items())[1:]:
            before = saved_row.get(column)
            if isinstance(value, float) and isinstance(before, float) and before:
                yield {"row": _name(row), "column": column, "then": before, "now": value, "now / then": value / before}


def _name(row: Row) -> str:
    return str(next(iter(row.values())))
