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
from convnn.worker.detached import serve, start_detached

POLL_SECONDS = 0.1
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
        time.sleep(POLL_SECONDS)
    return True


def coordinate(folder: SweepFolder, slots: int | None, say: Callable[[str], None]) -> None:
    """Draw the trials of a search until it ends; return at once where another process does."""
    claim = try_claim(folder.coordinator)
    if claim is None:
        return
    with claim:
        from convnn.sweeps.search.coordinator import Coordinator  # loads Optuna, while the claim is held

        coordinator = Coordinator(folder, slots, say)

        def step() -> bool:
            if not claim.is_own:  # this process was stopped for minutes, and one of another node went on
                say("another process draws the trials now")
                return False
            return coordinator.step()

        serve(step, say)


def stop_coordinator(folder: SweepFolder) -> None:
    """Have the coordinator of a search end, and wait for it. Raises UserError where it does not."""
    if not folder.is_searching:
        return
    write_atomic(folder.stop, "stop\n")
    deadline = time.monotonic() + ENDING_SECONDS
    while folder.is_searching:
        if time.monotonic() > deadline:
            raise UserError(f"the process that draws the trials of {folder.name} does not end", Exit.HELD)
        time.sleep(POLL_SECONDS)


def log_tail(folder: SweepFolder) -> str:
    """Return the last line that the coordinator printed; empty where there is none."""
    return last_message(read_tail(folder.path / LOG, LONGEST_TAIL))
