"""What `convnn plot` draws: a metric over the training, or over an option, with the mean and sd of repeats."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

from convnn.analysis.comparison import ComparedRun, CostAxis, shared_monitor
from convnn.analysis.fields import Field, check_recorded, get_field, metric_names, number_field
from convnn.analysis.repeats import RunGroup, copies_note, drawn_note, group_repeats
from convnn.analysis.run_table import group_keys, imported_note
from convnn.charts.figure import FigureData, FigureLine
from convnn.config.recorded import UNKNOWN
from convnn.errors import UserError, naming_flag
from convnn.metrics import metric_info
from convnn.runs.summary import Summary
from convnn.text import plural

CURVE_AXES: dict[str, tuple[CostAxis, str]] = {  # the cost and its label
    "epoch": ("epochs", "epoch"),
    "seconds": ("seconds", "training time (s)"),
    "images": ("images", "training images"),
    "FLOPs": ("FLOPs", "training FLOPs"),
}
LOG_OPTION = "optimizer.lr"


def figure_data(runs: Sequence[Summary], *, metric: str | None = None, x: str = "epoch") -> FigureData:
    """Return the figure of a metric over an axis of CURVE_AXES, or over an option.

    Args:
        runs: in groups of repeats, each of which is a curve or a point
        metric: of curves by default the one that all runs monitor, over an option its best value
        x: what it is drawn over; an option gives a line for each combination of the others that differ

    Raises:
        UserError: for an unknown metric or axis, with the nearest known one; where nothing can be drawn
    """
    curve_axes = {name.lower(): name for name in CURVE_AXES}
    recorded = metric_names(runs)
    if (name := curve_axes.get(x.lower())) is not None:
        data = _curves(runs, metric, name)
    else:
        with naming_flag("--x"):
            x_field = get_field(x, [*recorded, *CURVE_AXES])  # the axes are near, too
        if x_field.option is None:
            fix = f"give {', '.join(CURVE_AXES)} or an option, such as K"
            raise UserError(f"--x is {x!r}: must be an axis of the training or an option", key="x", fix=fix)
        field = number_field(metric or "best", recorded, "metric")
        data = _over_option(runs, field, x_field)
    if not any(math.isfinite(mean) for line in data.lines for mean in line.mean):
        message = f"none of these runs has {data.y_label} over {data.x_label}"
        if data.notes:
            message += f" ({'; '.join(data.notes)})"
        name = metric or "best"
        fix = f"choose runs with it, which convnn runs 'has:{name}' lists, or another --metric"
        raise UserError(message, key="metric", value=name, fix=fix)
    data.notes.extend(imported_note(runs))
    return data


def _curves(runs: Sequence[Summary], metric: str | None, x: str) -> FigureData:
    compared = {run.path: ComparedRun.read(run) for run in runs}
    metric = metric or shared_monitor(list(compared.values()))
    recorded = metric_names(runs)
    check_recorded(metric, recorded)
    field = get_field(metric, recorded)
    recording = [run for run in runs if metric in run.metrics]
    groups = group_repeats(recording, field)
    axis, x_label = CURVE_AXES[x]
    notes = copies_note(groups) + drawn_note(groups, field)
    if others := len(runs) - len(recording):
        notes.append(f"left out: {plural(others, 'run')} without {metric}")
    lines, without_costs = [], 0
    for group, label in _labeled(groups):
        costs = {run.path: compared[run.path].costs(axis) for run in group.independent}
        members = [(compared[path], cost) for path, cost in costs.items() if cost]
        without_costs += len(costs) - len(members)
        if members:
            # the mean of fewer runs would jump where one ends
            epochs = range(min(len(cost) for _, cost in members))
            xs = [fmean(cost[epoch] for _, cost in members) for epoch in epochs]
            values = [[run.history.epochs[epoch].metrics.get(metric) for run, _ in members] for epoch in epochs]
            count = ""
            if len(members) > 1:
                count = f" (n={len(members)})"
            lines.append(_line(f"{label}{count}", xs, values))
        if len({len(cost) for _, cost in members}) > 1:
            notes.append(f"{label}: drawn as far as its shortest run")
    if without_costs:
        notes.append(f"left out: {plural(without_costs, 'run')} of unknown {x_label}")
    return FigureData(x_label, _with_unit(metric, metric), lines, notes=notes)


def _over_option(runs: Sequence[Summary], field: Field, x: Field) -> FigureData:
    runs_by_value: dict[Any, list[Summary]] = {}  # repeats have the same value, but of the seed
    for run in runs:
        runs_by_value.setdefault(x.effective(run), []).append(run)
    groups = [group for members in runs_by_value.values() for group in group_repeats(members, field)]
    notes = copies_note(groups) + drawn_note(groups, field)
    if missing := sum(group.missing for group in groups):
        notes.append(f"without {field.key}: {plural(missing, 'run')}")
    placed = [group for group in groups if x.effective(group.runs[0]) is not UNKNOWN]
    if unplaced := len(groups) - len(placed):
        notes.append(f"left out: {plural(unplaced, 'configuration')} without {x.key}, or where it has no effect")
    positions = sorted({x.effective(group.runs[0]) for group in placed}, key=x.sort_key)
    are_numbers = all(type(value) in (int, float) for value in positions)
    points: dict[str, dict[Any, RunGroup]] = {}
    for group, label in _labeled(placed, without=x.key):
        value = x.effective(group.runs[0])
        if value in points.get(label, {}):
            label = f"{label} ({group.runs[0].name})".strip()  # on other data
        points.setdefault(label, {})[value] = group
    lines = []
    for label, groups_by_value in points.items():
        ordered = [value for value in positions if value in groups_by_value]
        xs = [float(value if are_numbers else positions.index(value)) for value in ordered]
        line = _line(label, xs, [groups_by_value[value].values for value in ordered])
        if any(map(math.isfinite, line.mean)):
            lines.append(line)
    log_x = are_numbers and x.option is not None and x.option.key == LOG_OPTION and all(v > 0 for v in positions)
    ticks = [] if are_numbers else [x.show(value) for value in positions]
    y_label = _with_unit(field.key, field.format_as)
    return FigureData(x.key, y_label, lines, error_bars=True, log_x=log_x, tick_labels=ticks, notes=notes)


def _line(label: str, xs: Sequence[float], values: Iterable[Sequence[float | None]]) -> FigureLine:
    """Return the mean and sd of the values at each x: a gap where one is missing or not finite."""
    means, sds = [], []
    for point in values:
        finite = [value for value in point if value is not None and math.isfinite(value)]
        mean = sd = math.nan
        if finite and len(finite) == len(point):
            mean = fmean(finite)
            if len(finite) > 1:
                sd = stdev(finite)
        means.append(mean)
        sds.append(sd)
    return FigureLine(label, xs, means, sds)


def _labeled(groups: Sequence[RunGroup], without: str = "") -> list[tuple[RunGroup, str]]:
    """Return groups with the options that tell them apart, sorted by these: "layer=ConvNN, K=9".

    A group that is alone, or told apart by its data, has the name of its run.
    """
    keys = [key for key in group_keys(groups) if key.key != without]
    rows = [(group, [(key, key.effective(group.runs[0])) for key in keys]) for group in groups]
    rows.sort(key=lambda row: [key.sort_key(value) for key, value in row[1]])
    labels = [
        ", ".join(f"{key.key}={key.show(value)}" for key, value in values if value is not UNKNOWN) for _, values in rows
    ]
    counts = Counter(labels)
    labeled = []
    for (group, _), label in zip(rows, labels, strict=True):
        if not without and (not label or counts[label] > 1):
            label = f"{label} {group.runs[0].name}".strip()
        elif not label and keys:
            label = f"without {', '.join(key.key for key in keys)}"
        labeled.append((group, label))
    return labeled


def _with_unit(name: str, metric: str) -> str:
    if unit := metric_info(metric).unit:
        return f"{name} ({unit})"
    return name
