"""A run shown where there is no terminal to draw on: a line an epoch, or its events as JSON lines."""

from __future__ import annotations

import sys
from typing import Self

from convnn.data.catalog import images_text
from convnn.events import Changed, Epoch, Event, Finished, Noted, Paused, Resumed, Started, Warned
from convnn.runs import event_log
from convnn.runs.history import History
from convnn.terminal.console import err, out, silence
from convnn.terminal.report import best_epoch, device_text, epoch_line, event_line, outcome_sentence
from convnn.text import duration, plural


class RunView:
    """Base of the views of a run: `show` is called with each event, after the caller folded it into the history."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the terminal with the last picture."""

    def show(self, event: Event, line: str = "") -> None:
        """Show an event; `line` is its line in events.jsonl. A closed stdout or stderr raises nothing."""
        raise NotImplementedError

    def restore(self) -> None:
        """Leave the terminal usable, from any thread, when the process is about to end at once."""


class JsonLines(RunView):
    """Events on stdout, each as its line in events.jsonl."""

    def show(self, event: Event, line: str = "") -> None:
        try:
            sys.stdout.write((line or event_log.event_line(event)) + "\n")
            sys.stdout.flush()
        except OSError as error:
            _lose_stdout(error)


class PlainLines(RunView):
    """A line an epoch on stdout; what needs attention on stderr."""

    def __init__(self, name: str, about: str = "", history: History | None = None) -> None:
        self.name, self.about, self.history = name, about, history or History()

    def show(self, event: Event, line: str = "") -> None:
        match event:
            case Started():
                _write("  ".join(filter(None, ("started", self.name, self.about, *_started_words(event)))))
            case Epoch():
                progress, line = self.history.progress, epoch_line(event, self.history)
                if progress.eta and event.epoch != progress.epochs:
                    line += f"  eta {duration(progress.eta)}"
                _write(line)
            case Finished():
                _write(_finished_line(self.history))
            case Warned() | Noted() | Changed() | Paused() | Resumed():
                _write_message(event_line(event, self.history)[0])


def _started_words(started: Started) -> list[str]:
    words = []
    if started.parameters is not None:
        words.append(f"{started.parameters:,} parameters")
    if started.num_classes and started.images:
        words.append(images_text(started.num_classes, started.images))
    if started.device:
        words.append(device_text(started))
    if started.steps_per_epoch:
        words.append(plural(started.steps_per_epoch, "step/epoch", "steps/epoch"))
    return words


def _finished_line(history: History) -> str:
    """Return how a run ended: outcome, cause, best value, time it took."""
    assert history.finished is not None
    best = " ".join(best_epoch(history) or ())
    return "  ".join(filter(None, (outcome_sentence(history.finished), best, duration(history.elapsed))))


def _write(line: str) -> None:
    try:
        out().print_line(line)
    except OSError as error:
        _lose_stdout(error)


def _write_message(line: str) -> None:
    try:
        err().print_line(line)
    except OSError as error:
        silence(sys.stderr)
        _write(f"stderr is closed ({error.strerror}); the run continues")


def _lose_stdout(error: OSError) -> None:
    """Discard stdout from now on: a closed pipe, a hung-up terminal or a full disk does not end a run."""
    silence(sys.stdout)
    try:
        err().print_line(f"stdout is closed ({error.strerror}); the run continues")
    except OSError:
        silence(sys.stderr)
