"""The event log of a run: `events.jsonl`, one event per line, appended to and read from a byte on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from convnn.events import KINDS, Event, Step, UnknownEvent, Warned
from convnn.files import append_lines, naming, open_append, open_regular, sync_file
from convnn.json_values import check_depth, json_text
from convnn.text import plural

LONGEST = 1_000_000  # bytes of a line; a longer one is damage, and is never held in memory
STEP = b'{"event": "Step"'  # how the line of a step begins
CHUNK = 1 << 18  # bytes read at once
TAIL = 256  # bytes by which a reader knows the file that it has read: the end of a line, with its time
MAX_DEPTH = 20  # levels of lists and objects in an event


def event_line(event: Event) -> str:
    """Return an event as one line of JSON without its newline; numbers that are not finite are strings."""
    fields = event.model_dump(by_alias=True)
    return json_text({"event": type(event).__name__, "time": fields.pop("time"), **fields})


def parse_event(line: str | bytes) -> Event:
    """Return the event of one line. Raises ValueError, which says what is wrong, and nothing else."""
    try:
        fields = json.loads(line)
        check_depth(fields, MAX_DEPTH)
        if not isinstance(fields, dict) or not isinstance(fields.get("event"), str):
            raise ValueError("no event")
        if not fields.get("time"):
            raise ValueError("no time")
        kind = KINDS.get(fields["event"])
        if kind is None:
            return UnknownEvent.model_validate(fields)
        del fields["event"]
        return kind.model_validate(fields)
    except (RecursionError, OverflowError) as error:  # deep nesting, a number beyond any float
        raise ValueError(f"{type(error).__name__}: {error}") from error


def append_event(path: Path, event: Event) -> None:
    """Add an event to the end of a log, which is made where it is missing. Raises OSError as `EventLog.append` may."""
    descriptor = open_append(path)
    try:
        with naming(path):
            _write(descriptor, event, event_line(event))
    finally:
        os.close(descriptor)


def _write(descriptor: int, event: Event, line: str) -> int:
    """Write the line of an event and return its first byte; all but steps are on disk then. Raises OSError."""
    data = line.encode() + b"\n"
    append_lines(descriptor, data)
    if not isinstance(event, Step):
        sync_file(descriptor)
    return os.lseek(descriptor, 0, os.SEEK_CUR) - len(data)


def _lasting_lines(descriptor: int) -> list[bytes]:
    """Return the whole lines of an open log without those of steps, which may be lost."""
    with open(os.dup(descriptor), "rb") as file:  # noqa: PTH123
        file.seek(0)
        pieces = iter(lambda: file.readline(LONGEST), b"")  # a line may be too long to hold
        return [line.rstrip(b"\r\n") for line in pieces if line.endswith(b"\n") and not line.startswith(STEP)]


def _read_events(file: BinaryIO, start: int, *, steps: bool) -> tuple[list[Event], int, list[tuple[int, str]]]:
    """Return the events from byte `start` on, the byte to read from next, and (byte, reason) of each damaged line.

    A last line without a newline is left for the next call. Without `steps`, Step lines are skipped unparsed.
    """
    events: list[Event] = []
    skipped_lines: list[tuple[int, str]] = []
    end = start
    for first_byte, end, line in _read_lines(file, start):  # noqa: B007 the last end is returned
        if line is None:
            skipped_lines.append((first_byte, f"longer than {LONGEST} bytes"))
        elif line.strip() and (steps or not line.startswith(STEP)):
            try:
                events.append(parse_event(line))
            except ValueError as error:
                skipped_lines.append((first_byte, " ".join(str(error).split())[:200]))
    return events, end, skipped_lines


class EventReader:
    """Reads an event log as it grows; one that another program has replaced, cut or changed is read from its start."""

    def __init__(self) -> None:
        self._offset = 0  # byte to read from
        self._inode: int | None = None
        self._tail = b""  # what lies before that byte

    def read(self, path: Path, *, steps: bool = True) -> tuple[list[Event], list[tuple[int, str]], bool]:
        """Return the events and the damaged lines since the last call, and whether they are those of another file.

        Raises OSError only.
        """
        with open_regular(path) as file:
            inode = os.fstat(file.fileno()).st_ino
            restarts = self._offset > 0 and not (inode == self._inode and self._tail_of(file) == self._tail)
            start = 0 if restarts else self._offset
            events, self._offset, skipped_lines = _read_events(file, start, steps=steps)
            self._inode, self._tail = inode, self._tail_of(file)
        return events, skipped_lines, restarts

    def _tail_of(self, file: BinaryIO) -> bytes:
        length = min(TAIL, self._offset)
        return os.pread(file.fileno(), length, self._offset - length)


def first_start(path: Path) -> datetime | None:
    """Return when the first Started event of a log was written; None where its beginning has none. Raises OSError."""
    try:
        with open_regular(path) as file:
            lines = file.read(CHUNK).split(b"\n")
    except FileNotFoundError:
        return None
    for line in lines:
        if line.startswith(b'{"event": "Started"'):
            with suppress(ValueError):
                return parse_event(line).time
    return None


def _read_lines(file: BinaryIO, start: int) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield (first byte, byte after the newline, line) of each whole line; None for a line too long to hold."""
    file.seek(start)
    first_byte, beginning, length = start, bytearray(), 0
    while chunk := file.read(CHUNK):
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            length += len(end)
            line = None if length > LONGEST else bytes(beginning) + end
            yield first_byte, first_byte + length + 1, line
            first_byte, length = first_byte + length + 1, 0
            beginning.clear()
        length += len(rest)
        if length <= LONGEST:
            beginning += rest
        else:
            beginning.clear()


