"""What a person sees of a queue: each entry with its state and with what tells it apart from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convnn.config.active import active_options
from convnn.config.options import BY_KEY
from convnn.config.toml import parse_run
from convnn.errors import UserError
from convnn.runs.history import Progress
from convnn.sweeps.queue import Entry, Queue


@dataclass(frozen=True)
class QueueRow:
    """An entry as it is shown; `position` counts from 1."""

    position: int
    entry: Entry
    state: str  # "queued", or the status of its run while that trains
    options: dict[str, str]  # the options in which the entries differ, by name
    progress: Progress | None  # of its run, while that trains

    @property
    def name(self) -> str:
        path = self.entry.run_path
        return self.entry.name if path is None else path.name


def queue_rows(queue: Queue) -> tuple[list[QueueRow], list[str]]:
    """Return the rows of a queue, and a warning for each damaged entry."""
    entries, warnings = queue.entries()
    options = differing_options(entries)
    rows = []
    for index, entry in enumerate(entries):
        state = queue.status(entry)
        run = None if state == "queued" else queue.run_of(entry)
        progress = None if run is None else run.history(steps=False).progress
        rows.append(QueueRow(index + 1, entry, state, options[index], progress))
    return rows, warnings


def differing_options(entries: Sequence[Entry]) -> list[dict[str, str]]:
    """Return for each entry the active options by name whose values are not the same in all entries."""
    configured = [_active(entry) for entry in entries]
    keys = [key for key in BY_KEY if len({repr(values.get(key)) for values in configured}) > 1]
    return [{BY_KEY[key].name: BY_KEY[key].text(values[key]) for key in keys if key in values} for values in configured]


def _active(entry: Entry) -> dict[str, Any]:
    try:
        return active_options(parse_run(entry.config))
    except UserError:
        return {}  # its start will say what is wrong
