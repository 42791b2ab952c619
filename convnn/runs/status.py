"""The status of a run: never stored, always derived from its last event and from whether a process holds its lock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from convnn.events import PRUNED, Epoch, Event, Finished, Paused, Resumed, Started, Step
from convnn.files import open_regular
from convnn.runs.event_log import parse_event
from convnn.runs.lock import is_locked


class Status(NamedTuple):
    """A status: its word in files, filters and JSON, its glyph, and whether a process trains the run."""

    word: str
    glyph: str
    is_live: bool = False

    @property
    def label(self) -> str:
        """Glyph and word: "● running"."""
        return f"{self.glyph} {self.word}"


STATUSES: dict[str, Status] = {
    status.word: status
    for status in (
        Status("running", "●", is_live=True),
        Status("paused", "‖", is_live=True),
        Status("queued", "◌"),
        Status("requeued", "↻"),
        Status("done", "✓"),
        Status("stopped", "■"),
        Status(PRUNED, "▪"),  # stopped by a search
        Status("interrupted", "◧"),
        Status("failed", "✗"),
        Status("diverged", "≈"),
        Status("died", "†"),  # no process trains it, and it never reported an end
    )
}
TAIL = 1 << 13  # bytes read from the end of the log first


def status_label(status: str, host: str | None = None) -> str:
    """Return glyph and word of a status, and the other node that trains the run: "● running on node2"."""
    label = STATUSES[status].label
    if host:
        label += f" on {host}"
    return label


def derive_status(path: Path, last_event: Event | None) -> str:
    """Return the status, a key of STATUSES, of the run at `path` from what `last_status_event` returned."""
    if isinstance(last_event, Finished):
        return last_event.status
    if not is_locked(path):
        return "died"
    return "paused" if isinstance(last_event, Paused) else "running"


def last_status_event(path: Path) -> Event | None:
    """Return the last event that decides the status, read from the end of the log; None where there is none.

    Notes, warnings and saved checkpoints decide nothing.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            tail = TAIL
            while True:
                file.seek(max(0, size - tail))
                lines = file.read(min(tail, size)).split(b"\n")[:-1]  # after the last newline: half-written
                if tail < size:
                    del lines[:1]  # it begins before the tail
                for line in reversed(lines):
                    try:
                        event = parse_event(line)
                    except ValueError:
                        continue  # damage is reported where the whole file is read
                    if isinstance(event, Started | Step | Epoch | Paused | Resumed | Finished):
                        return event
                if tail >= size:
                    return None
                tail *= 16
    except FileNotFoundError:
        return None
