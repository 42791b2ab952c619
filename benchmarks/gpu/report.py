"""The results as they stand, as JSON and as Markdown: what a cut leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.table import Row, format_rows
from convnn.files import write_atomic

JSON_NAME, MARKDOWN_NAME = "gpu.json", "gpu.md"


class Report:
    """Rows by stage, read from the folder and written to it after every change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / JSON_NAME
        self.values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self.values.setdefault("machine", {})
        self.values.setdefault("stages", {})

    def set_machine(self, machine: dict[str, str]) -> None:
        self.values["machine"] = machine
        self.write()

    def start(self, stage: str) -> None:
        self.values["stages"][stage] = {"outcome": "started", "seconds": 0.0, "rows": []}
        self.write()

    def add(self, stage: str, row: Row | str) -> None:
        self.values["stages"][stage]["rows"].append(row)
        self.write()

    def end(self, stage: str, outcome: str, seconds: float = 0.0) -> None:
        entry = self.values["stages"].setdefault(stage, {"rows": []})
        entry |= {"outcome": outcome, "seconds": round(seconds, 1)}
        self.write()

    def outcome(self, stage: str) -> str | None:
        """The outcome of a stage; None before it has started."""
        entry = self.values["stages"].get(stage)
        return entry["outcome"] if entry else None

    def write(self) -> None:
        write_atomic(self.folder / JSON_NAME, (json.dumps(self.values, indent=1) + "\n").encode())
        write_atomic(self.folder / MARKDOWN_NAME, ("\n".join(self.lines()) + "\n").encode())

    def lines(self) -> list[str]:
        """The report as Markdown."""
        lines = ["# The GPU path", "", ", ".join(f"{key} {value}" for key, value in self.values["machine"].items())]
        for stage, entry in self.values["stages"].items():
            lines += ["", f"## {stage}: {entry['outcome']} ({entry['seconds']} s)"]
            lines += format_rows(entry["rows"], [])
        return lines
