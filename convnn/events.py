"""What can happen in a run: one event a line of `events.jsonl`, appended and read from byte n."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, field_serializer

SCHEMA = "convnn/1"
LONGEST_TEXT = 10_000  # characters of a text field, so that no event we write is longer than a line may be
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

    description: Text = Field(validation_alias="what", serialization_alias="what")
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


class UnknownEvent(Event):
    """An event of a later version, kept as it is."""

    event: str