class EventLog:
    """The event log of a run that trains, open for appending.

    An event that the disk refuses waits in memory, and all after it wait behind it. Steps may be lost, others not:
    where another program replaces, cuts or deletes the file, such as an editor that saves an older state of it, the
    lines that it then lacks are written again. `warn` is called with the warning that the first refusal or such a
    repair adds to the log, and its line.
    """

    def __init__(self, path: Path, warn: Callable[[Event, str], None]) -> None:
        self._path = path
        self._descriptor = open_append(path)
        self._warn = warn
        self._waiting: list[tuple[Event, str]] = []  # with their lines
        self._lines = _lasting_lines(self._descriptor)  # all but steps, as they were written
        self._last: tuple[int, bytes] | None = None  # first byte and content of the line that was written last
        self.problem: OSError | None = None  # why events wait

    def append(self, event: Event) -> str:
        """Write an event, or keep it to be written later, and return its line."""
        line = event_line(event)
        if isinstance(event, Step) and self._waiting:
            return line
        self._waiting.append((event, line))
        problem_before = self.problem
        if not self.flush() and problem_before is None and self.problem is not None:
            message = f"the history cannot be written ({self.problem.strerror}); it waits in memory"
            warning = Warned(message=message)
            warning_line = event_line(warning)
            self._waiting.append((warning, warning_line))
            self._warn(warning, warning_line)
        return line

    def flush(self) -> bool:
        """Write the events that wait and return whether none is left."""
        while self._waiting:
            event, line = self._waiting[0]
            try:
                self._repair()
                self._last = _write(self._descriptor, event, line), line.encode()
                if not isinstance(event, Step):
                    self._lines.append(line.encode())
            except OSError as error:
                if not isinstance(event, Step):  # a step that is refused is dropped
                    self.problem = error
                    return False
            del self._waiting[0]
        self.problem = None
        return True

    def _repair(self) -> None:
        """Write the lines again that the file at the path lacks, if it is not as it was written. Raises OSError."""
        if self._is_intact():
            return
        descriptor = open_append(self._path)
        try:
            present = set(_lasting_lines(descriptor))
            known = max((index for index, line in enumerate(self._lines) if line in present), default=-1)
            missing = self._lines[known + 1 :]
            message = f"{self._path.name} was replaced or changed by another program"
            if missing:
                message += f"; written again: {plural(len(missing), 'line')}"
            warning = Warned(message=message)
            warning_line = event_line(warning)
            lines = [*missing, warning_line.encode()]
            self._last = _write(descriptor, warning, b"\n".join(lines).decode()), lines[0]
        except BaseException:
            os.close(descriptor)
            raise
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._lines.append(warning_line.encode())
        self._warn(warning, warning_line)

    def _is_intact(self) -> bool:
        """Return whether the path still names the file that was written, and the last line is where it was written."""
        try:
            status = self._path.lstat()
        except FileNotFoundError:
            return not self._path.parent.is_dir()  # the whole directory has moved: the file goes with it
        if not os.path.samestat(status, os.fstat(self._descriptor)):
            return False
        if self._last is None:
            return True
        first_byte, line = self._last
        return os.pread(self._descriptor, len(line), first_byte) == line

    def close(self) -> None:
        """Close the file; events that still wait are lost."""
        os.close(self._descriptor)
