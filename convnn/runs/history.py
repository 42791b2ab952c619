"""The events of a run folded into series, progress and outcome: the same for a live run and a years-old one."""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from convnn.events import (
    FORKED_FROM,
    Changed,
    CodeState,
    Epoch,
    Event,
    Finished,
    LayerStatistics,
    Noted,
    Paused,
    Resumed,
    Saved,
    Started,
    Step,
    Tagged,
    Warned,
)
from convnn.json_values import json_value
from convnn.metrics import LAYER_METRICS, METRICS, SYSTEM_METRICS, best_of, monitored
from convnn.runs import event_log

Axis = Literal["epoch", "step", "seconds"]

UNTRACED = frozenset(name for name, metric in METRICS.items() if not metric.traced)
RECENT_EPOCHS, RECENT_STEPS = 5, 500  # that the speed is measured over; steps until the first epoch ends
RECENT_SAMPLES = 20  # recorded steps that the present system metrics are the mean of: ten seconds or more


class Mark(NamedTuple):
    """A moment that charts mark: paused, resumed, noted or saved."""

    kind: str
    epoch: int
    step: int


class StepRecord(NamedTuple):
    """The fields of a Step event in a quarter of its memory: a run has tens of thousands of them.

    System metrics are columns of the history: they take a tenth of a record each.
    """

    time: datetime
    epoch: int
    step: int
    loss: float
    lr: float | None
    grad_norm: float | None
    images_per_s: float | None


FORWARD_SHARE = 1 / 3  # of the time of a training step: what evaluation takes per image, until it is measured
STEP_FIELDS = StepRecord._fields[3:]  # the metrics of a step


class Progress(NamedTuple):
    """How far a run is. Times are in seconds of training: pauses and the time between two processes do not count."""

    epoch: int  # the one in progress or, at its end, the one just ended; 0 before the first step
    epochs: int | None
    step_in_epoch: int
    steps_per_epoch: int | None
    step: int
    steps: int | None  # of the whole run
    elapsed: float
    eta: float | None  # None until a speed is measured, 0 when the run ended

    @property
    def fraction(self) -> float | None:
        """The share of its steps that are trained, 0 to 1; None while their number is unknown."""
        if not self.steps:
            return None
        return self.step / self.steps


