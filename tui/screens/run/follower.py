"""A run directory followed as it grows, whoever trains it: events folded, printed lines, and how the run is."""

from __future__ import annotations

import os
import re

from convnn.events import Event, Finished
from convnn.files import opened
from convnn.runs import event_log
from convnn.runs.history import History
from convnn.runs.lock import held
from convnn.runs.run import Run

TAIL = 1 << 18  # bytes of an old log.txt that are read
LONGEST = 1 << 14  # bytes of a line that are waited for


class Watch:
    """What is known of a run; `look` brings it up to date."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.history = History()
        self.log_path = run.path / "log.txt"
        self._byte = 0
        self._log_byte: int | None = None
        self._half = b""
        self._damage: list[str] = []  # not yet told
        self._refused = ""  # why log.txt cannot be read, told once

    def look(self) -> list[Event]:
        """The events since the last look, folded into the history. Raises OSError when the directory is unreadable."""
        try:
            if self.run.events_path.stat().st_size == self._byte:
                return []
            new, self._byte, bad = event_log.read(self.run.events_path, self._byte)
        except FileNotFoundError:
            return []
        self.history.fold(new)
        self.history.bad += bad
        self._damage += [f"events.jsonl: what stands at byte {byte} is no event: {reason}" for byte, reason in bad]
        return new

    def printed(self) -> list[str]:
        """The lines of `log.txt` since the last call, of a long one only the end; and what was found damaged."""
        damage, self._damage = self._damage, []
        try:
            with opened(self.log_path) as file:
                if self._log_byte is None:
                    self._log_byte = max(0, file.seek(0, os.SEEK_END) - TAIL)
                file.seek(self._log_byte)
                data = file.read()
        except FileNotFoundError:
            return damage
        except OSError as error:
            said = f"log.txt cannot be read: {error.strerror}"
            told, self._refused = self._refused, said
            return damage if said == told else [*damage, said]
        self._log_byte += len(data)
        *lines, self._half = re.split(rb"\r?\n|\r", self._half + data)
        if len(self._half) > LONGEST:
            lines.append(self._half)
            self._half = b""
        return damage + [line.decode("utf-8", "replace") for line in lines]

    @property
    def state(self) -> str:
        """How the run is, a key of `convnn.runs.status.GLYPHS`, by what was read so far and by who holds its lock."""
        if isinstance(self.history.finished, Finished):
            return self.history.finished.outcome
        if not held(self.run.path):
            return "died"
        return "paused" if self.history.paused else "running"
