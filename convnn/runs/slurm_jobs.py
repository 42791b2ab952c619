"""The Slurm jobs that train runs: found by the path of the script that was submitted, never stored.

    RUN/job.sh            trains one run, as element 1 of an array
    .sweeps/NAME/job.sh   trains a sweep: element N is its cell N

`squeue` is asked for runs alone that have such a script and are not done, at most every REFRESH_SECONDS, and no more
once two answers in a row knew no job of that script.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from convnn import slurm_job
from convnn.runs.marker import EVENTS
from convnn.runs.status import STATUSES
from convnn.runs.sweep_cells import SWEEPS, cell_indices
from convnn.slurm_job import JobState, SlurmError

SCRIPT, LOG = "job.sh", "job.log"
LOGS = "log"  # folder of a sweep with the output of each element
RUN_ELEMENT = 1  # of the array that trains one run
REFRESH_SECONDS = 10.0
QUEUED, REQUEUED, RUNNING = "queued", "requeued", "running"
ENDING = ("COMPLETING",)  # of a job whose element may have another one by now
STARTING = ("RUNNING", "CONFIGURING")  # of a job whose run is not trained yet


class Element(NamedTuple):
    """An element of the array that a script is submitted as."""

    script: Path
    number: int


class Job(NamedTuple):
    """The job of an element, "12_3", and its state."""

    name: str
    state: JobState


class _Listing:
    """The jobs of this user by element, as `squeue` listed them last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held while Slurm is asked
        self._jobs: Mapping[Element, Job] = {}
        self._listed_at: float | None = None  # with or without an answer
        self._answered_at: float | None = None
        self._first_seen: dict[tuple[Path, int], float] = {}  # scripts and their times: when they were first looked at
        self._without_jobs: dict[Path, int] = {}  # scripts and their times: nothing is to be asked about them

    def find(self, element: Element, *, waits: bool) -> Job | None:
        """Return the job of an element; unless it `waits`, Slurm is asked in a thread, for a later call."""
        try:
            time_ns = element.script.stat().st_mtime_ns
            element = element._replace(script=element.script.resolve())  # whatever links lead to it
        except OSError:
            return None
        if self._without_jobs.get(element.script) == time_ns:
            return None
        first_seen = self._first_seen.setdefault((element.script, time_ns), time.monotonic())
        if self._listed_at is None or time.monotonic() - self._listed_at >= REFRESH_SECONDS:
            if not waits:
                if not self._lock.locked():
                    threading.Thread(target=self._ask, args=(self._listed_at,), daemon=True, name="squeue").start()
                return self._jobs.get(element)
            self._ask(self._listed_at)
        # a script that is new may have been submitted after the listing
        is_listed_since = self._answered_at is not None and self._answered_at - first_seen >= REFRESH_SECONDS
        if is_listed_since and not any(job.script == element.script for job in self._jobs):
            self._without_jobs[element.script] = time_ns
        return self._jobs.get(element)

    def refresh(self) -> None:
        """Ask Slurm now. Raises SlurmError where it does not answer."""
        with self._lock:
            self._list()

    def _ask(self, listed_at: float | None) -> None:
        with self._lock, suppress(SlurmError):  # a controller that starts anew: its last answer holds
            if self._listed_at == listed_at:  # no other thread has just asked
                self._list()

    def _list(self) -> None:
        try:
            jobs = slurm_job.own_jobs()
        finally:
            self._listed_at = time.monotonic()
        self._jobs = {
            Element(Path(state.script).resolve(), int(number)): Job(name, state)
            for name, state in sorted(jobs.items(), key=lambda item: item[1].state not in ENDING)
            if (number := name.partition("_")[2]).isdecimal() and state.script.endswith(f"/{SCRIPT}")
        }
        self._answered_at, self._without_jobs = self._listed_at, {}


_listing = _Listing()


def refresh() -> None:
    """Ask Slurm now what the next calls tell. Raises SlurmError where it does not answer."""
    _listing.refresh()


def job_of_element(element: Element, *, waits: bool = True) -> Job | None:
    """Return the job of an element that waits or has processes; None where there is none, or nothing is known.

    Without `waits` the answer is up to REFRESH_SECONDS older, and never delayed.
    """
    return _listing.find(element, waits=waits)


def element_of_run(run: Path, sweeps: Sequence[str] | None = None) -> tuple[Element, Path] | None:
    """Return the element that trains the run at an absolute path, and the file with its output; None without one.

    `sweeps` are those that the run belongs to, where they are known.
    """
    if (run / SCRIPT).is_file():
        return Element(run / SCRIPT, RUN_ELEMENT), run / LOG
    for name, index in cell_indices(run, sweeps):
        folder = run.parent / SWEEPS / name
        if (folder / SCRIPT).is_file():
            return Element(folder / SCRIPT, index), element_log(folder, index)
    return None


def element_log(folder: Path, index: int) -> Path:
    """Return the file with the output of an element of a sweep, "log/0007.out"."""
    return folder / LOGS / f"{index:04d}.out"


def job_of_run(run: Path, *, waits: bool = True) -> Job | None:
    """Return the job that trains the run at an absolute path, or is to train it; None without one."""
    element = element_of_run(run)
    return None if element is None else job_of_element(element[0], waits=waits)


def with_job(status: str, run: Path, *, sweeps: Sequence[str] | None = None, waits: bool = True) -> str:
    """Return the status of a run whose status by its files is known: that of its job, where it waits for one."""
    if status == "done" or STATUSES[status].is_live:
        return status
    element = element_of_run(run, sweeps)
    job = None if element is None else job_of_element(element[0], waits=waits)
    return status if job is None else job_status(job.state, has_begun=(run / EVENTS).is_file()) or status


def job_status(state: JobState, *, has_begun: bool) -> str | None:
    """Return the status of a run that is not done and whose job is in this state; None where the job ends."""
    if state.is_waiting:
        return REQUEUED if has_begun else QUEUED
    return RUNNING if state.state in STARTING else None
