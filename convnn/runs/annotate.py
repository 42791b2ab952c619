"""What a person adds to a run that exists: notes and tags, as events of its history."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable

from convnn.errors import UserError
from convnn.events import Noted, Tagged
from convnn.runs.event_log import append_event
from convnn.runs.run import Run
from convnn.runs.summary import summarize
from convnn.text import one_line


def add_note(run: Run, text: str) -> None:
    """Write a line into the history of a run, with the time and the user's name. Raises UserError for an empty one."""
    line = one_line(text)
    if not line:
        raise UserError("the note is empty")
    append_event(run.events_path, Noted(text=line, by=_user()))


LONGEST_TAG = 40  # characters


def change_tags(run: Run, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> tuple[str, ...]:
    """Add tags to a run and remove others; return those it has now. Raises UserError for an empty or unknown tag."""
    add, remove = (list(dict.fromkeys(map(one_line, tags))) for tags in (add, remove))
    if "" in add or "" in remove:
        raise UserError("a tag is empty", fix="give a word")
    for tag in add:
        if len(tag) > LONGEST_TAG or not tag.isprintable() or set(tag) & {" ", ","}:
            fix = f"give a word of at most {LONGEST_TAG} printable characters without commas"
            raise UserError(f"{tag[:LONGEST_TAG]!r} is no tag", key="tag", value=tag[:LONGEST_TAG], fix=fix)
    present = summarize(run).tags
    if unknown := [tag for tag in remove if tag not in present]:
        has = f"it has {', '.join(present)}" if present else "it has none"
        raise UserError(f"{run.name} has no tag {unknown[0]!r}", value=unknown[0], fix=has)
    new = [tag for tag in add if tag not in present]
    if new or remove:
        append_event(run.events_path, Tagged(added=tuple(new), removed=tuple(remove), by=_user()))
    return summarize(run).tags


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in containers
        return f"uid {os.getuid()}"
