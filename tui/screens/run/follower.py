"""Follows a run directory as it grows, whoever trains it: events, printed lines and status."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from convnn.events import Event
from convnn.files import open_regular
from convnn.runs.history import History
from convnn.runs.lock import is_locked
from convnn.runs.run import Run
from convnn.runs.slurm_jobs import element_of_run, with_job
from convnn.terminal.report import followed_status

LOG_TAIL = 1 << 18  # bytes of an old log.txt that are read
MAX_LINE = 1 << 14  # bytes of an unfinished line that are held back
MIN_INTERVAL, MAX_INTERVAL = 0.5, 3.0  # seconds between two polls
IDLE_FACTOR = 100
"""When this thread computed for t seconds since the last poll, the next comes 100 t after it: drawing, which holds the
interpreter lock that training in this process needs too, takes 1 % of a core."""


class LogTail:
    """The lines of a file that grows, of a long one from its end on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset: int | None = None
        self._partial_line = b""
        self._error = ""

    def read(self) -> list[str]:
        """Return the lines since the last call, and once why the file cannot be read; none where it is missing."""
        try:
            with open_regular(self.path) as file:
                if self._offset is None:
                    self._offset = max(0, file.seek(0, os.SEEK_END) - LOG_TAIL)
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            last_error, self._error = self._error, f"{self.path.name} cannot be read: {error.strerror}"
            if self._error == last_error:
                return []
            return [self._error]
        self._offset += len(data)
        *lines, self._partial_line = re.split(rb"\r?\n|\r", self._partial_line + data)
        if len(self._partial_line) > MAX_LINE:
            lines.append(self._partial_line)
            self._partial_line = b""
        return [line.decode("utf-8", "replace") for line in lines]


class RunFollower:
    """The history of a run; `poll` brings it up to date."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.history = History()
        self._log = LogTail(run.log_path)
        self._job_log: LogTail | None = None  # of the Slurm job that trains it, if there is one
        self._damage: list[str] = []  # descriptions of damaged lines that `read_log` has not returned yet

    def poll(self) -> list[Event]:
        """Fold the events since the last call into the history and return them.

        Raises OSError when the directory is unreadable.
        """
        known_lines = set(self.history.skipped_lines)
        events = self.history.update(self.run.events_path)
        damaged = [line for line in self.history.skipped_lines if line not in known_lines]
        self._damage += [f"events.jsonl: no event at byte {offset}: {reason}" for offset, reason in damaged]
        return events

    def read_log(self) -> list[str]:
        """Return what is damaged, and the lines of `log.txt` and of its Slurm job's output since the last call."""
        damage, self._damage = self._damage, []
        if self._job_log is None and (element := element_of_run(self.run.path)) is not None:
            self._job_log = LogTail(element[1])
        lines = damage + self._log.read()
        if self._job_log is not None:
            lines += self._job_log.read()
        return lines

    @property
    def status(self) -> str:
        """The status of the run, a key of `convnn.runs.status.STATUSES`, by its last event, its lock and its job."""
        status = followed_status(self.history)
        if self.history.finished is None and not is_locked(self.run.path):
            status = "died"
        return with_job(status, self.run.path, waits=False)

    @property
    def host(self) -> str | None:
        """The name of the other node that trains the run; None where none does."""
        if self.history.finished:
            return None
        return self.run.remote_host


class PollInterval:
    """Says when to poll again, as often as the computing time of this thread allows."""

    def __init__(self) -> None:
        self._last_poll = self._thread_time = 0.0

    def is_over(self) -> bool:
        """Return whether it is time to poll; then the next interval begins."""
        now, thread_time = time.monotonic(), time.thread_time()
        interval = min(MAX_INTERVAL, max(MIN_INTERVAL, IDLE_FACTOR * (thread_time - self._thread_time)))
        if now < self._last_poll + interval:
            return False
        self._last_poll, self._thread_time = now, thread_time
        return True
