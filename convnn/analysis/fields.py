"""The fields of a run: what filters, columns, sort keys, groups and pivot tables ask for by a key.

A key is the name of a flag (`K`, `layer`), an option of the schema (`layer.K`), a metric at the last or at its best
epoch (`test_top1`, `best:test_loss`), or a key of RUN_FIELDS (`name`, `status`, `age`). To add a field, add a row to
RUN_FIELDS; options and metrics come from their own tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from string import ascii_letters
from typing import Any, Literal

from convnn.config.options import BY_KEY, BY_NAME, OPTIONS, Option
from convnn.config.recorded import UNKNOWN, value_text
from convnn.errors import Problem, UserError, did_you_mean, naming_flag
from convnn.events import now
from convnn.files import directory_size
from convnn.metrics import format_value, known_metric_names, monitored, split_of
from convnn.runs.status import STATUSES
from convnn.runs.summary import Summary
from convnn.text import age_text, memory

Kind = Literal["text", "words", "number", "bool", "status", "age", "time", "size"]
SortKey = tuple[int, Any, str]
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
BYTES = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_OPTION_KINDS: dict[str, Kind] = {"bool": "bool", "int": "number", "float": "number", "words": "words"}
_UNKNOWN_RANK = 2  # of a sort key


@dataclass(frozen=True)
class Field:
    """A value of every run, by its key; `get` returns UNKNOWN where a run did not record it."""

    key: str
    kind: Kind
    get: Callable[[Summary], Any]
    show: Callable[[Any], str]
    option: Option | None = None
    metric: str | None = None
    best: bool = False  # of a metric: at its best epoch, not at the last
    help: str = ""  # of what a run has beside options and metrics

    @property
    def format_as(self) -> str:
        """The metric whose digits and unit the values have: its own, or else the monitored one."""
        return self.metric or monitored(validation=False)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values it can have, in the order of the schema; empty where they are not listed."""
        if self.option is not None:
            return self.option.choices
        if self.kind == "status":
            return tuple(STATUSES)
        return ()

    def effective(self, run: Summary) -> Any:
        """Return the value; UNKNOWN for an option that has no effect in the run."""
        if self.option is not None and self.option.key in run.config.inactive:
            return UNKNOWN
        return self.get(run)

    def text(self, run: Summary) -> str:
        """Return the value as text; empty where it is unknown."""
        return self.value_text(self.get(run))

    def effective_text(self, run: Summary) -> str:
        """Return the value as text; empty where it is unknown, or an option without effect."""
        return self.value_text(self.effective(run))

    def value_text(self, value: Any) -> str:
        """Return a value of the field as text; empty where it is unknown."""
        if value is UNKNOWN:
            return ""
        return self.show(value)

    def sort_key(self, value: Any) -> SortKey:
        """Return a key that sorts values: numbers, then choices in their order, then other text, then unknown ones."""
        if value is UNKNOWN or value is None or (isinstance(value, float) and math.isnan(value)):
            return _UNKNOWN_RANK, 0, ""
        if isinstance(value, bool | int | float):
            return 0, value, ""
        choices = self.choices
        rank = choices.index(value) if value in choices else len(choices)
        return 1, rank, str(value)


def is_unknown(sort_key: SortKey) -> bool:
    """Return whether a sort key is that of an unknown value, of "none" or of NaN."""
    return sort_key[0] == _UNKNOWN_RANK


