"""Stop a sweep: its cells leave the queue, and those that train end by themselves or save and end."""

from __future__ import annotations

import time

from convnn.errors import Exit, Problem, UserError
from convnn.runs import control
from convnn.runs.control import ControlCommand
from convnn.sweeps.folder import SweepFolder
from convnn.sweeps.queue import Entry, Queue
from convnn.sweeps.states import read_state

STARTING_SECONDS = 30.0  # until a process that was started listens
POLL_SECONDS = 0.2


def stop_sweep(folder: SweepFolder, *, now: bool = False) -> tuple[int, int]:
    """Take the cells of a sweep that wait out of the queue; with `now` those that train save and end.

    Returns how many left the queue, and how many train.
    """
    queue = Queue(folder.root)
    entries = [entry for entry in queue.entries()[0] if entry.sweep == folder.name]
    removed = queue.remove(entries)
    ids = {entry.id for entry in removed}
    live = [entry for entry in entries if entry.id not in ids]
    starting = list(live) if now else []
    deadline = time.monotonic() + STARTING_SECONDS
    while starting and time.monotonic() < deadline:  # one that starts takes no commands yet
        starting = [entry for entry in starting if queue.is_claimed(entry) and not _told_to_stop(entry)]
        time.sleep(POLL_SECONDS if starting else 0)
    return len(removed), len(live)


def _told_to_stop(entry: Entry) -> bool:
    """Tell the process of an entry to stop after its step; return whether there is one that listens."""
    if entry.run_path is None:
        return False
    try:
        control.send(entry.run_path, ControlCommand.STOP)
    except UserError:
        return False
    return True


def check_at_rest(folder: SweepFolder) -> None:
    """Raise UserError (HELD) where cells of the sweep train or wait in the queue."""
    if read_state(folder).is_going_on:
        message = f"{folder.name} is going on"
        raise UserError(Problem(message, fix=f"stop it first: convnn sweep stop {folder.name} --now"), Exit.HELD)
