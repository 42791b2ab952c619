"""How a run is summarized, for every view of it: the live view, `convnn show`, and the run screen of the app.

Text is plain and raw: whoever writes it escapes it, and gives a `Tone` the color of its theme.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from convnn.config.options import BY_KEY, Option
from convnn.events import (
    PRUNED,
    Changed,
    Epoch,
    Event,
    Finished,
    Noted,
    Paused,
    Resumed,
    Saved,
    Started,
    Tagged,
    Warned,
)
from convnn.metrics import ALL_SPLITS, METRICS, SYSTEM_METRICS, metric_info, split_of
from convnn.runs.history import Axis, History
from convnn.runs.status import STATUSES
from convnn.text import duration, memory, number, one_line, plural, power_of_ten

if TYPE_CHECKING:
    from convnn.analysis.comparison import Comparison
    from convnn.charts.chart import Series

CHARTED = ("loss", "top1")  # the metrics with a chart of their own
# the metrics in the line of an epoch
EPOCH_LABELS = {"train_loss": "loss", "train_top1": "top1", "val_top1": "val", "test_top1": "test"}
EPOCH_LABELS |= {"ema_val_top1": "ema val", "ema_test_top1": "ema test"}
SPLIT_WORDS = {split: split.replace("_", " ") for split in ALL_SPLITS}
SERIES_COLORS = {"train": "#2f86d6", "val": "#2a9d6a", "test": "#d9661f", "step": "#8a7f78"}
SERIES_COLORS |= {"ema_val": "#14808c", "ema_test": "#9455c9"}
SYSTEM_CURVES = {  # label and color of each system metric; those of a unit share a chart
    "gpu_util": ("gpu", "#2f86d6"),
    "cpu_util": ("cpu", "#d9661f"),
    "data_loading": ("data", "#2a9d6a"),
    "gpu_bytes": ("gpu", "#2f86d6"),
    "rss_bytes": ("process", "#d9661f"),
    "gpu_power": ("gpu", "#2f86d6"),
    "gpu_temp": ("gpu", "#2f86d6"),
    "cpu_temp": ("cpu", "#d9661f"),
    "gpu_clock": ("gpu", "#2f86d6"),
    "cpu_clock": ("cpu", "#d9661f"),
}
SYSTEM_VALUES = {  # of the GPU, of the CPUs and this process
    "gpu": ("gpu_util", "gpu_bytes", "gpu_power", "gpu_temp", "gpu_clock"),
    "cpu": ("cpu_util", "rss_bytes", "cpu_temp", "cpu_clock"),
}
INPUT_BOUND = 20  # % of the time that waits for batches
BUSY = 80  # % utilization of a GPU that computes nearly all the time
MARKED_EVENTS = ("paused", "resumed", "note")
MARKED_OUTCOMES = ("stopped", "interrupted")
STOP_REQUESTS = ("on request", "asked to stop")  # how the cause of a stop begins, the latter in older runs

Tone = Literal["primary", "success", "warning", "error", "bold", "dim", ""]
_STATUS_TONES: dict[str, Tone] = {
    "running": "primary",
    "done": "success",
    "failed": "error",
    "diverged": "error",
    "died": "error",
}


# -- status -----------------------------------------------------------------------------------------------------------


def status_tone(status: str) -> Tone:
    """Return how a status looks: failures stand out, and so does what can be resumed."""
    return _STATUS_TONES.get(status, "warning")


def followed_status(history: History) -> str:
    """Return the status of a run that this process follows: one that has not finished has not died."""
    if history.finished:
        return history.finished.status
    return "paused" if history.paused else "running"


# -- curves -----------------------------------------------------------------------------------------------------------


def split_series(history: History, metric: str, x: Axis = "epoch") -> list[Series]:
    """Return the curve by epoch of "loss", "top1", ... of each split that has it."""
    from convnn.charts.chart import Series  # not before the first frame of the app

    curves = [
        Series(words, *history.series(f"{split}_{metric}", x), SERIES_COLORS[split])
        for split, words in SPLIT_WORDS.items()
    ]
    return [curve for curve in curves if curve.xs]


def comparison_series(comparison: Comparison, metric: str, x: Axis = "epoch") -> list[Series]:
    """Return the curve of a metric of each compared run that logged it, in the color of the run."""
    from convnn.analysis.comparison_report import curve_labels  # a run that trains does without
    from convnn.charts.chart import COLORS, Series

    labels = curve_labels(comparison)
    curves = [
        Series(label, *run.history.series(metric, x), COLORS[index % len(COLORS)])
        for index, (label, run) in enumerate(zip(labels, comparison.runs, strict=True))
    ]
    return [curve for curve in curves if curve.xs]


def chart_marks(history: History, x: Axis = "epoch") -> list[tuple[float, str]]:
    """Return (x, kind) of each moment at which the run was paused, resumed, changed or stopped."""
    marks = [(mark.step, mark.kind) for mark in history.marks if mark.kind in MARKED_EVENTS]
    if history.finished and history.finished.outcome in MARKED_OUTCOMES:
        marks.append((history.step, history.finished.status))
    if x == "step":
        return [(float(step), kind) for step, kind in marks]
    if x == "epoch":
        return [(step / history.epoch_steps, kind) for step, kind in marks]
    if not marks:
        return []
    seconds = history.series("loss", "seconds", live=True)[0]
    steps = [record.step for record in history.steps]
    positions = [(bisect_right(steps, step) - 1, kind) for step, kind in marks]
    return [(seconds[position], kind) for position, kind in positions if position >= 0]


# -- progress ---------------------------------------------------------------------------------------------------------


class ProgressBar(NamedTuple):
    """A bar: `done` of `total` (None while unknown), the fraction filled (0 to 1), and the texts beside it."""

    name: str
    done: int
    total: int | None
    fraction: float
    notes: list[str]


def progress_bars(history: History, status: str) -> tuple[ProgressBar, ProgressBar]:
    """Return the bar of the run, in epochs, with its times, and that of the epoch, in steps, with the speed."""
    progress = history.progress
    times, speed = [], []
    if progress.elapsed:
        times.append(duration(progress.elapsed))
        if STATUSES[status].is_live:
            times[0] += " so far"
    if status == "running":
        if progress.eta:
            times.append(f"eta {duration(progress.eta)}")
        if history.steps and history.steps[-1].images_per_s:
            speed.append(f"{number(history.steps[-1].images_per_s)} images/s")
    return (
        ProgressBar("epoch", progress.epoch, progress.epochs, _fraction(progress.step, progress.steps), times),
        ProgressBar(
            "step",
            progress.step_in_epoch,
            progress.steps_per_epoch,
            _fraction(progress.step_in_epoch, progress.steps_per_epoch),
            speed,
        ),
    )


def _fraction(done: int, total: int | None) -> float:
    if not total:
        return 0.0
    return min(1.0, max(0.0, done / total))


def status_sentence(history: History, status: str) -> tuple[str, Tone]:
    """Return how the run ended or what hinders it, in a line; an empty one while it simply trains."""
    if history.finished:
        return outcome_sentence(history.finished, history.elapsed), outcome_tone(history.finished)
    if status == "died":
        return "died: its process is gone", "error"
    if status == "paused":
        return "paused", "warning"
    if history.warnings:
        latest = one_line(history.warnings[-1].message)
        if len(history.warnings) == 1:
            return f"warning: {latest}", "warning"
        return f"{plural(len(history.warnings), 'warning')}, the latest: {latest}", "warning"
    if history.started is None:
        return "loading the data and building the model", "dim"
    return "", ""


def outcome_sentence(event: Finished, elapsed: float = 0.0) -> str:
    """Return how a run ended, after so many seconds of training: "failed after 3 h 20 m: OSError: ..."."""
    time = ""
    if elapsed:
        time = f" after {duration(elapsed)}"
    if event.outcome == "stopped" and event.cause.startswith(STOP_REQUESTS):
        return f"stopped on request{time}"
    if event.status == PRUNED:
        return f"pruned{time}: other trials of its search were better"
    if event.cause:
        return f"{event.outcome}{time}: {one_line(event.cause)}"
    return event.outcome + time


def outcome_tone(event: Finished) -> Tone:
    """Return how the end of a run looks."""
    return "error" if event.outcome in ("failed", "diverged") else "bold"


def best_epoch(history: History) -> tuple[str, str] | None:
    """Return the best value so far as ("best on test", "69.9 % at epoch 2"); None before the first evaluation."""
    best = history.best()
    if best is None:
        return None
    value, epoch = best
    metric = history.best_metric
    return f"best on {split_of(metric)}", f"{_with_unit(metric, value)} at epoch {epoch}"


# -- events -----------------------------------------------------------------------------------------------------------


def event_line(event: Event, history: History) -> tuple[str, Tone]:
    """Return an event in a line, given the history up to and with it; an empty one for steps and unknown events."""
    match event:
        case Started():
            return f"started on {event.device}" if event.device else "started", ""
        case Epoch():
            return epoch_line(event, history), ""
        case Saved():
            return f"saved {event.path}", "dim"
        case Paused():
            return f"paused in epoch {event.epoch}, after step {event.step}", "warning"
        case Resumed():
            line = f"resumed in epoch {event.epoch}, after step {event.step}"
            about = "" if event.exact else "not exact"
            if about := ": ".join(filter(None, [about, event.note])):
                line += f" ({about})"
            return line, "warning"
        case Noted() | Changed():
            return f"note: {event.text}", "bold"
        case Tagged():
            changes = [*(f"+{tag}" for tag in event.added), *(f"-{tag}" for tag in event.removed)]
            return f"tags: {' '.join(changes)}", "dim"
        case Warned():
            return f"{event.level}: {event.message}", "" if event.is_note else "warning"
        case Finished():
            return outcome_sentence(event, history.elapsed), outcome_tone(event)
    return "", ""


def epoch_line(event: Epoch, history: History) -> str:
    """Return an epoch in a line: "epoch 12/150  loss 0.812  top1 71.4  test 69.9  lr 3.0e-4  21.4 s + 3.0 s"."""
    metrics, epochs = event.metrics, history.progress.epochs
    words = [f"epoch {event.epoch}"]
    if epochs:
        words[0] += f"/{epochs}"
    words += [f"{label} {_short_value(key, metrics[key])}" for key, label in EPOCH_LABELS.items() if key in metrics]
    if "lr" in metrics:
        words.append(f"lr {power_of_ten(metrics['lr'])}")
    if "train_s" in metrics:
        words.append(" + ".join(duration(metrics[key]) for key in ("train_s", "eval_s") if key in metrics))
    return "  ".join(words)


# -- values -----------------------------------------------------------------------------------------------------------


def latest_rate(history: History) -> float | None:
    """Return the learning rate of the last step that is recorded; None where no event has one."""
    rates = [(step.step, step.lr) for step in history.steps[-1:]]
    rates += [(epoch.step, epoch.metrics.get("lr")) for epoch in history.epochs[-1:]]
    return max(((step, rate) for step, rate in rates if rate is not None), default=(0, None))[1]


def key_values(history: History) -> list[tuple[str, str]]:
    """Return (name, value) of what is known: best epoch, last epoch by split, learning rate, memory, device, size."""
    last = history.last_metrics
    pairs = []
    if best := best_epoch(history):
        pairs.append(best)
    for split, words in SPLIT_WORDS.items():
        values = [_with_unit(name, last[f"{split}_{name}"]) for name in CHARTED if f"{split}_{name}" in last]
        if values:
            pairs.append((words, ", ".join(values)))
    if (rate := latest_rate(history)) is not None:
        pairs.append(("lr", power_of_ten(rate)))
    if started := history.started:
        if "peak_bytes" in last:
            pairs.append(("memory", f"{memory(last['peak_bytes'])} peak"))
        elif started.memory_bytes:
            pairs.append(("memory", f"{memory(started.memory_bytes)} expected"))
        if started.device:
            pairs.append(("device", device_text(started)))
        pairs += system_values(history)
        if started.parameters:
            pairs.append(("parameters", f"{started.parameters:,}"))
    for name in (name for name, metric in METRICS.items() if metric.per_split and name not in CHARTED):
        values = [
            f"{words} {_with_unit(name, last[f'{split}_{name}'])}"
            for split, words in SPLIT_WORDS.items()
            if f"{split}_{name}" in last
        ]
        if values:
            pairs.append((name, ", ".join(values)))
    return pairs


def code_values(history: History) -> list[tuple[str, str]]:
    """Return (name, value) of the commit that a run was trained in, and whether files differed from it."""
    if history.commit is None:
        return []
    text, code = history.commit[:12], history.code
    if code is not None and code.dirty:
        text += ", changed: see code.diff"
    elif code is not None:
        text += ", no changes"
    return [("commit", text)]


def _short_value(metric: str, value: float) -> str:
    """Return a value with a digit less than tables have, in columns where it is neither tiny nor huge."""
    decimals = metric_info(metric).decimals
    in_range = value == 0 or 1e-3 <= abs(value) < 1e4  # false for NaN
    if decimals is None or not in_range:
        return number(value)
    return f"{value:.{decimals - 1}f}"


def _with_unit(metric: str, value: float) -> str:
    """Return a value with its unit: "0.812" of a loss, "71.4 %" of an accuracy."""
    if metric_info(metric).unit == "%":
        return f"{_short_value(metric, value)} %"
    return number(value)


def device_text(started: Started) -> str:
    """Return where a run trains: "cpu, 2 threads", "cpu, 2 processes, 1 thread each", "cuda:0, products in tf32"."""
    words = [started.device]
    if started.processes:
        words.append(plural(started.processes, "process", "processes"))
    if started.threads and started.device.startswith("cpu"):
        words.append(plural(started.threads, "thread") + (" each" if started.processes else ""))
    elif started.matmul and started.device.startswith("cuda"):
        words.append(f"products in {started.matmul}")
    return ", ".join(words)


def system_values(history: History) -> list[tuple[str, str]]:
    """Return (name, value) of the GPU and of the CPUs in recent steps, and what bounds the speed; where known."""
    pairs = []
    for owner, names in SYSTEM_VALUES.items():
        values = [(name, history.recent_system_metric(name)) for name in names]
        texts = [_system_text(name, value) for name, value in values if value is not None]
        if texts:
            pairs.append((owner, ", ".join(texts)))
    if sentence := bottleneck(history):
        pairs.append(("training", sentence))
    return pairs


def _system_text(name: str, value: float) -> str:
    unit = SYSTEM_METRICS[name].unit
    return memory(value) if unit == "bytes" else f"{value:.0f} {unit}"


def bottleneck(history: History) -> str | None:
    """Return whether recent training was bound by its input, by the device, or by the host that feeds the device.

    None where it was not measured: on a device that computes while the host waits for a batch, the time of that wait
    says nothing without the utilization of the device.
    """
    loading, busy = history.recent_system_metric("data_loading"), history.recent_system_metric("gpu_util")
    on_cpu = history.started is not None and history.started.device.startswith("cpu")
    if loading is None or (busy is None and not on_cpu):
        return None
    waits = f"{loading:.0f} % of the time waits for batches"
    if busy is not None and busy >= BUSY:
        return f"compute-bound: gpu {busy:.0f} % busy"
    bound = "compute"
    if busy is not None:
        bound, waits = "host", f"gpu {busy:.0f} % busy, {waits}"
    if loading >= INPUT_BOUND:
        bound = "input"
    return f"{bound}-bound: {waits}"


def system_series(unit: str, points: Callable[[str], tuple[Any, Any]]) -> list[Series]:
    """Return the curves of the system metrics with this unit; `points` gives (xs, ys) of a metric by its name."""
    import numpy as np

    from convnn.charts.chart import Series

    curves = []
    for name, (label, color) in SYSTEM_CURVES.items():
        if SYSTEM_METRICS[name].unit != unit:
            continue
        xs, ys = points(name)
        if not len(xs):
            continue
        if unit == "bytes":
            curves.append(Series(f"{label} GiB", xs, np.asarray(ys) / 2**30, color))
        else:
            curves.append(Series(f"{label} {unit}", xs, ys, color))
    return curves


def origin_lines(origin: Mapping[str, Any]) -> list[str]:
    """Return where an imported run came from, its results as published, and what is wrong with it.

    `origin` is the content of `imported.json`, empty for a run that was trained here.
    """
    published = origin.get("as_published") or {}
    results = []
    if "gflops" in published:
        results.append(f"{published['gflops']} GFLOPs")
    if "average_epoch_s" in published:
        results.append(f"{published['average_epoch_s']} s/epoch")
    if "best" in published:
        results.append(f"best {published['best']['value']} % at epoch {published['best']['epoch']}")
    lines = []
    if "source" in origin:
        lines.append(f"imported from {origin['source']}")
    if results:
        lines.append(f"as published: {', '.join(results)}")
    if origin.get("reason"):
        lines.append(f"not launchable: {origin['reason']}")
    if skipped := origin.get("passed"):
        lines.append(f"skipped {plural(len(skipped), 'line')}, each named in imported.json")
    return lines


# -- configuration ----------------------------------------------------------------------------------------------------


class OptionValue(NamedTuple):
    """A value of a configuration, by the name of its flag."""

    section: str
    name: str
    value: str


def options_by_default(config: Mapping[str, Mapping[str, Any]]) -> tuple[list[OptionValue], list[OptionValue]]:
    """Split the values of a `config.toml` into those that differ from the defaults and those that do not."""
    changed: list[OptionValue] = []
    unchanged: list[OptionValue] = []
    for section, values in config.items():
        for key, value in values.items():
            option, name = BY_KEY.get(f"{section}.{key}"), f"{section}.{key}"
            rows = changed
            if option is not None:
                name = option.name
                if _is_default(option, value):
                    rows = unchanged
            rows.append(OptionValue(section, name, value_text(value)))
    return changed, unchanged


def _is_default(option: Option, value: Any) -> bool:
    if isinstance(value, list):
        value = tuple(value)
    return bool(value == option.default)


def value_text(value: Any) -> str:
    """Return the value of an option as people write it: "on", "a, b", "none"."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
