"""How far a live run is, to the step, without reading its steps."""

from __future__ import annotations

from convnn.errors import UserError
from convnn.events import Step
from convnn.runs.history import Progress
from convnn.runs.run import Run
from convnn.runs.status import last_status_event


def live_progress(run: Run) -> Progress | None:
    """Return the epochs of a run and the step at the end of its history; None where it cannot be read."""
    try:
        progress = run.history(steps=False).progress
        event = last_status_event(run.events_path)
    except (OSError, UserError):
        return None
    if isinstance(event, Step) and event.step > progress.step:
        return progress._replace(step=event.step, epoch=event.epoch)
    return progress
