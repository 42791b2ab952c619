"""The summary of a run: what lists, filters and comparisons know of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from convnn.config.recorded import UNKNOWN, Settings
from convnn.events import iso
from convnn.metrics import Best
from convnn.runs.history import History
from convnn.runs.run import Run


class MetricSummary(NamedTuple):
    """A metric at the last epoch and, where it has a finite value, at its best one."""

    last: float | None
    best: float | None
    epoch: int | None  # of the best value


@dataclass(slots=True)
class Summary:
    """A run in a few figures: the R of the JSON documents, and what filters and tables ask for beside it."""

    name: str
    path: str
    status: str
    started: str | None  # UTC
    finished: str | None
    config: Settings  # shared between runs that have the same one
    epoch: int  # epochs completed
    best: Best | None
    digest: str | None  # None before the first epoch
    metrics: Mapping[str, MetricSummary]  # by metric
    source: str | None  # the directory an imported run came from: its figures are as published
    not_launchable_reason: str | None  # why an imported run cannot be launched
    damaged_lines: int = 0  # lines of its log that are damaged

    def json(self) -> dict[str, Any]:
        """The R of the JSON documents."""
        best = self.best and {**self.best._asdict(), "value": json_number(self.best.value)}
        fields = {
            name: getattr(self, name) for name in ("name", "path", "status", "started", "finished", "config", "epoch")
        }
        config = {
            section: {key: json_value(value) for key, value in table.items()} for section, table in self.config.items()
        }
        return fields | {"config": config, "best": best, "digest": self.digest}


def json_number(value: float) -> float | str:
    """A number as our JSON spells it: the ones that are not finite are words."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def json_value(value: Any) -> Any:
    """A value of a configuration as JSON takes it: TOML has dates, and numbers that are not finite."""
    if value is UNKNOWN:
        return None
    if isinstance(value, float):
        return json_number(value)
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, dict):
        return {key: json_value(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def summarize(run: Run) -> Summary:
    """The summary of a run, from its files. Raises UserError where its configuration is damaged."""
    history = run.history(steps=False)
    best = history.best()
    told = run.import_record()
    return Summary(
        name=run.name,
        path=str(run.path),
        status=run.status(),
        started=iso(history.first_started) if history.first_started else None,
        finished=iso(history.finished.time) if history.finished else None,
        config=Settings(run.sections()),
        epoch=history.epochs[-1].epoch if history.epochs else 0,
        best=Best(history.best_metric, *best) if best else None,
        digest=history.digest() if history.epochs else None,
        metrics={metric: _figure(history, metric) for metric in history.metrics},
        source=str(told["source"]) if "source" in told else None,
        not_launchable_reason=str(told["reason"]) if told.get("reason") else None,
        damaged_lines=len(history.skipped_lines),
    )


def _figure(history: History, metric: str) -> MetricSummary:
    best = history.best(metric)
    return MetricSummary(history.epochs[-1].metrics.get(metric), *(best or (None, None)))


def summary_json(run: Run) -> dict[str, Any]:
    """The summary of a run as JSON values."""
    return summarize(run).json()
