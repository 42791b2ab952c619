"""The pen of a run: appends its events, and keeps those that a full disk refuses until it takes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from convnn import events
from convnn.errors import escaped
from convnn.events import Event, Step, Warned


class Journal:
    """Writes the events of one run in order. A refused one waits, with all behind it; steps may be lost, others not."""

    def __init__(self, path: Path, warn: Callable[[Event], None]) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(path, flags, 0o666)
        self._warn = warn
        self._waiting: list[Event] = []
        self.problem: OSError | None = None  # why something waits

    def add(self, event: Event) -> None:
        """Write the event, or keep it to be written later; the first refusal is told to `warn`."""
        if isinstance(event, Step) and self._waiting:
            return
        self._waiting.append(event)
        before = self.problem
        if not self.flush() and before is None and self.problem is not None:
            warning = Warned(
                message=f"the history cannot be written ({escaped(self.problem.strerror)}); it waits in memory"
            )
            self._waiting.append(warning)
            self._warn(warning)

    def flush(self) -> bool:
        """Write what waits; whether nothing does any more."""
        while self._waiting:
            try:
                events.append(self._file, self._waiting[0])
            except OSError as error:
                if not isinstance(self._waiting[0], Step):  # no promise covers those
                    self.problem = error
                    return False
            del self._waiting[0]
        self.problem = None
        return True

    def close(self) -> None:
        os.close(self._file)
