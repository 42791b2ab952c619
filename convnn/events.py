"""The events of a run: what a trainer yields, and what a line of `events.jsonl` holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

SCHEMA = "convnn/1"
LONGEST_TEXT = 10_000  # characters of a text field, so that no event we write is longer than a line may be
FORKED_FROM = "forked from "  # begins the note of the event with which a fork goes on
Outcome = Literal["done", "stopped", "interrupted", "failed", "diverged"]
PRUNED = "pruned"  # cause and status of a run that a search stopped early, as others were better


def now() -> datetime:
    """Return the current time in UTC, to the millisecond that the file keeps."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def _storable(text: object) -> object:
    if not isinstance(text, str):
        return text
    return text[:LONGEST_TEXT].encode("utf-8", "backslashreplace").decode()  # file names may hold lone surrogates


Text = Annotated[str, BeforeValidator(_storable)]
Count = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # a larger one is no number for any other program


def _in_calendar(time: datetime) -> datetime:
    """Return a time in UTC. Raises ValueError where some time zone has no date for it."""
    if not 1900 <= time.year < 9900:
        raise ValueError("a time outside of the years 1900 to 9899")
    return time.astimezone(UTC)


Time = Annotated[AwareDatetime, AfterValidator(_in_calendar)]


class Event(BaseModel):
    """Something that happened in a run, and when (UTC). Fields that a later version added are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, defer_build=True)

    time: Time = Field(default_factory=now)


class CodeState(BaseModel):
    """The code of the current directory when a run started: a commit and what differed from it."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    commit: Text
    dirty: bool  # tracked files differed
    diff_sha256: Text | None = None  # of the whole diff, of which `code.diff` may hold a part; None where not dirty


class Started(Event):
    """A run started, on this machine, with this model and these data."""

    schema_: str = Field(default=SCHEMA, alias="schema")
    versions: dict[str, str] = {}
    device: Text = ""
    threads: Count | None = None  # of each process
    processes: Count | None = None  # None where it is one
    git_commit: Text | None = None
    code: CodeState | None = None  # of a run that was told to record it
    host: Text = ""
    seed: Count | None = None
    normalisation: dict[str, tuple[float, ...]] | None = None  # "mean" and "std", a number per channel
    classes: tuple[Text, ...] = ()
    num_classes: Count | None = None
    image_size: tuple[Count, ...] | None = None  # (channels, height, width)
    images: dict[str, Count] = {}  # images by split: train, test and, if any, val
    data_path: Text | None = None  # absolute, of a data set that is read from disk
    data_digest: dict[str, str] = {}  # SHA-256 by split: of pixels and labels, or of a streamed set's file list
    parameters: Count | None = None
    trainable_parameters: Count | None = None
    flops: float | None = None  # per image, forward
    memory_bytes: Count | None = None  # estimated for one training step
    epochs: Count | None = None
    steps_per_epoch: Count | None = None
    amp: dict[str, Any] | None = None  # "mode" and "dtype"
    matmul: Text | None = None  # how float32 products were computed: "tf32" or "fp32"
    cuda_graph: bool | None = None  # whether steps run as a CUDA graph, unless a warning says otherwise
    compile: dict[str, Any] | None = None  # "mode", "graphs" and "breaks"


class Step(Event):
    """A training step ended. Not every step is written: at most one per half second and 200 per epoch."""

    epoch: Count
    step: Count  # of the whole run, from 1
    loss: float
    lr: float | None = None
    grad_norm: float | None = None
    images_per_s: float | None = None
    system: dict[str, float] = {}  # by the names of `metrics.SYSTEM_METRICS`; means since the last event


class Epoch(Event):
    """An epoch ended; `metrics` by name, accuracies in percent, times in seconds."""

    epoch: Count
    step: Count
    metrics: dict[str, float]


class LayerStatistics(Event):
    """What the layers chose on a fixed batch of evaluation images, logged before the Epoch event of the same step.

    It decides nothing and is no part of the digest.
    """

    epoch: Count
    step: Count
    layers: dict[str, dict[str, float]]  # by slot, such as stage1.conv1, and by name; see `layers.neighbor_statistics`
    images: Count = 0
    every: Count = 1  # epochs until the next of these events, so that they take at most 1 % of the time
    seconds: float = 0.0  # that it took


class Paused(Event):
    """Training paused."""

    epoch: Count
    step: Count


class Resumed(Event):
    """Training continued after `step`, from a checkpoint or a pause; events of later steps no longer count."""

    epoch: Count
    step: Count
    exact: bool = True
    note: Text = ""


class Noted(Event):
    """Somebody left a note."""

    text: Text
    by: Text = ""


class Changed(Event):
    """A note, as runs of earlier versions hold it."""

    text: Text = Field(validation_alias="what", serialization_alias="what")
    by: Text = ""


class Tagged(Event):
    """Somebody added tags to the run, or removed them."""

    added: tuple[Text, ...] = ()
    removed: tuple[Text, ...] = ()
    by: Text = ""


class Saved(Event):
    """A checkpoint was written."""

    step: Count
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
    code: Count | None = None

    @property
    def status(self) -> str:
        """The status of a run that ended so: its outcome, or "pruned" where a search and no person stopped it."""
        return PRUNED if (self.outcome, self.cause) == ("stopped", PRUNED) else self.outcome


KINDS = {kind.__name__: kind for kind in Event.__subclasses__()}  # by the name that a line of `events.jsonl` holds


class UnknownEvent(Event):
    """An event of a later version, with its fields as they are."""

    event: str