def get_field(key: str, metrics: Iterable[str] = ()) -> Field:
    """Return the field of a key; `metrics` are known beside those of every run.

    Raises UserError with the nearest known key.
    """
    if key in RUN_FIELDS:
        return RUN_FIELDS[key]
    if option := BY_KEY.get(key) or BY_NAME.get(key):
        return _option_field(key, option)
    point, _, metric = key.rpartition(":")
    known_metrics = [*known_metric_names(), *metrics]
    if point in ("", "best", "last") and metric in known_metrics:
        return _metric_field(key, metric, best=point == "best")
    # the last part of an option's key is likely what is meant, though it is no key by itself: ratio, branching.ratio
    nearest = {option.field: option.name for option in OPTIONS}.get(key)
    known_keys = [*RUN_FIELDS, *BY_NAME, *BY_KEY, *known_metrics, *(f"best:{name}" for name in known_metrics)]
    hint = did_you_mean(key, known_keys)
    if nearest is not None:
        hint = f". Did you mean {nearest}?"
    fix = f"use a flag (K), an option (layer.K), a metric (test_top1, best:test_loss) or one of {', '.join(RUN_FIELDS)}"
    raise UserError(f"unknown field {key}{hint}", key=key, fix=fix)


def parse_fields(keys: str, metrics: Iterable[str] = ()) -> list[Field]:
    """Return the fields of keys with commas between them. Raises UserError with every key that is unknown."""
    fields: list[Field] = []
    problems: list[Problem] = []
    for key in filter(None, map(str.strip, keys.split(","))):
        try:
            fields.append(get_field(key, metrics))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return fields


def metric_names(runs: Iterable[Summary]) -> list[str]:
    """Return the metrics that some run has, in the order they first appear."""
    distinct = dict.fromkeys(tuple(run.metrics) for run in runs)  # thousands of runs have the same ones
    return list(dict.fromkeys(name for names in distinct for name in names))


def check_recorded(metric: str, recorded: Sequence[str]) -> None:
    """Raise UserError where a metric is not among those that runs have recorded, which it names."""
    if metric in recorded:
        return
    with naming_flag("--metric"):
        get_field(metric, recorded)  # an unknown name raises with the nearest known one
    fix = "choose runs that trained an epoch"
    if recorded:
        fix = f"choose one of {', '.join(recorded)}"
    raise UserError(f"none of these runs has recorded {metric}", key="metric", value=metric, fix=fix)


def number_field(key: str, metrics: Iterable[str], flag: str) -> Field:
    """Return the field of a key whose values are numbers. Raises UserError for another, which begins with the flag."""
    with naming_flag(f"--{flag}"):
        return check_number(get_field(key, metrics), flag)


def check_number(field: Field, flag: str) -> Field:
    """Return a field whose values are numbers. Raises UserError for another one, which names its flag."""
    if field.kind != "number":
        fix = "give best, test_top1 or best:test_loss, for example"
        raise UserError(f"{field.key} is no number", key=flag, value=field.key, fix=fix)
    return field


def choosing_metrics(field: Field, runs: Iterable[Summary]) -> set[str]:
    """Return the metrics by which the epoch of the field's value was chosen: those that the runs monitor for `best`.

    The set is empty for a field that takes no best epoch.
    """
    if not field.best:
        return set()
    if field.metric is not None:
        return {field.metric}
    return {run.best.metric for run in runs if run.best is not None}


def chosen_on_test_note(field: Field, runs: Iterable[Summary]) -> list[str]:
    """Return the note that the epoch of the field's value was chosen on the test set, if it was."""
    if any(split_of(metric) == "test" for metric in choosing_metrics(field, runs)):
        return ["best on test: the epoch was chosen on the test set"]
    return []


def measuring_metrics(field: Field, runs: Iterable[Summary]) -> set[str]:
    """Return the metrics that the field's value is one of: its own, or those that the runs monitor for `best`."""
    if field.metric is not None:
        return {field.metric}
    return choosing_metrics(field, runs)


def parse_duration(text: str) -> float:
    """Return the seconds of a time span such as 90s, 5m, 12h, 30d or 2w. Raises ValueError."""
    if text[-1:] not in SECONDS:
        raise ValueError(text)
    seconds = float(text[:-1]) * SECONDS[text[-1]]
    if not 0 <= seconds < 1e12:
        raise ValueError(text)
    return seconds


def parse_size(text: str) -> float:
    """Return the bytes of a size such as 300MiB, "1.2 GB" or 5000. Raises ValueError."""
    count = text.rstrip(ascii_letters)
    unit = text.removeprefix(count)
    if unit not in BYTES:
        return float(text)
    return float(count) * BYTES[unit]


