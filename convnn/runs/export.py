"""The curves of a run as CSV text and as a TensorBoard log."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convnn.errors import UserError
from convnn.json_values import iso
from convnn.paths import typed_path
from convnn.runs.history import History
from convnn.runs.run import Run
from convnn.text import escaped


def epoch_rows(history: History) -> list[dict[str, Any]]:
    """Return a row per epoch: its number, the step and time (UTC) it ended at, and every metric."""
    return [{"epoch": e.epoch, "step": e.step, "time": iso(e.time), **e.metrics} for e in history.epochs]


def step_rows(history: History) -> list[dict[str, Any]]:
    """Return a row per recorded step: its epoch, number and time (UTC), and its values."""
    return [
        {"epoch": step.epoch, "step": step.step, "time": iso(step.time), **history.step_values(index)}
        for index, step in enumerate(history.steps)
    ]


def csv_text(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the rows of runs, by name, as CSV with a column per value; of several runs with the name in front."""
    columns = dict.fromkeys(name for run_rows in rows.values() for row in run_rows for name in row)
    lead = ["run"] if len(rows) > 1 else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*lead, *map(escaped, columns or ("epoch", "step", "time"))])
    for run, run_rows in rows.items():
        writer.writerows([*(escaped(run) for _ in lead), *(row.get(name, "") for name in columns)] for row in run_rows)
    return text.getvalue()


def write_tensorboard(run: Run, directory: Path) -> Path:
    """Write the finite values of every step and epoch as a TensorBoard log and return its directory, DIRECTORY/NAME.

    Tags are `step/loss`, `epoch/test_top1` and so on. Raises UserError where tensorboard is not installed or the
    directory exists.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        message = "tensorboard is not installed"
        raise UserError(message, fix="pip install 'convnn[tensorboard]', or use --csv") from error
    log_directory = typed_path(directory) / run.name
    if log_directory.exists():
        message = f"{log_directory} exists: a second log there would mix with the first"
        raise UserError(message, fix="give another directory, or remove it")
    history = run.history()
    with SummaryWriter(str(log_directory)) as writer:
        for index, step in enumerate(history.steps):
            for name, value in history.step_values(index).items():
                if math.isfinite(value):
                    writer.add_scalar(f"step/{name}", value, step.step, step.time.timestamp())
        for epoch in history.epochs:
            for name, value in epoch.metrics.items():
                if math.isfinite(value):
                    writer.add_scalar(f"epoch/{name}", value, epoch.epoch, epoch.time.timestamp())
    return log_directory
