"""Evaluates the checkpoint of a run in a child process, so that the run that trains here goes on."""

from __future__ import annotations

import json
from pathlib import Path

from convnn.metrics import format_value, metric_info
from convnn.runs.run import Run
from convnn.text import plural
from tui.process.child import run_command


async def evaluate(run: Run, root: Path) -> str:
    """Return the test metrics of a run's best checkpoint in words. Raises UserError that says why there are none."""
    arguments = ["run", "--test_only", "--run", f"{run.path}/", "--runs", str(root)]
    result = json.loads(await run_command(*arguments, failure=_failure(run)))
    values = ", ".join(_value_text(name, value) for name, value in result["figures"].items())
    images = plural(result["images"], "test image")
    return f"{run.name}, {result['checkpoint']} checkpoint (step {result['step']}), {images}: {values}"


async def save_predictions(run: Run, root: Path) -> None:
    """Write what a run's best checkpoint answers on the test images into the run. Raises UserError if it cannot."""
    arguments = ["evaluate", f"{run.path}/", "--runs", str(root), "--save", "--worst=0"]
    await run_command(*arguments, failure=_failure(run))


def _failure(run: Run) -> str:
    return f"{run.name} was not evaluated: "


def _value_text(name: str, value: float | str) -> str:
    metric = metric_info(name)
    unit = ""
    if metric.unit:
        unit = f" {metric.unit}"
    return f"{metric.name} {format_value(float(value), name)}{unit}"
