"""The summary of a run: what lists, filters and comparisons know of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from convnn.config.recorded import Settings
from convnn.json_values import json_value
from convnn.metrics import Best
from convnn.runs.history import History
from convnn.runs.run import Run, damage_named
from convnn.runs.status import STATUSES, status_label


class MetricSummary(NamedTuple):
    """A metric at the last epoch and, where it has a finite value, at its best one."""

    last: float | None
    best: float | None
    epoch: int | None  # of the best value


class RecordedData(NamedTuple):
    """The data that a run recorded at its last start; None and empty where it did not."""

    num_classes: int | None = None
    class_digest: str | None = None  # of the names of the classes, which may be thousands
    images: Mapping[str, int] = {}  # by split, as many as are used
    digests: Mapping[str, str] = {}  # of the images and labels, by split


@dataclass(slots=True)
class Summary:
    """A run in a few values: what JSON documents hold of it, and what filters and tables need beside that."""

    name: str
    path: str
    status: str
    started: str | None  # UTC
    finished: str | None
    config: Settings  # shared between runs that have the same one
    epoch: int  # epochs completed
    best: Best | None
    digest: str | None  # None before the first epoch
    metrics: Mapping[str, MetricSummary]
    source: str | None  # the directory an imported run came from: its values are as published
    not_launchable_reason: str | None  # of an imported run that cannot be launched
    damaged_lines: int = 0  # of its event log
    data: RecordedData = field(default_factory=RecordedData)
    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    matmul: str | None = None  # how float32 products were computed: "tf32", "fp32", None where it was not recorded
    failed_early: bool = False  # before its first step: not listed unless it is asked for
    forked_from: str | None = None  # name of the run whose checkpoint this one began with
    sweeps: tuple[str, ...] = ()  # that it is a run of, which their files say
    host: str | None = None  # the other node that trains it, whose lock says so

    @property
    def run(self) -> Run:
        return Run(Path(self.path), self.name)

    @property
    def status_label(self) -> str:
        """Glyph and word of its status, and the other node that trains it."""
        return status_label(self.status, self.host)

    def json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "path": self.path,
            "status": self.status,
            "host": self.host,
            "started": self.started,
            "finished": self.finished,
            "config": json_value(self.config),
            "epoch": self.epoch,
            "best": self.best and json_value(self.best._asdict()),
            "digest": self.digest,
            "tags": list(self.tags),
            "notes": list(self.notes),
        }


@damage_named
def summarize(run: Run) -> Summary:
    """Return the summary of a run, read from its files. Raises UserError where the run is damaged."""
    config = Settings(run.sections())
    _ = config.key, config.inactive  # what lists and comparisons derive from it, which may be damaged, too
    history = run.history(steps=False)
    best = history.best()
    import_record = run.import_record()
    status = run.status()
    return Summary(
        name=run.name,
        path=str(run.path),
        status=status,
        host=run.remote_host if STATUSES[status].is_live else None,
        started=json_value(history.first_started),
        finished=json_value(history.finished and history.finished.time),
        config=config,
        epoch=history.epochs[-1].epoch if history.epochs else 0,
        best=Best(history.best_metric, *best) if best else None,
        digest=history.digest() if history.epochs else None,
        metrics={metric: _metric_summary(history, metric) for metric in history.metrics},
        source=import_record.get("source"),
        not_launchable_reason=import_record.get("reason") or None,
        damaged_lines=len(history.skipped_lines),
        data=_recorded_data(history),
        tags=history.tags(_configured_tags(config)),
        notes=tuple(note.text for note in history.notes),
        matmul=history.matmul,
        forked_from=history.forked_from,
        failed_early=not history.epochs and run.failed_early(),
    )


def _configured_tags(config: Settings) -> tuple[str, ...]:
    tags = config.value("run.tags")
    if not isinstance(tags, list | tuple):
        return ()
    return tuple(map(str, tags))


def _recorded_data(history: History) -> RecordedData:
    started = history.started
    if started is None:
        return RecordedData()
    class_digest = None
    if started.classes:
        class_digest = hashlib.sha256("\0".join(started.classes).encode()).hexdigest()[:16]
    num_classes = started.num_classes or len(started.classes) or None
    return RecordedData(num_classes, class_digest, started.images, started.data_digest)


def _metric_summary(history: History, metric: str) -> MetricSummary:
    best, epoch = history.best(metric) or (None, None)
    return MetricSummary(history.last(metric), best, epoch)


def summary_json(run: Run) -> dict[str, Any]:
    return summarize(run).json()
