"""What a run is, in a terminal: its state, figures, curves and configuration, for the live view and `convnn show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.text import Text

from convnn.charts.chart import Chart, Series, draw
from convnn.config.options import BY_KEY
from convnn.metrics import METRICS, SPLITS
from convnn.runs.history import Axis, History
from convnn.runs.status import ASCII_GLYPHS, GLYPHS
from convnn.text import duration, escaped, fit, memory, number, printable, rate

STATE_COLOURS = {"running": "cyan", "done": "green", "failed": "red", "diverged": "red", "died": "red"}
CHARTED = ("loss", "top1")  # the metrics with a chart of their own
STEPS_UNTIL = 5  # epochs from which on a point an epoch tells enough of the loss


def state_text(state: str, ascii: bool = False) -> Text:
    """A state as glyph and word: "● running"."""
    return Text(f"{(ASCII_GLYPHS if ascii else GLYPHS)[state]} {state}", f"bold {STATE_COLOURS.get(state, 'yellow')}")


def state_of(history: History) -> str:
    """The state of a run that somebody watches: one that has not finished is not dead."""
    return history.finished.outcome if history.finished else "paused" if history.paused else "running"


def loss_chart(history: History, width: int, height: int, x: Axis = "epoch", *, ascii: bool = False) -> Chart:
    """The loss of each split by epoch; in a young run also that of the steps."""
    series = [Series(split, *history.series(f"{split}_loss", x)) for split in SPLITS]
    series = [one for one in series if one.xs]
    if len(history.epochs) < STEPS_UNTIL:
        xs, ys = history.series("loss", x, live=True)
        series += [Series("steps", xs, ys, "#8a7f78")] if xs else []
    marks = _marks(history, x)
    return draw(series, width, height, x=x, marks=marks, ascii=ascii, empty_text="waiting for the first step")


def accuracy_chart(history: History, width: int, height: int, x: Axis = "epoch", *, ascii: bool = False) -> Chart:
    """The top-1 accuracy of each split in percent."""
    series = [Series(split, *history.series(f"{split}_top1", x)) for split in SPLITS]
    series = [one for one in series if one.xs]
    marks = _marks(history, x)
    return draw(series, width, height, x=x, marks=marks, ascii=ascii, empty_text="waiting for the first epoch to end")


def _marks(history: History, x: Axis) -> list[tuple[float, str]]:
    """Where the run went on or was changed; an x in seconds has no place for them, as time stood still."""
    if x == "seconds":
        return []
    per_epoch = (history.started and history.started.steps_per_epoch) or 1
    kinds = ("resumed", "changed")
    return [(m.step / (per_epoch if x == "epoch" else 1), m.kind) for m in history.marks if m.kind in kinds]


def curves(history: History, width: int, height: int, *, ascii: bool = False) -> list[Text]:
    """The loss and accuracy panes, at most height lines: side by side, or stacked where that is too narrow."""
    if width < 76 and height >= 20:
        upper, lower = height - height // 2, height // 2
        return [
            *framed("loss", loss_chart(history, width - 2, upper - 2, ascii=ascii), width, ascii),
            *framed("accuracy, %", accuracy_chart(history, width - 2, lower - 2, ascii=ascii), width, ascii),
        ]
    left, right = width // 2, width - width // 2
    height = min(height, max(18, width // 4))  # higher than wide, curves are hard to read
    losses = framed("loss", loss_chart(history, left - 2, height - 2, ascii=ascii), left, ascii)
    scores = framed("accuracy, %", accuracy_chart(history, right - 2, height - 2, ascii=ascii), right, ascii)
    return [Text.assemble(one, other, no_wrap=True) for one, other in zip(losses, scores, strict=True)]


def framed(title: str, chart: Chart, width: int, ascii: bool = False) -> list[Text]:
    """The lines of a chart in a box of that width, with its title in the upper edge."""
    left, line, right, side, lower_left, lower_right = "+-+|++" if ascii else "╭─╮│╰╯"
    top = Text.assemble(
        (f"{left}{line} ", "dim"), (title, "bold"), (f" {line * (width - len(title) - 5)}{right}", "dim")
    )
    edge = Text(side, "dim")
    middle = [Text.assemble(edge, each, edge, no_wrap=True) for each in chart.lines]
    return [top, *middle, Text(lower_left + line * (width - 2) + lower_right, "dim")]


def figures(history: History) -> list[tuple[str, str]]:
    """The figures of a run by name, those that are known: best, last epoch, rate, machine."""
    last = history.epochs[-1].metrics if history.epochs else {}
    found: list[tuple[str, str]] = []
    if best := history.best():
        found.append((f"best on {history.best_metric.partition('_')[0]}", f"{best[0]:.1f} % at epoch {best[1]}"))
    for split in SPLITS:
        values = [_value_text(name, last[f"{split}_{name}"]) for name in CHARTED if f"{split}_{name}" in last]
        found += [(split, ", ".join(values))] if values else []
    lrs = history.series("lr", live=True)[1] or history.series("lr")[1]
    found += [("lr", rate(lrs[-1]))] if lrs else []
    if started := history.started:
        if "peak_bytes" in last:
            found.append(("memory", f"{memory(last['peak_bytes'])} peak"))
        elif started.memory_bytes:
            found.append(("memory", f"{memory(started.memory_bytes)} expected"))
        threads = f", {started.threads} threads" if started.threads and started.device.startswith("cpu") else ""
        found += [("device", started.device + threads)] if started.device else []
        found += [("parameters", f"{started.parameters:,}")] if started.parameters else []
    for name in (name for name, metric in METRICS.items() if metric.per_split and name not in CHARTED):
        recorded = [split for split in SPLITS if f"{split}_{name}" in last]
        values = [f"{split} {_value_text(name, last[f'{split}_{name}'])}" for split in recorded]
        found += [(name, ", ".join(values))] if values else []
    return found


def _value_text(name: str, value: float) -> str:
    """A value with its unit: "0.812" of a loss, "71.4 %" of an accuracy."""
    return f"{value:.1f} %" if METRICS[name].unit == "%" else number(value)


def packed(pairs: list[tuple[str, str]], width: int, rows: int | None = None, *, ascii: bool = False) -> list[Text]:
    """Names and values in lines of at most that width, as many pairs a line as fit; at most `rows` lines."""
    lines, used = [Text(no_wrap=True)], 0
    for name, value in pairs:
        name, value = (printable(escaped(word), ascii) for word in (name, value))
        size = len(name) + 1 + Text(value).cell_len
        if used and used + 3 + size > width:
            if len(lines) == rows:
                continue  # a shorter one may still fit
            lines.append(Text(no_wrap=True))
            used = 0
        lines[-1].append("   " if used else "").append(f"{name} ", "dim").append(
            fit(value, width - len(name) - 1, ascii)
        )
        used += size + (3 if used else 0)
    return lines


def body(
    name: str,
    state: str,
    config: Mapping[str, Mapping[str, Any]],
    history: History,
    *,
    width: int,
    height: int = 18,
    origin: Mapping[str, Any] | None = None,
    everything: bool = False,
    ascii: bool = False,
) -> Group:
    """What `convnn show` prints of a run: state, figures, curves, and the configuration by section.

    Only options that differ from their defaults, unless everything is asked for; then those come first. `origin` is
    what `imported.json` tells of a run that was not trained here.
    """
    took = f"  {duration(history.elapsed)}" if history.elapsed else ""
    progress = history.progress
    told = f"  epoch {progress.epoch}/{progress.epochs}" if progress.epochs else ""
    title = Text.assemble(state_text(state, ascii), "  ", (_said(name, ascii), "bold"))
    title.append("\n" * (title.cell_len + len(told + took) > width) + told + took)
    parts = [title, *packed(figures(history), width, ascii=ascii)]
    parts += [Text(_said(line, ascii)) for line in _published(origin or {})]
    if history.finished and history.finished.cause and not origin:
        parts.append(Text(f"why: {_said(history.finished.cause, ascii)}"))
    parts += [Text(f"warning: {_said(warning.message, ascii)}", "yellow") for warning in history.warnings]
    for change in history.changes:
        by = f" ({_said(change.by, ascii)})" if change.by else ""
        parts.append(Text(f"note: {_said(change.what, ascii)}{by}"))
    if history.steps or history.epochs:
        parts += curves(history, width, height, ascii=ascii)
    differ, same = _options(config)
    parts += [
        Text("differs from the defaults" if differ else "all options at their defaults", "bold"),
        *_listed(differ, width, ascii),
    ]
    if everything and same:
        parts += [Text("defaults", "bold"), *_listed(same, width, ascii)]
    return Group(*parts)


def _published(origin: Mapping[str, Any]) -> list[str]:
    """Where an imported run came from, its figures as they were written, and what is wrong with it."""
    figures = origin.get("as_published") or {}
    told = [f"{figures['gflops']} GFLOPs"] if "gflops" in figures else []
    told += [f"{figures['average_epoch_s']} s an epoch"] if "average_epoch_s" in figures else []
    told += [f"best {figures['best']['value']} % at epoch {figures['best']['epoch']}"] if "best" in figures else []
    lines = [f"imported from {origin['source']}"] if "source" in origin else []
    lines += [f"as published: {', '.join(told)}"] if told else []
    lines += [f"not launchable: {origin['reason']}"] if origin.get("reason") else []
    passed = len(origin.get("passed") or ())
    return lines + ([f"passed over: {passed}, each named in imported.json"] if passed else [])


def _options(config: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The configuration in two: what differs from the defaults, and what does not."""
    halves: tuple[dict[str, dict[str, Any]], ...] = ({}, {})
    for section, values in config.items():
        for key, value in values.items():
            option = BY_KEY.get(f"{section}.{key}")
            at_default = option is not None and (
                value == option.default or (not value and option.default in (None, ()))
            )
            halves[at_default].setdefault(section, {})[key] = value
    return halves[0], halves[1]


def _listed(options: Mapping[str, Mapping[str, Any]], width: int, ascii: bool) -> list[Text]:
    lines = []
    for section, values in options.items():
        pairs = [(key, _value(value)) for key, value in values.items()]
        for row, line in enumerate(packed(pairs, max(20, width - 14), ascii=ascii)):
            lines.append(Text.assemble(f"  {'' if row else section:<12}", line))
    return lines


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _said(text: str, ascii: bool) -> str:
    return printable(escaped(text), ascii)
