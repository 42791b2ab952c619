"""The event log of a run: one event per line, appended and read from a byte on."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from convnn.events import Changed, Epoch, Event, Finished, Paused, Resumed, Saved, Started, Step, UnknownEvent, Warned
from convnn.files import open_regular
from convnn.runs import event_log
from convnn.text import escaped

LONGEST = 1_000_000  # bytes of a line; a longer one is damage, and is never held in memory
CHUNK = 1 << 18
KINDS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (Started, Step, Epoch, Paused, Resumed, Changed, Saved, Warned, Finished)
}


def event_line(event: Event) -> str:
    """The event as one line of JSON without its newline; non-finite numbers are strings."""
    fields = json.loads(event.model_dump_json(by_alias=True))
    return json.dumps({"event": type(event).__name__, "time": fields.pop("time"), **fields})


def parse_event(text: str | bytes) -> Event:
    """The event of one line. Raises ValueError, which says what is wrong, and nothing else."""
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict) or not isinstance(fields.get("event"), str):
            raise ValueError("no event")
        if not fields.get("time"):
            raise ValueError("no time")
        kind = KINDS.get(fields["event"])
        if kind is None:
            return UnknownEvent.model_validate(fields)
        del fields["event"]
        return kind.model_validate(fields)
    except (RecursionError, OverflowError) as error:  # deep nesting, a time beyond the calendar
        raise ValueError(f"{type(error).__name__}: {error}") from error


def append_event(file: int | Path, event: Event) -> None:
    """Add the event to the end of a file, given by path or by a descriptor open for reading and appending.

    The line goes out in one write, so several writers never mix. All but steps reach the disk before this returns.
    Raises OSError when the disk takes only a part; the next line then starts on a line of its own.
    """
    if isinstance(file, Path):
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            return append_event(descriptor, event)
        finally:
            os.close(descriptor)
    data = event_line(event).encode() + b"\n"
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        data = b"\n" + data
    written = os.write(file, data)
    if written < len(data):
        if os.fstat(file).st_size == size + written:  # nobody wrote behind it: half a line is no line
            os.ftruncate(file, size)
        raise OSError(errno.ENOSPC, f"only {written} of the {len(data)} bytes of a line were written")
    if not isinstance(event, Step):
        os.fsync(file)
    return None


def _lines(path: Path, start: int) -> Iterator[tuple[int, int, bytes | None]]:
    """(first byte, byte after the newline, text) of each whole line; no text where it is too long to hold."""
    with open_regular(path) as file:
        file.seek(start)
        first, kept, length = start, bytearray(), 0
        while chunk := file.read(CHUNK):
            *ended, rest = chunk.split(b"\n")
            for part in ended:
                length += len(part)
                whole = None if length > LONGEST else bytes(kept) + part
                yield first, first + length + 1, whole
                first, length = first + length + 1, 0
                kept.clear()
            length += len(rest)
            if length <= LONGEST:
                kept += rest
            else:
                kept.clear()


def read_events(path: Path, start: int = 0, *, steps: bool = True) -> tuple[list[Event], int, list[tuple[int, str]]]:
    """The events from byte `start` on, the byte to go on from, and (byte, reason) of each line that is none.

    A last line without a newline is left for the next call. Without `steps`, Step lines are passed over unparsed.
    Raises OSError only.
    """
    events: list[Event] = []
    bad: list[tuple[int, str]] = []
    end = start
    for first, end, text in _lines(path, start):  # noqa: B007 the last end is the answer
        if text is None:
            bad.append((first, f"longer than {LONGEST} bytes"))
        elif text.strip() and (steps or not text.startswith(b'{"event": "Step"')):
            try:
                events.append(parse_event(text))
            except ValueError as error:
                bad.append((first, " ".join(str(error).split())[:200]))
    return events, end, bad


class EventLog:
    """Writes the events of one run in order. A refused one waits, with all behind it; steps may be lost, others not."""

    def __init__(self, path: Path, warn: Callable[[Event], None]) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(path, flags, 0o666)
        self._warn = warn
        self._waiting: list[Event] = []
        self.problem: OSError | None = None  # why something waits

    def append(self, event: Event) -> None:
        """Write the event, or keep it to be written later; the first refusal is told to `warn`."""
        if isinstance(event, Step) and self._waiting:
            return
        self._waiting.append(event)
        before = self.problem
        if not self.flush() and before is None and self.problem is not None:
            warning = Warned(
                message=f"the history cannot be written ({escaped(self.problem.strerror)}); it waits in memory"
            )
            self._waiting.append(warning)
            self._warn(warning)

    def flush(self) -> bool:
        """Write what waits; whether nothing does any more."""
        while self._waiting:
            try:
                event_log.append_event(self._file, self._waiting[0])
            except OSError as error:
                if not isinstance(self._waiting[0], Step):  # no promise covers those
                    self.problem = error
                    return False
            del self._waiting[0]
        self.problem = None
        return True

    def close(self) -> None:
        os.close(self._file)