def local_time(text: str) -> str:
    """Return a UTC time of our files in local time: "2026-11-22T15:15:00"."""
    return datetime.fromisoformat(text).astimezone().isoformat()[:19]


def _option_field(key: str, option: Option) -> Field:
    return Field(
        key,
        _OPTION_KINDS.get(option.kind, "text"),
        lambda run: run.config.value(option.key),
        lambda value: value_text(option.key, value),
        option=option,
    )


def _metric_field(key: str, metric: str, *, best: bool) -> Field:
    def get(run: Summary) -> Any:
        values = run.metrics.get(metric)
        if values is None:
            return UNKNOWN
        if best:
            return _or_unknown(values.best)
        return _or_unknown(values.last)

    return Field(key, "number", get, lambda value: format_value(value, metric), metric=metric, best=best)


def _or_unknown(value: Any) -> Any:
    return UNKNOWN if value is None else value


def _show_best(value: float) -> str:
    return format_value(value, monitored(validation=False))


def age(run: Summary, time: float | None = None) -> Any:
    """Return the seconds since the run ended or, if it has not, since it started; `time` is now by default."""
    since = run.finished or run.started
    if since is None:
        return UNKNOWN
    if time is None:
        time = now().timestamp()
    return max(0.0, time - datetime.fromisoformat(since).timestamp())


def _show_time(text: str) -> str:
    return local_time(text)[:16].replace("T", " ")


RUN_FIELDS: dict[str, Field] = {
    field.key: field
    for field in (
        Field("name", "text", lambda run: run.name, str, help="its directory"),
        Field("path", "text", lambda run: run.path, str, help="its directory, with the folders above"),
        Field("status", "status", lambda run: run.status, str, help="running, done, failed and so on"),
        Field("host", "text", lambda run: _or_unknown(run.host), str, help="the other node that trains it"),
        Field("epoch", "number", lambda run: run.epoch, str, help="epochs that it trained"),
        Field(
            "best",
            "number",
            lambda run: _or_unknown(run.best and run.best.value),
            _show_best,
            best=True,
            help="accuracy of its best epoch",
        ),
        Field(
            "best_epoch",
            "number",
            lambda run: _or_unknown(run.best and run.best.epoch),
            str,
            help="the epoch with that accuracy",
        ),
        Field("started", "time", lambda run: _or_unknown(run.started), _show_time, help="when it began, local time"),
        Field("finished", "time", lambda run: _or_unknown(run.finished), _show_time, help="when it ended, local time"),
        Field("age", "age", age, age_text, help="time since it ended or, before that, began"),
        Field("size", "size", lambda run: directory_size(Path(run.path)), memory, help="its files on disk"),
        Field(
            "digest",
            "text",
            lambda run: _or_unknown(run.digest),
            lambda digest: digest[:12],
            help="equal for equal metrics in all epochs",
        ),
        *(
            Field(key, "words", lambda run: run.tags, ", ".join, help="its tags") for key in ("tag", "run.tags")
        ),  # also later ones
        Field("sweep", "words", lambda run: run.sweeps, ", ".join, help="the sweeps that it belongs to"),
        Field("note", "text", lambda run: "; ".join(run.notes) or UNKNOWN, str, help="the notes in its history"),
        Field("products", "text", lambda run: _or_unknown(run.matmul), str, help="number format of products on cuda"),
        Field(
            "imported",
            "bool",
            lambda run: run.source is not None,
            lambda yes: "as published" if yes else "",
            help="whether its metrics are as published",
        ),
        Field("source", "text", lambda run: _or_unknown(run.source), str, help="the directory it was imported from"),
        Field(
            "launchable",
            "bool",
            lambda run: run.not_launchable_reason is None,
            lambda yes: "yes" if yes else "no",
            help="whether its options can train again",
        ),
    )
}
