"""The curves of a run for other programs."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from convnn.errors import Problem, UserError
from convnn.runs.history import History
from convnn.runs.run import Run
from convnn.text import escaped


def csv_text(history: History) -> str:
    """A line an epoch: its number, the steps so far, when it ended (UTC) and every metric."""
    from convnn.events import iso

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    metrics = history.metrics
    writer.writerow(["epoch", "step", "time", *metrics])
    for event in history.epochs:
        figures = [event.metrics.get(name, "") for name in metrics]
        writer.writerow([event.epoch, event.step, iso(event.time), *figures])
    return out.getvalue()


def write_tensorboard(run: Run, directory: Path) -> Path:
    """Write the curves of a run, steps included, as a TensorBoard log below `directory`; its place.

    Raises UserError where TensorBoard is not installed.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        message = "tensorboard is not installed"
        raise UserError(Problem(message, fix="pip install 'convnn[tensorboard]', or use --csv")) from error
    place = directory / run.name
    if place.exists():
        message = f"{escaped(place)} exists: a second log there would mix with the first"
        raise UserError(Problem(message, fix="give another directory, or remove it"))
    history = run.history()
    writer = EventFileWriter(str(place))

    def add(name: str, value: float | None, step: int, time: float) -> None:
        if value is not None and math.isfinite(value):
            summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            writer.add_event(Event(wall_time=time, step=step, summary=summary))

    for step in history.steps:
        for name in ("loss", "lr", "grad_norm", "images_per_s"):
            add(f"step/{name}", getattr(step, name), step.step, step.time.timestamp())
    for epoch in history.epochs:
        for name, value in epoch.metrics.items():
            add(f"epoch/{name}", value, epoch.epoch, epoch.time.timestamp())
    writer.close()
    return place
