"""The machine a run trains on: how busy, full and hot it is, the memory of the run, and the size of model and data."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from textual.app import ComposeResult

from convnn.events import Started
from convnn.metrics import SYSTEM_METRICS
from convnn.runs.history import Axis, History
from convnn.terminal.report import chart_marks, code_values, system_series, system_values
from convnn.text import duration, memory, number, plural
from tui.screens.run.pane import Changes, TextPane
from tui.screens.run.step_series import step_series
from tui.widgets.chart_view import ChartData, ChartView

if TYPE_CHECKING:
    from tui.app import ConvnnApp


class DevicePane(TextPane):
    """The curves of the system metrics, a chart a unit; device, threads, memory, speed, model and data in numbers."""

    app: ConvnnApp
    ID = "device"
    TITLE = "device"
    HELP = (
        "Where the run trains. Curves of what the machine reports: utilization of the GPU, of the CPUs that the run "
        "may use, and the share of the time that waits for batches; below the numbers memory, power, temperature "
        "and clock. Then what bounds the speed, the peak memory so far beside the expected memory of a training step "
        "(both without torch and the data), the times of the last epoch, and the size of the model."
    )
    IS_SECONDARY = True
    PLACEHOLDER = "known when the run has started"
    DEFAULT_CSS = "DevicePane > ChartView { height: 6; }"
    UNITS = ("%", "bytes", "W", "C", "MHz")  # of the charts, from top to bottom

    def compose(self) -> ComposeResult:
        charts = [ChartView("", letters=self.app.ascii) for _ in self.UNITS]
        for chart in charts:
            chart.display = False  # until a metric of its unit is known
        yield charts[0]
        yield from super().compose()
        yield from charts[1:]

    def show(self, history: History, changes: Changes) -> None:
        if history.started is not None:
            values = [*system_values(history), *_machine(history.started)]
            self.write([*values, *_last_epoch(history), *_model_and_data(history.started), *code_values(history)])
        elif history.finished is not None:
            self.write([("the run ended before it started", "")])
        units = {SYSTEM_METRICS[name].unit for name in history.system}
        for chart, unit in zip(self.query(ChartView), self.UNITS, strict=True):
            chart.source = partial(_system_chart, history, unit)
            chart.display = unit in units


def _system_chart(history: History, unit: str, x: Axis) -> ChartData:
    return ChartData(system_series(unit, lambda name: step_series(history, name, x)), chart_marks(history, x))


def _machine(started: Started) -> Iterator[tuple[str, str]]:
    yield "device", started.device or "unknown"
    if started.processes:
        yield "processes", str(started.processes)
    if started.threads:
        yield "threads", f"{started.threads} each" if started.processes else str(started.threads)
    if started.amp:
        yield "precision", str(started.amp.get("dtype", "mixed"))
    if started.cuda_graph:
        yield "launches", "forward and backward as one CUDA graph"
    if started.compile:
        counts = [
            plural(started.compile[f"{noun}s"], noun) for noun in ("graph", "break") if f"{noun}s" in started.compile
        ]
        yield "compiled", ", ".join(counts)


def _last_epoch(history: History) -> Iterator[tuple[str, str]]:
    metrics = history.last_metrics
    if "peak_bytes" in metrics:
        yield "memory", f"{memory(metrics['peak_bytes'])} peak"
    if history.started and history.started.memory_bytes:
        yield "expected", memory(history.started.memory_bytes)
    if "images_per_s" in metrics:
        yield "speed", f"{number(metrics['images_per_s'])} images/s"
    if "train_s" in metrics:
        test = " training"
        if "eval_s" in metrics:
            test = f" + {duration(metrics['eval_s'])} test"
        yield "epoch", f"{duration(metrics['train_s'])}{test}"


def _model_and_data(started: Started) -> Iterator[tuple[str, str]]:
    if started.parameters:
        yield "parameters", f"{started.parameters:,}"
    if started.flops:
        yield "FLOPs/image", number(started.flops)
    if started.images:
        yield "images", ", ".join(f"{count:,} {split}" for split, count in started.images.items())
    if started.image_size:
        yield (
            "image",
            "x".join(map(str, started.image_size)) + f", {plural(started.num_classes or 0, 'class', 'classes')}",
        )
    if started.host:
        yield "host", started.host
    if started.versions:
        yield "versions", ", ".join(f"{name} {version}" for name, version in started.versions.items())