class History:
    """What happened in a run so far."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._reader = event_log.EventReader()
        self._was_replaced = False  # the log: of what it has, only later events are new
        self._latest_events: list[Event] = []  # of those that `read` returned: there are several in a millisecond
        self._clear()
        self.fold(events)

    def _clear(self) -> None:
        self.started: Started | None = None  # the latest start: what the run trains on now
        self.first_started: datetime | None = None
        self.forked_from: str | None = None  # name of the run whose checkpoint this one began with
        self.finished: Finished | None = None
        self.paused = False
        self.epochs: list[Epoch] = []
        self.layer_statistics: list[LayerStatistics] = []
        self.steps: list[StepRecord] = []
        self.warnings: list[Warned] = []
        self.remarks: list[Warned] = []  # what the program notes, which is no reason for concern
        self.notes: list[Noted | Changed] = []  # of people
        self.tag_changes: list[Tagged] = []
        self.marks: list[Mark] = []
        self.skipped_lines: list[tuple[int, str]] = []  # (first byte, reason) of each line that is not an event
        self.elapsed = 0.0  # seconds of training up to the last event
        self._epoch_seconds: list[float] = []  # `elapsed` at each of `epochs`
        self._step_seconds: list[float] = []
        self.system: dict[str, array[float]] = {}  # system metric -> its value at each of `steps`, NaN where unknown
        self._last_time: datetime | None = None  # of the last event; None while the run does not train

    def fold(self, events: Iterable[Event]) -> Self:
        """Add events in the order they were written."""
        for event in events:
            self._advance_clock(event)
            match event:
                case Step():
                    if self.steps and event.step <= self.steps[-1].step:
                        self._rewind(event.step - 1)  # the run started over without a Resumed event
                    self.steps.append(StepRecord(*(getattr(event, field) for field in StepRecord._fields)))
                    self._step_seconds.append(self.elapsed)
                    self._add_system_metrics(event.system)
                case Epoch():
                    if self.epochs and event.step <= self.epochs[-1].step:
                        self._rewind(event.step - 1)
                    self.epochs.append(self._with_layer_metrics(event))
                    self._epoch_seconds.append(self.elapsed)
                case LayerStatistics():
                    if self.epochs and event.step <= self.epochs[-1].step:
                        self._rewind(event.step - 1)
                    self._drop_layer_statistics(event.step - 1)  # logged again where a run was cut off behind it
                    self.layer_statistics.append(event)
                case Started():
                    self.started, self.finished, self.paused = event, None, False
                    self.first_started = self.first_started or event.time
                case Resumed():
                    if self.forked_from is None and event.note.startswith(FORKED_FROM):
                        self.forked_from = event.note.removeprefix(FORKED_FROM).partition(" at step ")[0]
                    self.finished, self.paused = None, False
                    self._rewind(event.step)
                    self.marks.append(Mark("resumed", event.epoch, event.step))
                case Paused():
                    self.paused = True
                    self.marks.append(Mark("paused", event.epoch, event.step))
                case Saved():
                    self.marks.append(Mark("saved", self.epoch, event.step))
                case Noted() | Changed():
                    self.notes.append(event)
                    self.marks.append(Mark("note", self.epoch, self.step))
                case Tagged():
                    self.tag_changes.append(event)
                case Warned():
                    (self.remarks if event.is_note else self.warnings).append(event)
                case Finished():
                    self.finished, self.paused = event, False
        return self

    def update(self, path: Path, *, steps: bool = True) -> list[Event]:
        """Fold what was appended to the event log since the last call, and return the events that are new."""
        events = self.read(path, steps=steps)
        self.fold(events)
        return events

    def read(self, path: Path, *, steps: bool = True) -> list[Event]:
        """Return the events that were appended to the log since the last call, which the caller folds.

        A log that another program has replaced, cut or changed is folded anew up to the events that are later than all
        before. Without a file nothing happened yet.
        """
        try:
            events, skipped_lines, restarts = self._reader.read(path, steps=steps)
        except FileNotFoundError:
            return []
        if restarts:
            self._clear()
            self._was_replaced = True
        self.skipped_lines += skipped_lines
        if self._was_replaced and self._latest_events:
            self.fold(event for event in events if not self._is_new(event))
            events = [event for event in events if self._is_new(event)]
        latest = max((event.time for event in chain(self._latest_events, events)), default=None)
        self._latest_events = [event for event in chain(self._latest_events, events) if event.time == latest]
        return events

    def _is_new(self, event: Event) -> bool:
        latest, known = self._latest_events[0].time, map(_identity, self._latest_events)
        return event.time > latest or (event.time == latest and _identity(event) not in known)

    def _advance_clock(self, event: Event) -> None:
        """Add the time since the last event to `elapsed`, if the run trained."""
        if isinstance(event, Started | Resumed):
            self._last_time = event.time
        elif isinstance(event, Epoch) and self.first_started is None:  # of the run that this one was forked from
            seconds = sum(event.metrics.get(name, 0.0) for name in ("train_s", "eval_s"))
            if 0 <= seconds < math.inf:
                self.elapsed += seconds
        elif self._last_time is not None and not isinstance(event, Noted | Changed | Tagged):  # at any time
            self.elapsed += max(0.0, (event.time - self._last_time).total_seconds())  # clocks may be set back
            self._last_time = max(event.time, self._last_time)
            if isinstance(event, Paused | Finished):
                self._last_time = None

    def _add_system_metrics(self, values: Mapping[str, float]) -> None:
        """Add the values of the last step to the columns; a metric that appears has no value before."""
        for name in SYSTEM_METRICS.keys() & values.keys() - self.system.keys():
            self.system[name] = array("d", [math.nan]) * (len(self.steps) - 1)
        for name, column in self.system.items():
            column.append(values.get(name, math.nan))

    def recent_system_metric(self, name: str) -> float | None:
        """Return the mean of a system metric over the last steps that have it; None where none has."""
        values = [value for value in self.system.get(name, ())[-RECENT_SAMPLES:] if math.isfinite(value)]
        if not values:
            return None
        return sum(values) / len(values)

    def _with_layer_metrics(self, epoch: Epoch) -> Epoch:
        """Return the event of an epoch with the means over the layers as metrics, where they were taken after it."""
        if not self.layer_statistics or self.layer_statistics[-1].step != epoch.step:
            return epoch
        return epoch.model_copy(update={"metrics": epoch.metrics | layer_means(self.layer_statistics[-1])})

    def _drop_layer_statistics(self, step: int) -> None:
        while self.layer_statistics and self.layer_statistics[-1].step > step:
            self.layer_statistics.pop()

    def _rewind(self, step: int) -> None:
        """Forget the steps after `step`, and the time they took."""
        self._drop_layer_statistics(step)
        if self.step <= step:
            return
        epochs = sum(event.step <= step for event in self.epochs)
        del self.epochs[epochs:], self._epoch_seconds[epochs:]
        steps = sum(event.step <= step for event in self.steps)
        del self.steps[steps:], self._step_seconds[steps:]
        for column in self.system.values():
            del column[steps:]
        self.marks = [mark for mark in self.marks if mark.step <= step]
        self.elapsed = max((times[-1] for times in (self._epoch_seconds, self._step_seconds) if times), default=0.0)

    @property
    def _latest(self) -> StepRecord | Epoch | None:
        latest: list[StepRecord | Epoch] = [events[-1] for events in (self.steps, self.epochs) if events]
        return max(latest, key=lambda event: event.step, default=None)

    @property
    def step(self) -> int:
        """The last step of the run that is recorded, 0 before the first."""
        if self._latest is None:
            return 0
        return self._latest.step

    @property
    def epoch(self) -> int:
        """The epoch of the last step that is recorded, 0 before the first."""
        if self._latest is None:
            return 0
        return self._latest.epoch

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics that some epoch has, in the order of their appearance."""
        return list(dict.fromkeys(name for epoch in self.epochs for name in epoch.metrics))

    @property
    def last_metrics(self) -> dict[str, float]:
        """The metrics of the last epoch; none before the first has ended."""
        return next((epoch.metrics for epoch in self.epochs[-1:]), {})

    @property
    def epoch_steps(self) -> int:
        """The steps of an epoch, 1 where they are not known."""
        return (self.started and self.started.steps_per_epoch) or 1

    @property
    def commit(self) -> str | None:
        """The commit that was checked out when the run started."""
        if self.started is None:
            return None
        return self.started.git_commit

    @property
    def code(self) -> CodeState | None:
        """Whether files differed from that commit, of a run that recorded it."""
        if self.started is None:
            return None
        return self.started.code

    @property
    def matmul(self) -> str | None:
        """How products of matrices are computed, of a run that recorded it."""
        if self.started is None:
            return None
        return self.started.matmul

    def tags(self, configured: Iterable[str]) -> tuple[str, ...]:
        """Return the tags of the run: those of its configuration, with what was added and removed since."""
        tags = dict.fromkeys(configured)
        for change in self.tag_changes:
            tags |= dict.fromkeys(change.added)
            for tag in change.removed:
                tags.pop(tag, None)
        return tuple(tags)

    @property
    def best_metric(self) -> str:
        """The metric that decides which epoch is best: on the validation split if the run has one."""
        on_validation = monitored(validation=True)
        return monitored(validation=any(on_validation in epoch.metrics for epoch in self.epochs))

    def last(self, metric: str) -> float | None:
        """Return a metric at the last epoch; one of the layers at the last epoch that has it, as not all do."""
        epochs = self.epochs[-1:]
        if metric in LAYER_METRICS:
            epochs = self.epochs[::-1]
        return next((epoch.metrics[metric] for epoch in epochs if metric in epoch.metrics), None)

    def best(self, metric: str | None = None) -> tuple[float, int] | None:
        """Return (value, epoch) where a metric is best, the first of equals; None without a finite value."""
        metric = metric or self.best_metric
        values = [(epoch.metrics.get(metric, math.nan), epoch.epoch) for epoch in self.epochs]
        finite = [pair for pair in values if math.isfinite(pair[0])]
        best: tuple[float, int] | None = best_of(metric)(finite, key=lambda pair: pair[0], default=None)
        return best

    def series(self, metric: str, x: Axis = "epoch", *, live: bool = False) -> tuple[list[float], list[float]]:
        """Return (xs, ys) of a metric with a point per epoch.

        A metric of steps (loss, lr, grad_norm, images_per_s) that no epoch has, or any with `live`, has a point per
        step, where x may be 2.5 epochs; so has a system metric.
        """
        values: list[float | None]
        if metric in SYSTEM_METRICS or (
            metric in STEP_FIELDS and (live or not any(metric in epoch.metrics for epoch in self.epochs))
        ):
            values = [getattr(step, metric, None) for step in self.steps]
            if metric in self.system:
                values = [None if math.isnan(value) else value for value in self.system[metric]]
            xs = [float(step.step) for step in self.steps]
            if x == "seconds":
                xs = self._step_seconds
            elif x == "epoch":
                xs = [step / self.epoch_steps for step in xs]
        else:
            values = [epoch.metrics.get(metric) for epoch in self.epochs]
            xs = self._epoch_seconds if x == "seconds" else [float(getattr(epoch, x)) for epoch in self.epochs]
        points = [(position, value) for position, value in zip(xs, values, strict=True) if value is not None]
        return [position for position, _ in points], [value for _, value in points]

    def layer_series(self, slot: str, statistic: str, x: Axis = "epoch") -> tuple[list[float], list[float]]:
        """Return (xs, ys) of a statistic of the layer in a slot, with a point per epoch after which it was taken."""
        seconds = {epoch.step: time for epoch, time in zip(self.epochs, self._epoch_seconds, strict=True)}
        xs, ys = [], []
        for event in self.layer_statistics:
            value = event.layers.get(slot, {}).get(statistic)
            position = seconds.get(event.step) if x == "seconds" else float(getattr(event, x))
            if value is not None and position is not None:
                xs.append(position)
                ys.append(value)
        return xs, ys

    def step_values(self, index: int) -> dict[str, float]:
        """Return what is recorded of the step at an index of `steps`, system metrics included."""
        step = self.steps[index]
        values = {name: value for name in STEP_FIELDS if (value := getattr(step, name)) is not None}
        return values | {name: column[index] for name, column in self.system.items() if not math.isnan(column[index])}

    @property
    def progress(self) -> Progress:
        """How far the run is and, at its recent speed, how long it still takes."""
        per_epoch = epochs = steps = eta = None
        step_in_epoch = 0
        if self.started is not None:
            per_epoch, epochs = self.started.steps_per_epoch, self.started.epochs
        if per_epoch and self._latest:
            step_in_epoch = self.step - (self.epoch - 1) * per_epoch
        if per_epoch and epochs:
            steps = per_epoch * epochs
            eta = self._remaining_seconds(epochs, per_epoch)
        if self.finished:
            eta = 0.0
        return Progress(self.epoch, epochs, step_in_epoch, per_epoch, self.step, steps, self.elapsed, eta)

    def _remaining_seconds(self, epochs: int, steps_per_epoch: int) -> float | None:
        """Return the seconds of the steps that are left, and of the evaluations and checkpoints; None while unknown."""
        seconds_per_step = self._seconds_per_step()
        if seconds_per_step is None:
            return None
        steps_left = max(0, epochs * steps_per_epoch - self.step)
        if self.epochs:
            recent = [epoch.metrics["train_s"] for epoch in self.epochs[-RECENT_EPOCHS:] if "train_s" in epoch.metrics]
            training = epoch_seconds = seconds_per_step * steps_per_epoch
            if recent:
                training = min(sum(recent) / len(recent), epoch_seconds)
            epochs_left = max(0, epochs - self.epochs[-1].epoch)
            return steps_left * training / steps_per_epoch + epochs_left * (epoch_seconds - training)
        share = 0.0
        if self.started and self.started.images.get("train"):
            train = self.started.images["train"]
            share = FORWARD_SHARE * (sum(self.started.images.values()) - train) / train
        return seconds_per_step * (steps_left + epochs * steps_per_epoch * share)

    def _seconds_per_step(self) -> float | None:
        """Return the recent speed, measured over whole epochs with their evaluation; in the first epoch, over steps."""
        if self.epochs:
            points = list(zip(self._epoch_seconds, (epoch.step for epoch in self.epochs), strict=True))
            if self.first_started:
                points.insert(0, (0.0, 0))
            points = points[-RECENT_EPOCHS - 1 :]
            if len(points) > 2 and points[0][1] == 0:
                del points[0]  # the first epoch also loaded the data and warmed up
        else:
            points = list(zip(self._step_seconds, (step.step for step in self.steps), strict=True))[-RECENT_STEPS:]
        if len(points) < 2 or points[-1][1] <= points[0][1]:
            return None
        (first_seconds, first_step), (last_seconds, last_step) = points[0], points[-1]
        return (last_seconds - first_seconds) / (last_step - first_step)

    def code_json(self) -> dict[str, Any]:
        """Return the commit of the run and whether files differed from it, as JSON; null is what was not recorded."""
        code = self.code
        return {"commit": self.commit, "dirty": code and code.dirty, "diff_sha256": code and code.diff_sha256}

    def digest(self) -> str:
        """Return the SHA-256 of all epochs without time, speed and memory: equal for runs that computed the same."""
        trace = hashlib.sha256()
        for epoch in self.epochs:
            fields = json_value(epoch.model_dump(exclude={"time"}))
            fields["metrics"] = {name: value for name, value in fields["metrics"].items() if name not in UNTRACED}
            trace.update(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n")
        return trace.hexdigest()


def layer_means(event: LayerStatistics) -> dict[str, float]:
    """Return the mean of each metric over the layers that have it."""
    means = {}
    for name in LAYER_METRICS:
        values = [layer[name] for layer in event.layers.values() if name in layer]
        if values:
            means[name] = sum(values) / len(values)
    return means


def _identity(event: Event) -> tuple[type[Event], int | None]:
    """Return what tells the events of a millisecond apart, whatever an editor has changed in them."""
    return type(event), getattr(event, "step", None)
