"""The events of a run folded into series, progress and outcome: the same for a live run and a years-old one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, Self

from convnn.events import Changed, Epoch, Event, Finished, Paused, Resumed, Saved, Started, Step, Warned
from convnn.metrics import METRICS, lower_is_better, monitored
from convnn.runs import event_log

Axis = Literal["epoch", "step", "seconds"]

UNTRACED = frozenset(name for name, metric in METRICS.items() if metric.hardware)
STEP_FIELDS = ("loss", "lr", "grad_norm", "images_per_s")
RECENT = 5  # epochs or, before the first ends, hundreds of steps that the speed is measured over


class Mark(NamedTuple):
    """A moment a chart draws: paused, resumed, changed or saved."""

    kind: str
    epoch: int
    step: int


class StepRecord(NamedTuple):
    """What a Step event said, in a quarter of its memory: there are tens of thousands of them."""

    time: datetime
    epoch: int
    step: int
    loss: float
    lr: float | None
    grad_norm: float | None
    images_per_s: float | None


class Progress(NamedTuple):
    """How far a run is; times in seconds, without pauses and without the time it was not running."""

    epoch: int  # the one in progress or, at its end, the one just ended; 0 before the first step
    epochs: int | None
    step_in_epoch: int
    steps_per_epoch: int | None
    step: int
    steps: int | None  # of the whole run
    elapsed: float
    eta: float | None  # None while no speed is measured, 0 when the run ended


class History:
    """What happened in a run so far."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.started: Started | None = None  # the latest start: what the run trains on now
        self.first_started: datetime | None = None  # the first start
        self.finished: Finished | None = None
        self.paused = False
        self.epochs: list[Epoch] = []
        self.steps: list[StepRecord] = []
        self.warnings: list[Warned] = []
        self.changes: list[Changed] = []  # what people did or noted
        self.marks: list[Mark] = []
        self.skipped_lines: list[tuple[int, str]] = []  # (byte, reason) of each line of the file that is no event
        self.elapsed = 0.0  # seconds it ran, up to the last event
        self._epoch_seconds: list[float] = []
        self._step_seconds: list[float] = []
        self._clock: datetime | None = None  # None while the run stands still
        self._byte = 0
        self.fold(events)

    def fold(self, events: Iterable[Event]) -> Self:
        """Add events in the order they were written."""
        for event in events:
            self._tick(event)
            match event:
                case Step():
                    if self.steps and event.step <= self.steps[-1].step:
                        self._rewind(event.step - 1)  # a start over that left no word
                    self.steps.append(StepRecord(*(getattr(event, field) for field in StepRecord._fields)))
                    self._step_seconds.append(self.elapsed)
                case Epoch():
                    if self.epochs and event.step <= self.epochs[-1].step:
                        self._rewind(event.step - 1)
                    self.epochs.append(event)
                    self._epoch_seconds.append(self.elapsed)
                case Started():
                    self.started, self.finished, self.paused = event, None, False
                    self.first_started = self.first_started or event.time
                case Resumed():
                    self.finished, self.paused = None, False
                    self._rewind(event.step)
                    self.marks.append(Mark("resumed", event.epoch, event.step))
                case Paused():
                    self.paused = True
                    self.marks.append(Mark("paused", event.epoch, event.step))
                case Saved():
                    self.marks.append(Mark("saved", self.epoch, event.step))
                case Changed():
                    self.changes.append(event)
                    self.marks.append(Mark("changed", self.epoch, self.step))
                case Warned():
                    self.warnings.append(event)
                case Finished():
                    self.finished, self.paused = event, False
        return self

    def update(self, path: Path, *, steps: bool = True) -> bool:
        """Fold what the file of events holds beyond the last call; whether that was anything. No file: nothing yet."""
        try:
            new, self._byte, bad = event_log.read_events(path, self._byte, steps=steps)
        except FileNotFoundError:
            return False
        self.fold(new)
        self.skipped_lines += bad
        return bool(new or bad)

    def _tick(self, event: Event) -> None:
        if isinstance(event, Started | Resumed):
            self._clock = event.time  # the time since the last event was spent not running
        elif self._clock is not None and not isinstance(event, Changed):  # a note may come at any time
            self.elapsed += max(0.0, (event.time - self._clock).total_seconds())  # clocks are set back, too
            self._clock = None if isinstance(event, Paused | Finished) else max(event.time, self._clock)

    def _rewind(self, step: int) -> None:
        """Forget what was told of steps after `step`, and the time they took."""
        if self.step <= step:
            return
        keep = sum(event.step <= step for event in self.epochs)
        del self.epochs[keep:], self._epoch_seconds[keep:]
        keep = sum(event.step <= step for event in self.steps)
        del self.steps[keep:], self._step_seconds[keep:]
        self.marks = [mark for mark in self.marks if mark.step <= step]
        self.elapsed = max((times[-1] for times in (self._epoch_seconds, self._step_seconds) if times), default=0.0)

    @property
    def _latest(self) -> StepRecord | Epoch | None:
        told: list[StepRecord | Epoch] = [told[-1] for told in (self.steps, self.epochs) if told]
        return max(told, key=lambda event: event.step, default=None)

    @property
    def step(self) -> int:
        """Steps told of so far, of the whole run."""
        return self._latest.step if self._latest else 0

    @property
    def epoch(self) -> int:
        """The epoch of the last step told of, 0 before the first."""
        return self._latest.epoch if self._latest else 0

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics that some epoch has, in the order they appeared."""
        return list(dict.fromkeys(name for epoch in self.epochs for name in epoch.metrics))

    @property
    def best_metric(self) -> str:
        """The metric that decides which epoch was best: on the validation share if the run has one."""
        return monitored(validation=any(monitored(validation=True) in epoch.metrics for epoch in self.epochs))

    def best(self, metric: str | None = None) -> tuple[float, int] | None:
        """(value, epoch) where the metric was best, the first of equals; None without a finite value."""
        metric = metric or self.best_metric
        sign = 1 if lower_is_better(metric) else -1
        told = [(epoch.metrics.get(metric, math.nan), epoch.epoch) for epoch in self.epochs]
        return min((each for each in told if math.isfinite(each[0])), key=lambda each: sign * each[0], default=None)

    def series(self, metric: str, x: Axis = "epoch", *, live: bool = False) -> tuple[list[float], list[float]]:
        """(xs, ys) of a metric, a point an epoch; of "loss" and with `live` a point a step, where x may be 2.5 epochs.

        A step's fields are loss, lr, grad_norm and images_per_s; one that no epoch has is given by steps.
        """
        if metric in STEP_FIELDS and (live or not any(metric in epoch.metrics for epoch in self.epochs)):
            values = [getattr(step, metric) for step in self.steps]
            per_epoch = (self.started and self.started.steps_per_epoch) or 1
            if x == "seconds":
                xs = self._step_seconds
            else:
                xs = [step.step if x == "step" else step.step / per_epoch for step in self.steps]
        else:
            values = [epoch.metrics.get(metric) for epoch in self.epochs]
            if x == "seconds":
                xs = self._epoch_seconds
            else:
                xs = [epoch.step if x == "step" else epoch.epoch for epoch in self.epochs]
        points = [(float(at), value) for at, value in zip(xs, values, strict=True) if value is not None]
        return [at for at, _ in points], [value for _, value in points]

    @property
    def progress(self) -> Progress:
        """How far the run is and, from the speed it had lately, how long it still takes."""
        started, latest = self.started, self._latest
        per_epoch, epochs = (started.steps_per_epoch, started.epochs) if started else (None, None)
        steps = per_epoch * epochs if per_epoch and epochs else None
        in_epoch = self.step - (self.epoch - 1) * per_epoch if per_epoch and latest else 0
        pace, eta = self._seconds_per_step(), None
        if self.finished:
            eta = 0.0
        elif steps is not None and pace is not None:
            eta = max(0, steps - self.step) * pace
        return Progress(self.epoch, epochs, in_epoch, per_epoch, self.step, steps, self.elapsed, eta)

    def _seconds_per_step(self) -> float | None:
        """Measured over whole epochs, evaluation included; within the first epoch over its steps."""
        told: list[tuple[float, int]] = [(0.0, 0)] if self.first_started else []
        if self.epochs:
            told += zip(self._epoch_seconds, (epoch.step for epoch in self.epochs), strict=True)
            told = told[-RECENT - 1 :]
            if len(told) > 2 and told[0][1] == 0:
                del told[0]  # the first epoch also loaded the data and warmed up
        else:
            told = list(zip(self._step_seconds, (step.step for step in self.steps), strict=True))[-RECENT * 100 :]
        if len(told) < 2 or told[-1][1] <= told[0][1]:
            return None
        return (told[-1][0] - told[0][0]) / (told[-1][1] - told[0][1])

    def digest(self) -> str:
        """SHA-256 of the trace: every epoch without time, speed and memory. Equal for runs that computed the same."""
        trace = hashlib.sha256()
        for epoch in self.epochs:
            fields = json.loads(epoch.model_dump_json(exclude={"time"}))
            fields["metrics"] = {name: value for name, value in fields["metrics"].items() if name not in UNTRACED}
            trace.update(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n")
        return trace.hexdigest()
