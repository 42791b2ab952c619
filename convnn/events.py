"""The events of a run: what a trainer yields, and what a line of `events.jsonl` holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, field_serializer

SCHEMA = "convnn/1"
LONGEST_TEXT = 10_000  # characters of a text field, so that no event we write is longer than a line may be
Outcome = Literal["done", "stopped", "interrupted", "failed", "diverged"]


def now() -> datetime:
    """Return the current time in UTC, to the millisecond that the file keeps."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def iso(time: datetime) -> str:
    """Return a time as files and JSON spell it: 2026-11-22T15:15:00.123Z."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _storable(text: object) -> object:
    if not isinstance(text, str):
        return text
    return text[:LONGEST_TEXT].encode("utf-8", "backslashreplace").decode()  # file names may hold lone surrogates


Text = Annotated[str, BeforeValidator(_storable)]
Time = Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))]


class Event(BaseModel):
    """Something that happened in a run, and when (UTC). Fields that a later version added are kept."""

    model_config = ConfigDict(
        frozen=True, extra="allow", populate_by_name=True, ser_json_inf_nan="strings", defer_build=True
    )

    time: Time = Field(default_factory=now)

    @field_serializer("time")
    def _iso(self, time: datetime) -> str:
        return iso(time)


class Started(Event):
    """A run started, on this machine, with this model and these data."""

    schema_: str = Field(default=SCHEMA, alias="schema")
    versions: dict[str, str] = {}
    device: Text = ""
    threads: int | None = None
    git_commit: Text | None = None
    host: Text = ""
    seed: int | None = None
    normalisation: dict[str, tuple[float, ...]] | None = None  # "mean" and "std", a number per channel
    classes: tuple[Text, ...] = ()
    num_classes: int | None = None
    image_size: tuple[int, ...] | None = None  # (channels, height, width)
    images: dict[str, int] = {}  # images by split: train, test and, if any, val
    data_path: Text | None = None  # absolute, of a data set that is read from disk
    data_digest: dict[str, str] = {}  # SHA-256 by split: of pixels and labels, or of a streamed set's file list
    parameters: int | None = None
    trainable_parameters: int | None = None
    flops: float | None = None  # per image, forward
    memory_bytes: int | None = None  # estimated for one training step
    epochs: int | None = None
    steps_per_epoch: int | None = None
    amp: dict[str, Any] | None = None  # "mode" and "dtype"
    compile: dict[str, Any] | None = None  # "mode", "graphs" and "breaks"


class Step(Event):
    """A training step ended. Not every step is written: at most one per half second and 200 per epoch."""

    epoch: int
    step: int  # of the whole run, from 1
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
    """Training continued after `step`, from a checkpoint or a pause; events of later steps no longer count."""

    epoch: int
    step: int
    exact: bool = True
    note: Text = ""


class Changed(Event):
    """Somebody changed an option of the run by hand, or left a note."""

    description: Text = Field(validation_alias="what", serialization_alias="what")
    by: Text = ""


class Saved(Event):
    """A checkpoint was written."""

    step: int
    path: Text
    kind: Text = "last"  # always this one; runs of earlier versions may hold others


class Warned(Event):
    """Something happened that a person should know; the run continues. A note is no reason for concern."""

    message: Text
    level: Literal["warning", "note"] | str = "warning"

    @property
    def is_note(self) -> bool:
        return self.level == "note"


class Finished(Event):
    """The run ended; `code` is the exit code of its process."""

    outcome: Outcome
    cause: Text = ""
    code: int | None = None


class UnknownEvent(Event):
    """An event of a later version, with its fields as they are."""

    event: str
