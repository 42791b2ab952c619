"""How a run is: never stored, always derived from its last events and from who holds its lock."""

from __future__ import annotations

import os
from pathlib import Path

from convnn.events import Epoch, Event, Finished, Paused, Resumed, Started, Step
from convnn.files import open_regular
from convnn.runs.event_log import parse_event
from convnn.runs.lock import is_locked

GLYPHS = {
    "running": "●",
    "paused": "‖",
    "queued": "◌",
    "done": "✓",
    "stopped": "■",
    "interrupted": "◧",
    "failed": "✗",
    "diverged": "≈",
    "died": "†",
}
ASCII_GLYPHS = {
    "running": "*",
    "paused": "=",
    "queued": ".",
    "done": "+",
    "stopped": "#",
    "interrupted": "/",
    "failed": "x",
    "diverged": "~",
    "died": "!",
}


def derive_status(path: Path, last: Event | None) -> str:
    """The state, a key of GLYPHS, of the run at `path` whose last decisive event is `last`."""
    if isinstance(last, Finished):
        return last.outcome
    if not is_locked(path):
        return "died"
    return "paused" if isinstance(last, Paused) else "running"


def last_status_event(path: Path) -> Event | None:
    """The last event that says how the run is, read from the tail of the file; notes and the like say nothing."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            tail = 1 << 13
            while True:
                file.seek(max(0, size - tail))
                lines = file.read(min(tail, size)).split(b"\n")[:-1]  # behind the last newline: half-written
                for text in reversed(lines if tail >= size else lines[1:]):
                    try:
                        event = parse_event(text)
                    except ValueError:
                        continue  # damage is reported by who reads the whole file
                    if isinstance(event, Started | Step | Epoch | Paused | Resumed | Finished):
                        return event
                if tail >= size:
                    return None
                tail *= 16
    except FileNotFoundError:
        return None
