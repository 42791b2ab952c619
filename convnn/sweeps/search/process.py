"""The process of a coordinator: a child in the background, which outlives the command that started it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from convnn.errors import Exit, UserError
from convnn.files import open_append, read_tail, write_atomic
from convnn.sweeps.claims import try_claim
from convnn.sweeps.folder import SweepFolder
from convnn.text import last_message
from convnn.worker.detached import start_detached

POLL_SECONDS = 0.5
RETRY_SECONDS = 10.0  # after the disk refused something
ENDING_SECONDS = 60.0  # until a coordinator that was told to stop has ended: it may be drawing a trial
LOG = "coordinator.log"
LONGEST_TAIL = 1 << 12  # bytes


def ensure_coordinator(folder: SweepFolder, slots: int | None = None) -> bool:
    """Start the coordinator of a search in the background, unless one is there; return whether.

    Raises UserError where it ends before it has begun.
    """
    if folder.is_searching:
        return False
    folder.check_own()
    folder.stop.unlink(missing_ok=True)
    with os.fdopen(open_append(folder.path / LOG), "ab") as output:
        output.truncate(0)
        process = start_detached(["sweep", "coordinate", folder.name], folder.root, output, slots)
    while not folder.is_searching:
        if process.poll() is not None:
            if process.returncode != Exit.DONE:
                raise UserError(f"the search did not start: {log_tail(folder)}")
            break  # another one was first, or there was nothing to do
        time.sleep(POLL_SECONDS / 5)
    return True


def coordinate(folder: SweepFolder, slots: int | None, say: Callable[[str], None]) -> None:
    """Draw the trials of a search until it ends; return at once where another process does."""
    claim = try_claim(folder.coordinator)
    if claim is None:
        return
    with claim:
        from convnn.sweeps.search.coordinator import Coordinator  # loads Optuna, while the claim is held

        coordinator = Coordinator(folder, slots, say)
        is_going_on, refused = True, ""
        while is_going_on:
            try:
                if not claim.is_own:  # this process was stopped for minutes, and one of another node went on
                    say("another process draws the trials now")
                    return
                is_going_on, refused = coordinator.step(), ""
            except OSError as error:  # a full disk may have room again
                if str(error) != refused:
                    refused = str(error)
                    say(f"warning: {refused}; trying again every {RETRY_SECONDS:.0f} s")
                time.sleep(RETRY_SECONDS)
            time.sleep(POLL_SECONDS)


def stop_coordinator(folder: SweepFolder) -> None:
    """Have the coordinator of a search end, and wait for it. Raises UserError where it does not."""
    if not folder.is_searching:
        return
    write_atomic(folder.stop, "stop\n")
    deadline = time.monotonic() + ENDING_SECONDS
    while folder.is_searching:
        if time.monotonic() > deadline:
            raise UserError(f"the process that draws the trials of {folder.name} does not end", Exit.HELD)
        time.sleep(POLL_SECONDS / 5)


def log_tail(folder: SweepFolder) -> str:
    """Return the last line that the coordinator printed; empty where there is none."""
    return last_message(read_tail(folder.path / LOG, LONGEST_TAIL))
