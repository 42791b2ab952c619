"""The queue on the disk, as the app uses it: launches and runs go into it and train in the background."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from convnn.config.toml import dumps
from convnn.errors import UserError
from convnn.runs.run import Run
from convnn.runs.sweep_cells import sweep_names
from convnn.sweeps.queue import Entry, Queue, new_entry, resuming_entry
from convnn.text import plural
from tui.process.launcher import Launch

if TYPE_CHECKING:
    from convnn.sweeps.file import Sweep
    from convnn.sweeps.folder import SweepFolder

MORE_SEEDS = 3


class Background:
    """Adds to the queue of a runs folder, and starts a worker where none serves it."""

    def __init__(self, root: Path) -> None:
        self.queue = Queue(root)

    def add(self, entries: Sequence[Entry]) -> str:
        """Append entries and return what becomes of them. Raises OSError where the disk or the system refuses."""
        self.queue.add(entries)
        return self.start()

    def retry(self, entry: Entry) -> str:
        """Append an entry again that left the queue without being done, and return what becomes of it."""
        self.queue.retry([entry])
        return self.start()

    def start(self) -> str:
        """Start a worker where there is none, and return what becomes of the entries."""
        from convnn.sweeps.work import ensure_worker  # not before the first frame

        runs = plural(len(self.queue.entries()[0]), "run")
        if (reason := self.queue.paused) is not None:
            return f"{runs} in the queue, which is paused: {reason}"
        ensure_worker(self.queue)
        return f"{runs} in the queue, which trains in the background"

    def start_sweep(self, sweep: Sweep, flags: Mapping[str, str | bool], *, extend: bool = False) -> str:
        """Put what is left of a sweep into the queue, and return what becomes of it.

        A sweep of its name that has other cells gets these too with `extend`; otherwise this one gets a free name.
        Raises UserError for what is wrong with it, and OSError.
        """
        from convnn.sweeps.start import plan_sweep_start, start

        root = self.queue.root
        try:
            planned = plan_sweep_start(sweep, root, flags, extend=extend)
        except UserError as error:
            if error.problems[0].key != "name":
                raise
            name = free_name(plan_sweep_start(sweep, root, flags, extend=True).folder.name, sweep_names(root))
            planned = plan_sweep_start(sweep, root, flags, name=name)
        entries = start(planned)
        if planned.plan.sweep.search is not None:
            return self._search(planned.folder)
        added = f"{plural(len(entries), 'run')} added"
        if planned.trained:
            added += f", {plural(len(planned.trained), 'cell')} trained already"
        return f"sweep {planned.folder.name}: {added}; {self.start()}"

    def resume_sweep(self, name: str) -> str:
        """Put what is not done of a sweep into the queue, and return what becomes of it. Raises UserError, OSError."""
        from convnn.sweeps.start import plan_start, start

        planned = plan_start(name, self.queue.root)
        entries = start(planned)
        if planned.plan.sweep.search is not None:
            return self._search(planned.folder)
        return f"{plural(len(entries), 'run')} added; {self.start()}"

    def repeat_sweep(self, name: str) -> str:
        """Train every cell of a sweep with three more seeds. Raises UserError, OSError."""
        from convnn.sweeps.folder import find_folder

        sweep = find_folder(name, self.queue.root).sweep()
        if sweep.search is not None:
            raise UserError("a search repeats its best trials by itself: confirm = 3 in [search]")
        seeds = sorted(sweep.seeds or ())
        new = islice((seed for seed in count() if seed not in seeds), MORE_SEEDS)
        return self.start_sweep(replace(sweep, seeds=[*seeds, *new]), {}, extend=True)

    def _search(self, folder: SweepFolder) -> str:
        """Have the trials of a search drawn in the background, and return what becomes of it."""
        from convnn.sweeps.search.process import ensure_coordinator

        ensure_coordinator(folder)
        return f"search {folder.name}: its trials enter the queue one by one"

    def has_run(self, run: Run) -> bool:
        return any(entry.run_path == run.path for entry in self.queue.entries()[0])


def free_name(name: str, names: Collection[str]) -> str:
    """Return a name that is not in use: name-2, name-3 and so on."""
    return next(candidate for number in count(2) if (candidate := f"{name}-{number}") not in names)


def entry_of(launch: Launch) -> Entry:
    """Return the entry that trains a launch in the background, from where it is now.

    Raises UserError where its directory is not free.
    """
    run = launch.run or launch.resumes
    if run is not None:
        return resuming_entry(run, dumps(launch.config, whole=True))
    return new_entry(launch.config, launch.title, launch.forks)
