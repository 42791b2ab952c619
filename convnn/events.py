"""What can happen in a run: one event a line of `events.jsonl`, appended and read from byte n."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, field_serializer

from convnn.files import opened

SCHEMA = "convnn/1"
LONGEST = 1_000_000  # bytes of a line; a longer one is damage, and is never held in memory
LONGEST_TEXT = 10_000  # characters of a text field, so that no event we write is longer than a line may be
CHUNK = 1 << 18

Outcome = Literal["done", "stopped", "interrupted", "failed", "diverged"]


def now() -> datetime:
    """This moment in UTC, to the millisecond that the file keeps."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def iso(time: datetime) -> str:
    """A moment as files and JSON spell it: 2026-11-22T15:15:00.123Z."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _storable(text: object) -> object:
    if not isinstance(text, str):
        return text
    return text[:LONGEST_TEXT].encode("utf-8", "backslashreplace").decode()  # file names may hold lone surrogates


Text = Annotated[str, BeforeValidator(_storable)]
Time = Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))]


class Event(BaseModel):
    """Something that happened in a run, and when (UTC). Fields of a later version are kept."""

    model_config = ConfigDict(
        frozen=True, extra="allow", populate_by_name=True, ser_json_inf_nan="strings", defer_build=True
    )

    time: Time = Field(default_factory=now)

    @field_serializer("time")
    def _iso(self, time: datetime) -> str:
        return iso(time)


class Started(Event):
    """A run started: the machine, the model and the data as they were found."""

    schema_: str = Field(default=SCHEMA, alias="schema")
    versions: dict[str, str] = {}
    device: Text = ""
    threads: int | None = None
    git_commit: Text | None = None
    host: Text = ""
    seed: int | None = None
    normalisation: dict[str, tuple[float, ...]] | None = None  # "mean" and "std", a number a channel
    classes: tuple[Text, ...] = ()
    num_classes: int | None = None
    image_size: tuple[int, ...] | None = None  # (channels, height, width)
    images: dict[str, int] = {}  # images by split: train, test and, if any, val
    parameters: int | None = None
    trainable_parameters: int | None = None
    flops: float | None = None  # of one image forward
    memory_bytes: int | None = None  # estimated, of one training step
    epochs: int | None = None
    steps_per_epoch: int | None = None
    amp: dict[str, Any] | None = None  # "mode" and "dtype"
    compile: dict[str, Any] | None = None  # "mode", "graphs" and "breaks"


class Step(Event):
    """A training step ended; few of them are written, which ones depends on the clock."""

    epoch: int
    step: int  # steps of the whole run so far, this one included
    loss: float
    lr: float | None = None
    grad_norm: float | None = None
    images_per_s: float | None = None


class Epoch(Event):
    """An epoch ended; `metrics` by name, accuracies in percent, times in seconds."""

    epoch: int
    step: int
    metrics: dict[str, float]


class Paused(Event):
    """Training paused."""

    epoch: int
    step: int


class Resumed(Event):
    """Training went on after `step`, from a checkpoint or a pause; what was told of later steps is void."""

    epoch: int
    step: int
    exact: bool = True
    note: Text = ""


class Changed(Event):
    """Somebody changed the run by hand."""

    what: Text
    by: Text = ""


class Saved(Event):
    """A checkpoint was written."""

    step: int
    path: Text
    kind: Text = "last"


class Warned(Event):
    """Something a person should know happened, and the run went on."""

    message: Text


class Finished(Event):
    """The run ended, and why; `code` is the exit code of its process."""

    outcome: Outcome
    cause: Text = ""
    code: int | None = None


class Other(Event):
    """An event of a later version, kept as it is."""

    event: str


KINDS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (Started, Step, Epoch, Paused, Resumed, Changed, Saved, Warned, Finished)
}


def line(event: Event) -> str:
    """The event as one line of JSON without its newline; non-finite numbers are strings."""
    fields = json.loads(event.model_dump_json(by_alias=True))
    return json.dumps({"event": type(event).__name__, "time": fields.pop("time"), **fields})


def parse(text: str | bytes) -> Event:
    """The event of one line. Raises ValueError, which says what is wrong, and nothing else."""
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict) or not isinstance(fields.get("event"), str):
            raise ValueError("no event")
        if not fields.get("time"):
            raise ValueError("no time")
        kind = KINDS.get(fields["event"])
        if kind is None:
            return Other.model_validate(fields)
        del fields["event"]
        return kind.model_validate(fields)
    except (RecursionError, OverflowError) as error:  # deep nesting, a time beyond the calendar
        raise ValueError(f"{type(error).__name__}: {error}") from error


def append(file: int | Path, event: Event) -> None:
    """Add the event to the end of a file, given by path or by a descriptor open for reading and appending.

    The line goes out in one write, so several writers never mix. All but steps reach the disk before this returns.
    Raises OSError when the disk takes only a part; the next line then starts on a line of its own.
    """
    if isinstance(file, Path):
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            return append(descriptor, event)
        finally:
            os.close(descriptor)
    data = line(event).encode() + b"\n"
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
    with opened(path) as file:
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


def read(path: Path, start: int = 0, *, steps: bool = True) -> tuple[list[Event], int, list[tuple[int, str]]]:
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
                events.append(parse(text))
            except ValueError as error:
                bad.append((first, " ".join(str(error).split())[:200]))
    return events, end, bad
