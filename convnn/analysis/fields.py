"""What a run can be asked for by name: in filters, columns, sorting and tables one and the same.

A key is the name of a flag (`K`, `layer`), an option (`layer.K`), a figure (`best`, `test_top1`, `best:test_loss`) or a
fact of the run (`name`, `status`, `age`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from convnn.config.options import BY_KEY, BY_NAME, OPTIONS, Option
from convnn.config.recorded import UNKNOWN, shown
from convnn.errors import Problem, UserError, did_you_mean
from convnn.events import now
from convnn.files import directory_size
from convnn.metrics import format_value, known_metric_names, monitored
from convnn.runs.status import GLYPHS
from convnn.runs.summary import Summary
from convnn.text import escaped, memory

Kind = Literal["text", "words", "number", "bool", "status", "age", "time", "size"]
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
SIZES = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


@dataclass(frozen=True)
class Field:
    """One thing to ask a run for; `get` answers UNKNOWN where it is not told."""

    key: str
    kind: Kind
    get: Callable[[Summary], Any]
    show: Callable[[Any], str]
    option_key: str | None = None  # layer.K, where it is an option
    metric: str | None = None
    best: bool = False  # of a metric: at its best epoch, not the last

    @property
    def format_as(self) -> str:
        """The metric whose digits and unit its values have: its own, else the one that decides which epoch is best."""
        return self.metric or monitored(validation=False)

    def text(self, run: Summary) -> str:
        """The value as it is shown; empty where there is none."""
        value = self.get(run)
        return "" if value is UNKNOWN else self.show(value)

    def order(self, run: Summary) -> tuple[Any, ...]:
        """Sorts runs by the value: unknown and NaN last, choices in the order of the schema."""
        return order(self, self.get(run))


def order(field: Field, value: Any) -> tuple[Any, ...]:
    """Sorts values of a field."""
    if value is UNKNOWN or value is None or (isinstance(value, float) and math.isnan(value)):
        return 2, 0, ""
    if isinstance(value, bool | int | float):
        return 0, value, ""
    choices = BY_KEY[field.option_key].choices if field.option_key else tuple(GLYPHS) if field.kind == "status" else ()
    return 1, choices.index(value) if value in choices else len(choices), str(value)


def _or_unknown(value: Any) -> Any:
    return UNKNOWN if value is None else value


def age(run: Summary) -> Any:
    """Seconds since the run ended or, if it has not, began."""
    told = run.finished or run.started
    return (now() - datetime.fromisoformat(told)).total_seconds() if told else UNKNOWN


def local(text: str) -> str:
    """A moment of our files, which are in UTC, in local time as names of runs are: 2026-11-22T15:15:00."""
    return datetime.fromisoformat(text).astimezone().isoformat()[:19]


def _show_time(text: str) -> str:
    return local(text)[:16].replace("T", " ")


def duration(text: str) -> float:
    """Seconds of a time as people write it: 90s, 5m, 12h, 30d, 2w. Raises ValueError."""
    if text[-1:] not in UNITS:
        raise ValueError(text)
    seconds = float(text[:-1]) * UNITS[text[-1]]
    if not 0 <= seconds < 1e12:
        raise ValueError(text)
    return seconds


def size(text: str) -> float:
    """Bytes of a size as people write it: 300MB, "1.2 GB", 5000. Raises ValueError."""
    unit = text[-2:]
    return float(text[:-2]) * SIZES[unit] if unit in SIZES else float(text)


def _show_age(seconds: float) -> str:
    unit = next((unit for unit in ("w", "d", "h", "m") if seconds >= 2 * UNITS[unit]), "s")
    return f"{seconds / UNITS[unit]:.0f}{unit}"


RUN_FIELDS: dict[str, Field] = {
    "name": Field("name", "text", lambda run: run.name, escaped),
    "path": Field("path", "text", lambda run: run.path, escaped),
    "status": Field("status", "status", lambda run: run.status, str),
    "epoch": Field("epoch", "number", lambda run: run.epoch, str),
    "best": Field(
        "best",
        "number",
        lambda run: run.best.value if run.best else UNKNOWN,
        lambda value: format_value(value, monitored(validation=False)),
        best=True,
    ),
    "best_epoch": Field("best_epoch", "number", lambda run: run.best.epoch if run.best else UNKNOWN, str),
    "started": Field("started", "time", lambda run: _or_unknown(run.started), _show_time),
    "finished": Field("finished", "time", lambda run: _or_unknown(run.finished), _show_time),
    "age": Field("age", "age", age, _show_age),
    "size": Field("size", "size", lambda run: directory_size(Path(run.path)), memory),
    "digest": Field("digest", "text", lambda run: _or_unknown(run.digest), lambda v: v[:12]),
    "imported": Field("imported", "bool", lambda run: run.source is not None, lambda v: "as published" if v else ""),
    "source": Field("source", "text", lambda run: _or_unknown(run.source), escaped),
    "launchable": Field(
        "launchable", "bool", lambda run: not run.not_launchable_reason, lambda v: "yes" if v else "no"
    ),
}


def get_field(key: str, metrics: Iterable[str] = ()) -> Field:
    """What a key means; `metrics` are known beside those of every run. Raises UserError with the nearest known key."""
    if key in RUN_FIELDS:
        return RUN_FIELDS[key]
    if option := BY_KEY.get(key) or BY_NAME.get(key):
        return _option(key, option)
    at, _, metric = key.rpartition(":")
    known = [*known_metric_names(), *metrics]
    if at in ("", "best", "last") and metric in known:
        return _metric(key, metric, best=at == "best")
    guess = {option.field: option.name for option in OPTIONS}.get(key)
    words = [*RUN_FIELDS, *BY_NAME, *BY_KEY, *known, *(f"best:{name}" for name in known)]
    hint = f". Did you mean {guess}?" if guess else did_you_mean(key, words)
    fix = "keys are flags (K, layer), options (layer.K), figures (best, test_top1, best:test_loss) or " + ", ".join(
        RUN_FIELDS
    )
    raise UserError(Problem(f"there is nothing called {escaped(key)}{hint}", key=escaped(key), fix=fix))


def parse_fields(keys: str, metrics: Iterable[str] = ()) -> list[Field]:
    """The fields of a list of keys with commas between them. Raises UserError with everything that is no key."""
    found: list[Field] = []
    problems: list[Problem] = []
    for key in [key.strip() for key in keys.split(",") if key.strip()]:
        try:
            found.append(get_field(key, metrics))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return found


def metric_names(runs: Iterable[Summary]) -> list[str]:
    """The metrics that some run has."""
    kinds = dict.fromkeys(tuple(run.metrics) for run in runs)  # thousands of runs have the same ones
    return list(dict.fromkeys(name for names in kinds for name in names))


def _option(key: str, option: Option) -> Field:
    kinds: dict[str, Kind] = {"bool": "bool", "int": "number", "float": "number", "words": "words"}
    return Field(
        key,
        kinds.get(option.kind, "text"),
        lambda run: run.config.value(option.key),
        lambda value: escaped(shown(option.key, value)),
        option_key=option.key,
    )


def _metric(key: str, metric: str, *, best: bool) -> Field:
    def get(run: Summary) -> Any:
        figure = run.metrics.get(metric)
        return UNKNOWN if figure is None else _or_unknown(figure.best if best else figure.last)

    return Field(key, "number", get, lambda value: format_value(value, metric), metric=metric, best=best)
