"""The cells of the sweeps of a runs folder, `ROOT/.sweeps/NAME/cells.jsonl`: which run belongs to which cell.

A line holds a cell; a later line with its index replaces it. The file is only ever appended to, so a writer that is
killed loses at most the line it was writing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from convnn.config.schema import SAFE_NAME
from convnn.files import append_lines, naming, open_append, open_regular, sync_file
from convnn.json_values import check_depth, json_text

SWEEPS, CELLS = ".sweeps", "cells.jsonl"
LONGEST_LINE = 1 << 16  # bytes
MAX_DEPTH = 4
MAX_DRAWS = 10**6  # of a search: each number below that of a cell is a trial of its study


class SweepCell(BaseModel):
    """A cell of a sweep: what it is called, what it varies, and its run, or why it has none."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    index: int = Field(ge=1, le=10**9)
    name: str
    seed: int
    id: str = ""  # equal for cells that are one model with one seed
    block: str = ""
    labels: dict[str, str] = {}  # its value of each axis
    options: dict[str, Any] = {}  # what it varies, by key
    run: str | None = None  # directory of its run: a name in the runs folder, or an absolute path
    reused: bool = False  # the run was trained before the sweep
    reason: str = ""  # why it cannot be trained
    same_as: int | None = None  # the index of an earlier cell that is the same model, trained once for both
    trial: int | None = Field(default=None, ge=0, le=MAX_DRAWS)  # of a search: the number of the draw, from 0
    repeats: int | None = None  # of a search: the index of the cell that this one repeats with another seed

    @field_validator("run")
    @classmethod
    def _is_run_path(cls, run: str | None) -> str | None:
        is_name = run is not None and run != "" and not run.startswith(".") and not set(run) & {"/", "\0"}
        if run is None or is_name or (run.startswith("/") and "\0" not in run):
            return run
        raise ValueError("a run is a name in the runs folder, or an absolute path")

    def run_path(self, root: Path) -> Path | None:
        """Return the directory of its run, which may not be there yet."""
        if self.run is None:
            return None
        return root / self.run


def is_sweep_name(name: str) -> bool:
    """Return whether a name is one path component that is safe on any system."""
    return re.fullmatch(SAFE_NAME, name) is not None


def read_cells(path: Path) -> tuple[list[SweepCell], list[str]]:
    """Return the cells of a file by index, and a warning for each damaged line. Raises OSError where it is unreadable.

    A file that is not there holds none, and a last line without its end was never written.
    """
    cells: dict[int, SweepCell] = {}
    warnings: list[str] = []
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return [], []
    with file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            if not line.endswith(b"\n") and len(line) < LONGEST_LINE:
                break
            try:
                fields = json.loads(line)
                check_depth(fields, MAX_DEPTH)
                cell = SweepCell.model_validate(fields)
            except (ValueError, ValidationError, RecursionError):
                if line.strip():
                    warnings.append(f"{path}: line {number} is no cell")
                continue
            cells[cell.index] = cell
    return [cells[index] for index in sorted(cells)], warnings


def append_cells(path: Path, cells: Iterable[SweepCell]) -> None:
    """Append cells; on disk when this returns. Raises OSError where the disk takes only a part, which is cut off."""
    data = "".join(f"{json_text(cell.model_dump())}\n" for cell in cells).encode()
    if not data:
        return
    descriptor = open_append(path)
    try:
        with naming(path):
            append_lines(descriptor, data)
            sync_file(descriptor)
    finally:
        os.close(descriptor)


def sweep_names(root: Path) -> list[str]:
    try:
        return sorted(path.name for path in (root / SWEEPS).iterdir() if is_sweep_name(path.name) and path.is_dir())
    except OSError:  # there is no such folder, or it is not for us to read
        return []


_sweep_runs: dict[Path, tuple[tuple[int, int], dict[str, int]]] = {}  # by file: its size and time, cells by run


def sweeps_by_run(root: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the sweeps that each run belongs to, by its path: shared and reused runs belong to several."""
    sweeps: dict[str, tuple[str, ...]] = {}
    for name in sweep_names(root):
        for path in _run_paths(root, root / SWEEPS / name / CELLS):
            sweeps[path] = (*sweeps.get(path, ()), name)
    return sweeps


def cell_indices(run: Path, sweeps: Iterable[str] | None = None) -> list[tuple[str, int]]:
    """Return the sweeps that the run at an absolute path belongs to, and its cell in each, the first of several.

    `sweeps` are those to look in, all without it.
    """
    root = run.parent
    names = sweep_names(root) if sweeps is None else sweeps
    cells = [(name, _run_paths(root, root / SWEEPS / name / CELLS)) for name in names]
    return [(name, runs[str(run)]) for name, runs in cells if str(run) in runs]


def _run_paths(root: Path, path: Path) -> dict[str, int]:
    """Return the cells of a file by the path of their run; none where it cannot be read, which `convnn sweep` says."""
    try:
        status = path.lstat()
        stamp = status.st_size, status.st_mtime_ns
        if (known := _sweep_runs.get(path)) is not None and known[0] == stamp:
            return known[1]
        paths = [(cell.run_path(root), cell.index) for cell in read_cells(path)[0]]
    except OSError:
        return {}
    _sweep_runs[path] = stamp, {str(run): index for run, index in reversed(paths) if run is not None}
    return _sweep_runs[path][1]
