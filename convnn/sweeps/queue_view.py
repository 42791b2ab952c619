"""What a person sees of a queue: each entry with its state and with what tells it apart from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from convnn.config.active import active_options
from convnn.config.options import BY_KEY
from convnn.config.toml import parse_run
from convnn.errors import UserError
from convnn.files import folder_entries
from convnn.runs.history import Progress
from convnn.sweeps.claims import claim_text
from convnn.sweeps.queue import Entry, Queue
from convnn.sweeps.slots import SLOTS, short_host_name
from convnn.sweeps.work import live_workers


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
        return self.entry.title


@dataclass(frozen=True)
class SlotState:
    """A slot of a worker, and the entry that is trained there."""

    name: str  # "gpu0"; of another machine "host-gpu0"
    entry_id: str | None  # None for one that is free


@dataclass(frozen=True)
class QueueState:
    """All that a person sees of a queue."""

    rows: Sequence[QueueRow] = ()
    slots: Sequence[SlotState] = ()
    paused: str | None = None  # the reason
    ended: Sequence[Entry] = ()  # that left it lately without being done, the latest first
    warnings: Sequence[str] = ()

    def slot_of(self, row: QueueRow) -> str:
        """Return the name of the slot where an entry is trained; "" for one that waits."""
        return next((slot.name for slot in self.slots if slot.entry_id == row.entry.id), "")


def queue_state(queue: Queue, *, ended_since: float = 0.0) -> QueueState:
    """Return the state of a queue, with the entries that left it since a time (seconds since the epoch)."""
    rows, warnings = queue_rows(queue)
    return QueueState(rows, slot_states(queue), queue.paused, queue.ended(since=ended_since), warnings)


def slot_states(queue: Queue) -> list[SlotState]:
    """Return the slots of the workers that serve a queue, and those where a run of an earlier worker still trains."""
    try:
        folder = queue.place(SLOTS)
    except UserError:  # the queue warns of it
        return []
    names = [name for path in live_workers(queue) for name in (claim_text(path) or "").split("\n") if name]
    texts = {path.name: claim_text(path) for path in folder_entries(folder)}
    in_use = {name: entry_id for name, entry_id in texts.items() if entry_id is not None}
    own = f"{short_host_name()}-"
    return [SlotState(name.removeprefix(own), in_use.get(name)) for name in sorted({*names, *in_use})]


def queue_rows(queue: Queue) -> tuple[list[QueueRow], list[str]]:
    """Return the rows of a queue, and a warning for each damaged entry."""
    entries, warnings = queue.entries()
    options = differing_options(entries)
    rows = []
    for index, entry in enumerate(entries):
        state = queue.status(entry)
        progress = None
        if state != "queued" and (run := queue.run_of(entry)) is not None:
            progress = run.live_progress()
        rows.append(QueueRow(index + 1, entry, state, options[index], progress))
    return rows, warnings


def differing_options(entries: Sequence[Entry]) -> list[dict[str, str]]:
    """Return for each entry the active options by name whose values are not the same in all entries."""
    configured = [_active_options(entry.config) for entry in entries]
    keys = [key for key in BY_KEY if len({repr(values.get(key)) for values in configured}) > 1]
    return [{BY_KEY[key].name: BY_KEY[key].text(values[key]) for key in keys if key in values} for values in configured]


@lru_cache(maxsize=1024)  # a screen reads a long queue every second or two
def _active_options(config: str) -> dict[str, Any]:
    try:
        return active_options(parse_run(config))
    except UserError:
        return {}  # its start will say what is wrong
