"""The arguments and curves of an original run, converted to our configuration and our events."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w

from convnn.config.active import inactive_options
from convnn.config.options import BY_KEY, OPTIONS
from convnn.config.schema import section_tables
from convnn.costs import plan
from convnn.data.catalog import published_info
from convnn.events import SCHEMA
from convnn.json_values import iso, json_number
from convnn.legacy.result_files import Arguments, Results, SkippedLine
from convnn.presets.resolve import resolve
from convnn.presets.store import Preset
from convnn.runs.history import History
from convnn.runs.text_files import ARGS
from convnn.text import joined

ADDED_OPTIONS = {  # that the original tool did not have; with their defaults it computes the same
    "model.width", "data.limit", "data.val_share", "data.workers", "training.accumulate", "training.drop_last",
    "training.label_smoothing", "training.early_stop", "training.ema_decay",
    "training.bn_recalibrate", "scheduler.warmup_epochs",
    "runtime.threads", "runtime.processes", "runtime.deterministic", "runtime.amp_dtype", "runtime.matmul",
    "runtime.cuda_graph", "checkpoint.every_epochs", "checkpoint.every_minutes", "checkpoint.keep_optimizer",
    "run.name", "run.tags", "run.neighbor_stats",
}  # fmt: skip
NOT_IN_CONFIG = {"output.dir", "output.test_only"}
MAX_TIME = 2.5e11  # seconds since 1970, within the calendar


@dataclass(frozen=True)
class Configuration:
    """The configuration of an original run."""

    text: str  # of `config.toml`
    reason: str | None  # why it cannot be launched; None where it can
    missing: tuple[str, ...]  # options that args.txt lacks
    flops: int | None  # of one image forward, by our count
    steps_per_epoch: int


def configuration(arguments: Arguments, tags: Sequence[str] = ()) -> Configuration:
    """Return the configuration in args.txt, as written even where our rules refuse it."""
    values = {key: value for key, value in arguments.values.items() if key not in NOT_IN_CONFIG}
    values |= {key: BY_KEY[key].default for key in ADDED_OPTIONS}
    values["run.tags"] = tuple(tags)
    typed = tuple((key, type(value), _hashable(value)) for key, value in sorted(values.items()))  # 1 is not True
    classes = arguments.sizes.get("num_classes")
    is_count = type(classes) is int and 0 < classes < 10**6
    return _configuration(typed, classes if is_count else None)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@functools.lru_cache(256)
def _configuration(typed_values: tuple[tuple[str, type, Any], ...], classes: int | None) -> Configuration:
    values = {key: value for key, _, value in typed_values}
    resolved = resolve(Preset("args", None, values=values))
    reasons = [problem.message for problem in resolved.problems]
    inactive = inactive_options(resolved.config)
    absent = [option for option in OPTIONS if option.key not in values and option.key not in NOT_IN_CONFIG]
    if needed := [option.name for option in absent if option.key not in inactive]:
        reasons.append(f"{ARGS} lacks {joined(needed, 4)}")
    config = resolved.config
    dataset = published_info(config.data.dataset)
    side = (config.data.resize,) * 2 if config.data.resize else dataset.image_size
    classes = classes or dataset.num_classes
    flops = None
    if not reasons and side and classes:
        flops = plan.plan(config, side, classes).flops
    steps = 1
    if dataset.train_images and "data.dataset" in values and "training.batch_size" in values:
        steps = math.ceil(dataset.train_images / config.training.batch_size)
    missing = tuple(option.name for option in absent)
    # in the order of the schema; they may break our rules, so that no RunConfig can hold them
    written = {key: "none" if values[key] is None else values[key] for key in BY_KEY if key in values}
    text = tomli_w.dumps(section_tables(written))
    return Configuration(text, "; ".join(reasons) or None, missing, flops, steps)


def epoch_seconds(metrics: dict[str, float]) -> float:
    """Return the time of an epoch, 0 where none is written or it is not a time."""
    seconds = metrics.get("train_s", 0.0)
    return min(seconds, 1e6) if seconds > 0 else 0.0


class EventLines:
    """The lines of `events.jsonl` of an original run; an epoch ends when the times of the epochs so far have passed."""

    def __init__(self, arguments: Arguments, results: Results, config: Configuration, start_time: float) -> None:
        self.arguments, self.results, self.config, self.start_time = arguments, results, config, start_time
        self.planned_epochs = _int_or_none(arguments.values.get("training.num_epochs"))
        last = max(results.epochs[-1][0], len(results.epochs)) if results.epochs else 0  # some count from 0
        self.ended = results.ended or (self.planned_epochs is not None and last >= self.planned_epochs)

    def all(self) -> list[str]:
        """Return every line, for a new run."""
        return [self._started(), *self._epochs(0, self.start_time), *self._finished(0, self.start_time)]

    def beyond(self, history: History) -> list[str] | None:
        """Return the lines that continue `history`; None where that is not an earlier state of this run."""
        count = len(history.epochs)
        recorded = [(event.epoch, repr(event.metrics)) for event in history.epochs]
        if not history.first_started or recorded != [(n, repr(metrics)) for n, metrics in self.results.epochs[:count]]:
            return None
        time = (history.epochs[-1].time if count else history.first_started).timestamp()
        lines = list(self._epochs(count, time))
        if history.finished is not None:
            if self.ended and not lines:
                return []
            lines.insert(0, _line("Resumed", time, epoch=history.epoch, step=history.step, exact=True, note=""))
        return lines + self._finished(count, time)

    def _started(self) -> str:
        values, sizes = self.arguments.values, self.arguments.sizes
        dataset = published_info(values.get("data.dataset"))
        size = sizes.get("img_size")
        is_size = isinstance(size, tuple) and all(type(side) is int for side in size)
        fields: dict[str, Any] = {
            "schema": SCHEMA,
            "device": str(values.get("runtime.device", "")),
            "seed": _int_or_none(values.get("training.seed")),
            "num_classes": _int_or_none(sizes.get("num_classes")),
            "image_size": size if is_size else None,
            "images": {"train": dataset.train_images, "test": dataset.test_images} if dataset.train_images else {},
            "parameters": _int_or_none(sizes.get("total_params")),
            "trainable_parameters": _int_or_none(sizes.get("trainable_params")),
            "flops": self.config.flops,
            "epochs": self.planned_epochs,
            "steps_per_epoch": self.config.steps_per_epoch,
        }
        known = {name: value for name, value in fields.items() if value is not None}
        return _line("Started", self.start_time, **known)

    def _epochs(self, first: int, time: float) -> Iterator[str]:
        for epoch, metrics in self.results.epochs[first:]:
            time += epoch_seconds(metrics)
            values = {name: json_number(value) for name, value in metrics.items()}
            yield _line("Epoch", time, epoch=epoch, step=epoch * self.config.steps_per_epoch, metrics=values)

    def _finished(self, first: int, time: float) -> list[str]:
        """Return the last line of a run that ended, `first` being the epoch that began at `time`."""
        if not self.ended:
            return []
        time += sum(epoch_seconds(metrics) for _, metrics in self.results.epochs[first:])
        return [_line("Finished", time, outcome="done", cause="imported", code=None)]


def _int_or_none(value: Any) -> int | None:
    return value if type(value) is int else None


def _line(event: str, time: float, **fields: Any) -> str:
    """Return the line of an event as `event_log.event_line` does, at a hundredth of its cost."""
    moment = datetime.fromtimestamp(min(time, MAX_TIME), UTC)
    return json.dumps({"event": event, "time": iso(moment), **fields}) + "\n"


_CLAIMS = (  # values in the name of a directory, the keys of their options, and how they are read
    (re.compile(r"(?:^|_)K(\d+)(?=_|$)"), "layer.K", int),
    (re.compile(r"(?:^|_)br(\d{4})(?=_|$)"), "branching.ratio", lambda digits: int(digits) / 1000),
    (re.compile(r"(?:^|_)s(\d+)$"), "training.seed", int),
)


def contradictions(source: Path, values: dict[str, Any]) -> list[SkippedLine]:
    """Return where the name of the directory contradicts args.txt, whose values are used."""
    claims = []
    for pattern, key, read in _CLAIMS:
        match = pattern.search(source.name)
        if match and key in values and values[key] != read(match[1][:9]):
            claim = match[0].strip("_")
            why = f"{BY_KEY[key].name} is {values[key]}, although the name of the directory says {claim}"
            claims.append(SkippedLine(ARGS, 0, why))
    return claims
