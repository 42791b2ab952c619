"""The queue on the disk, as the app uses it: launches and runs go into it and train in the background."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convnn.config.toml import dumps
from convnn.runs.run import Run
from convnn.sweeps.queue import Entry, Queue, new_entry, resuming_entry
from convnn.text import plural
from tui.process.launcher import Launch


class Background:
    """Adds to the queue of a runs folder, and starts a worker where none serves it."""

    def __init__(self, root: Path) -> None:
        self.queue = Queue(root)

    def add(self, entries: Sequence[Entry]) -> str:
        """Append entries and return what becomes of them. Raises OSError where the disk or the system refuses."""
        self.queue.add(entries)
        return self.start()

    def start(self) -> str:
        """Start a worker where there is none, and return what becomes of the entries."""
        from convnn.sweeps.work import ensure_worker  # not before the first frame

        count = plural(len(self.queue.entries()[0]), "run")
        if (reason := self.queue.paused) is not None:
            return f"{count} in the queue, which is paused: {reason}"
        ensure_worker(self.queue)
        return f"{count} in the queue, which trains in the background"

    def has_run(self, run: Run) -> bool:
        """Return whether an entry resumes or trains a run."""
        return any(entry.run_path == run.path for entry in self.queue.entries()[0])


def entry_of(launch: Launch) -> Entry:
    """Return the entry that trains a launch in the background, from where it is now.

    Raises UserError where its directory is not free.
    """
    run = launch.run or launch.resumes
    if run is not None:
        return resuming_entry(run, dumps(launch.config, whole=True))
    return new_entry(launch.config, launch.title, launch.forks)
