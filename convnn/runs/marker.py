"""What tells a run of ours from any other directory: only such a one is replaced, moved to the trash or emptied."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from convnn.events import SCHEMA, UnknownEvent, now
from convnn.files import open_regular, read_regular, write_atomic
from convnn.json_values import check_depth, json_text
from convnn.runs.event_log import LONGEST, parse_event

MARKER = "run.json"  # written first, with the time (UTC) at which the run was made
EVENTS = "events.jsonl"
IMPORTED = "imported.json"  # where the values of a run come from that was not trained here
MAX_MARKER_BYTES, MAX_RECORD_BYTES = 1 << 12, 1 << 26
MAX_DEPTH = 20  # levels of lists and objects


def write_marker(directory: Path, created: datetime | None = None) -> None:
    """Mark a directory as a run that was made at that time, now by default."""
    write_atomic(directory / MARKER, marker_text(created or now()))


def marker_text(created: datetime) -> str:
    """Return the content of the marker of a run that was made at that time."""
    return json_text({"schema": SCHEMA, "created": created}) + "\n"


def created_time(directory: Path) -> datetime | None:
    """Return when a run was made (UTC); None for one of an earlier version, which has no marker."""
    try:
        time = datetime.fromisoformat(_object(directory / MARKER, MAX_MARKER_BYTES)["created"])
        if 1900 <= time.year < 9900:
            return time.astimezone(UTC)
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def import_record(directory: Path) -> dict[str, Any]:
    """Return the contents of `imported.json`; an empty dict where there is none, or none of ours. Raises OSError."""
    try:
        record = _object(directory / IMPORTED, MAX_RECORD_BYTES)
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return {}
    published = record.get("as_published") or {}
    best = published.get("best", {"value": None, "epoch": None}) if isinstance(published, dict) else None
    is_sound = (
        isinstance(record.get("source", ""), str)
        and isinstance(record.get("reason"), str | None)
        and isinstance(record.get("epochs", 0), int)
        and isinstance(record.get("passed", []), list)
        and isinstance(best, dict)
        and {"value", "epoch"} <= best.keys()
    )
    if not is_sound:
        return {}
    return record


def is_ours(directory: Path) -> bool:
    """Return whether a directory is a run: by its marker or, made by an earlier version, by its history or its import.

    A link to a run is none.
    """
    if directory.is_symlink() or not directory.is_dir():
        return False
    return created_time(directory) is not None or _has_our_history(directory) or _is_imported(directory)


def _has_our_history(directory: Path) -> bool:
    try:
        with open_regular(directory / EVENTS) as file:
            event = parse_event(file.readline(LONGEST))
    except (OSError, ValueError):
        return False
    return not isinstance(event, UnknownEvent)


def _is_imported(directory: Path) -> bool:
    try:
        return "digest" in import_record(directory)
    except OSError:
        return False


def _object(path: Path, limit: int) -> dict[str, Any]:
    """Return the object of our schema in a JSON file. Raises OSError, and ValueError, TypeError or RecursionError."""
    content = json.loads(read_regular(path, limit))
    check_depth(content, MAX_DEPTH)
    if not isinstance(content, dict) or not str(content.get("schema")).startswith("convnn/"):
        raise ValueError(f"{path} is not of our schema")
    return content
