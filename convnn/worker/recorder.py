"""What a run leaves on the disk and on the screen while it trains: its events, and the text files made from them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from torch import nn

from convnn.config.options import OPTIONS, value_at
from convnn.config.schema import RunConfig
from convnn.events import Event, Started, Warned
from convnn.files import write_atomic
from convnn.runs import text_files
from convnn.runs.event_log import EventLog, event_line
from convnn.runs.history import History
from convnn.runs.run import Run

CHECK_SECONDS = 0.1  # between two checks of the lock
Show = Callable[[Event, str], None]  # gets an event and its line in events.jsonl


def _clock() -> float:
    """Return a monotonic time in seconds that also goes on while the machine is suspended, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Recorder:
    """Appends each event to events.jsonl, folds it into the history, and shows it: it is serialized and folded once.

    `check_lock` is called before anything is written, and raises LockLostError where another process trains the run.
    """

    def __init__(self, run: Run, history: History, show: Show, check_lock: Callable[[], None] = lambda: None) -> None:
        self.run, self.history, self._show, self._check_lock = run, history, show, check_lock
        self._checked = 0.0  # when, by `_clock`
        self._event_log = EventLog(run.events_path, show)
        self._unwritable: set[str] = set()  # files that a warning was given for

    def close(self) -> None:
        self._event_log.close()

    def check_lock(self) -> None:
        """Raise LockLostError where another process trains the run by now; it is checked once in CHECK_SECONDS."""
        if _clock() - self._checked >= CHECK_SECONDS:
            self._check_lock()
            self._checked = _clock()

    def emit(self, event: Event) -> None:
        self.check_lock()
        line = self._event_log.append(event)
        self.history.fold([event])
        self._show(event, line)

    def show(self, event: Event) -> None:
        """Show an event that is not part of the history."""
        self._show(event, event_line(event))

    def flush(self) -> None:
        """Write the events that wait in memory, as before each checkpoint.

        Raises OSError where the disk does not take them, and LockLostError.
        """
        self._check_lock()
        if not self._event_log.flush():
            assert self._event_log.problem is not None
            raise self._event_log.problem

    def try_flush(self) -> bool:
        """Write the events that wait in memory; return whether none waits any more."""
        return self._event_log.flush()

    def write_results(self) -> None:
        if self.history.epochs:
            self.write(text_files.RESULTS, text_files.results_text(self.history))

    def write_description(self, config: RunConfig, model: nn.Module, started: Started) -> None:
        """Write args.txt and model.txt."""
        options = {option.name: value_at(config, option.key) for option in OPTIONS}
        arguments = text_files.args_text(
            options | {"output_dir": str(self.run.path)},
            num_classes=started.num_classes or 0,
            img_size=started.image_size or (),
            total_params=started.parameters or 0,
            trainable_params=started.trainable_parameters or 0,
        )
        self.write(text_files.ARGS, arguments)
        self.write(text_files.MODEL, text_files.model_text(model))

    def warn_unwritable(self, path: Path, error: OSError) -> None:
        """Warn, once for each file, that it cannot be written; training goes on."""
        if path.name not in self._unwritable:
            self._unwritable.add(path.name)
            self.emit(Warned(message=f"{path.name} cannot be written: {error.strerror or error}"))

    def write(self, name: str, content: str | bytes) -> None:
        self.check_lock()
        try:
            write_atomic(self.run.path / name, content)
        except OSError as error:
            self.warn_unwritable(self.run.path / name, error)
