"""A run told where there is no terminal to draw on: a line an epoch, or the events as JSON lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self, TextIO

from convnn.events import Changed, Epoch, Event, Finished, Paused, Resumed, Started, Warned
from convnn.runs.event_log import line
from convnn.runs.history import History
from convnn.text import duration, escaped, number, rate


def silence(stream: TextIO) -> None:
    """Send what is written from now on, and what could not be written, nowhere: its reader is gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def say(text: str, *, talk: bool = False) -> None:
    """Write a line to stdout, or to stderr where it is talk and not data. A reader that went away ends no run."""
    stream = sys.stderr if talk else sys.stdout
    encoding = stream.encoding or "ascii"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
    except OSError as error:  # closed pipe, hung-up terminal, full disk: the run's own files have it all
        silence(stream)
        say(f"{'stderr' if talk else 'stdout'} is gone ({error.strerror}); the run goes on", talk=not talk)


class Lines:
    """A view without a terminal: there is nothing to set up, and nothing to restore."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def restore(self) -> None:
        """Nothing was done to the terminal."""


class Json(Lines):
    """The events on stdout, a line of JSON each."""

    def show(self, event: Event) -> None:
        say(line(event))


class Plain(Lines):
    """A line an epoch on stdout; what needs attention on stderr."""

    def __init__(self, name: str, about: str = "", history: History | None = None) -> None:
        self.name, self.about, self.history = name, about, history or History()

    def show(self, event: Event) -> None:
        self.history.fold([event])
        match event:
            case Started():
                say("  ".join(filter(None, ("started", escaped(self.name), self.about, *_facts(event)))))
            case Epoch():
                say(epoch_line(event, self.history))
            case Finished():
                say(finished_line(self.history))
            case Warned():
                say(f"warning: {escaped(event.message)}", talk=True)
            case Changed():
                say(f"changed: {escaped(event.what)}", talk=True)
            case Paused():
                say(f"paused in epoch {event.epoch}, after step {event.step}", talk=True)
            case Resumed():
                note = f" ({escaped(event.note)})" if event.note else ""
                say(f"resumed {escaped(self.name)} in epoch {event.epoch}, after step {event.step}{note}", talk=True)


def _facts(started: Started) -> list[str]:
    """What is worth a word of the start: size, machine, length."""
    threads = f", {started.threads} threads" if started.threads and started.device.startswith("cpu") else ""
    return [
        *([f"{started.parameters:,} parameters"] if started.parameters is not None else []),
        *([escaped(started.device) + threads] if started.device else []),
        *([f"{started.steps_per_epoch} steps an epoch"] if started.steps_per_epoch else []),
    ]


def epoch_line(event: Epoch, history: History) -> str:
    """An epoch in a line: "epoch 12/150  loss 0.812  top1 71.4  test 69.9  lr 3.0e-4  21.4 s + 3.0 s  eta 49 m"."""
    metrics, progress = event.metrics, history.progress
    words = [f"epoch {event.epoch}" + (f"/{progress.epochs}" if progress.epochs else "")]
    words += _figures(metrics)
    if "lr" in metrics:
        words.append(f"lr {rate(metrics['lr'])}")
    if "train_s" in metrics:
        words.append(" + ".join(duration(metrics[key]) for key in ("train_s", "eval_s") if key in metrics))
    if progress.eta is not None and event.epoch != progress.epochs:
        words.append(f"eta {duration(progress.eta)}")
    return "  ".join(words)


def _figures(metrics: Mapping[str, float]) -> list[str]:
    found = []
    for key, word in (("train_loss", "loss"), ("train_top1", "top1"), ("val_top1", "val"), ("test_top1", "test")):
        decimals = 3 if word == "loss" else 1
        if (value := metrics.get(key)) is not None:
            plain = value == 0 or 1e-3 <= abs(value) < 1e4  # false for NaN
            found.append(f"{word} {value:.{decimals}f}" if plain else f"{word} {number(value)}")
    return found


def finished_line(history: History) -> str:
    """How a run ended, in a line: outcome, why, best figure, time it took."""
    assert history.finished is not None
    words = [history.finished.outcome + (f": {escaped(history.finished.cause)}" if history.finished.cause else "")]
    if best := history.best():
        words.append(f"best on {history.best_metric.partition('_')[0]} {best[0]:.1f} at epoch {best[1]}")
    return "  ".join([*words, duration(history.elapsed)])
