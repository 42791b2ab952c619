"""A line of a person's own in the history of a run."""

from __future__ import annotations

import getpass
import os

from convnn.errors import UserError
from convnn.events import Changed
from convnn.runs.event_log import append_event
from convnn.runs.run import Run
from convnn.text import one_line


def add_note(run: Run, text: str) -> None:
    """Write a line into the history of a run, with the time and the user's name. Raises UserError for an empty one."""
    line = one_line(text)
    if not line:
        raise UserError("the note is empty")
    append_event(run.events_path, Changed(description=line, by=_user()))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in containers
        return f"uid {os.getuid()}"
