"""Stop a sweep: its cells leave the queue, and those that train end by themselves or save and end."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from convnn.errors import Exit, UserError
from convnn.events import Finished
from convnn.runs import control
from convnn.runs.control import ControlCommand
from convnn.runs.event_log import append_event
from convnn.runs.lock import lock_run
from convnn.runs.marker import EVENTS
from convnn.runs.slurm_jobs import SCRIPT, element_of_run, job_of_run, refresh
from convnn.slurm_job import NoSlurmError, cancel
from convnn.sweeps.folder import SweepFolder
from convnn.sweeps.queue import Entry, Queue
from convnn.sweeps.search.process import stop_coordinator
from convnn.sweeps.states import read_state

STARTING_SECONDS = 30.0  # until a process that was started listens
POLL_SECONDS = 0.2


def stop_sweep(folder: SweepFolder, *, now: bool = False) -> tuple[int, int]:
    """Take the cells of a sweep that wait out of the queue and that of Slurm; with `now` those that train save and end.

    A search draws no more, first.

    Returns how many left a queue, and how many train. Raises SlurmError where jobs cannot be canceled.
    """
    stop_coordinator(folder)
    canceled, live_jobs = _stop_jobs(folder, now=now)
    queue = Queue(folder.root)
    entries = [entry for entry in queue.entries()[0] if entry.sweep == folder.name]
    removed = queue.remove(entries)
    ids = {entry.id for entry in removed}
    live = [entry for entry in entries if entry.id not in ids]
    starting: list[Entry] = []
    if now:
        starting = live
    deadline = time.monotonic() + STARTING_SECONDS
    while starting and time.monotonic() < deadline:  # one that starts takes no commands yet
        starting = [entry for entry in starting if queue.is_claimed(entry) and not _send_stop(entry.run_path)]
        time.sleep(POLL_SECONDS if starting else 0)
    return len(removed) + canceled, len(live) + live_jobs


def _stop_jobs(folder: SweepFolder, *, now: bool) -> tuple[int, int]:
    """Cancel the jobs of a sweep that wait; with `now` have the others save and end, which are not requeued then.

    Returns how many were canceled, and how many are left.
    """
    if (folder.path / SCRIPT).exists():
        with suppress(NoSlurmError):  # the folder came from a cluster: there are no jobs here
            refresh()
    cells = read_state(folder).cells
    jobs = [(cell.job, cell.cell.run_path(folder.root)) for cell in cells if cell.job is not None]
    waiting = [job.name for job, _ in jobs if job.state.is_waiting]
    live = [(job, run) for job, run in jobs if not job.state.is_waiting]
    cancel(waiting)
    if now:
        starting = [job.name for job, run in live if not _send_stop(run)]
        cancel(starting)  # one that starts takes no commands yet
    return len(waiting), len(live)


def stop_job(run: Path) -> str | None:
    """Cancel the job that is to train a run, if it has one; return its name. Raises SlurmError.

    A run that had not begun is recorded as stopped: without an event it would read as one whose process died.
    """
    if element_of_run(run) is not None:
        with suppress(NoSlurmError):
            refresh()
    job = job_of_run(run)
    if job is None:
        return None
    cancel([job.name])
    if job.state.is_waiting and not (run / EVENTS).exists():
        canceled = Finished(outcome="stopped", cause="its Slurm job was canceled", code=Exit.DONE)
        # it began just now, and records its end itself; or its folder is read-only
        with suppress(UserError, OSError), lock_run(run):
            append_event(run / EVENTS, canceled)
    return job.name


def _send_stop(run: Path | None) -> bool:
    """Tell the process that trains a run to stop after its step; return whether there is one that listens."""
    if run is None:
        return False
    try:
        control.send(run, ControlCommand.STOP)
    except UserError:
        return False
    return True


def check_at_rest(folder: SweepFolder) -> None:
    """Raise UserError (HELD) where cells of the sweep train or wait in the queue."""
    if read_state(folder).is_going_on:
        message = f"{folder.name} is going on"
        raise UserError(message, Exit.HELD, fix=f"stop it first: convnn sweep stop {folder.name} --now")
