"""An old run's arguments and curves as our configuration and our events."""

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
from convnn.costs import plan
from convnn.data.catalog import published_info
from convnn.events import SCHEMA, iso
from convnn.legacy.result_files import Arguments, Results, SkippedLine
from convnn.presets.resolve import resolve
from convnn.presets.store import Preset
from convnn.runs.history import History
from convnn.runs.text_files import ARGS
from convnn.text import escaped

NEW = {  # options that the original tool did not have; their defaults are what it did
    "model.width", "data.limit", "data.val_share", "data.workers", "training.accumulate", "runtime.threads",
    "runtime.deterministic", "runtime.amp_dtype", "checkpoint.every_epochs", "checkpoint.every_minutes", "run.name",
    "run.tags",
}  # fmt: skip
APART = {"output.dir", "output.test_only"}  # never part of a configuration file


@dataclass(frozen=True)
class Configuration:
    """The text of a `config.toml`, why it cannot be launched (None: it can), and what the arguments left out."""

    text: str
    reason: str | None
    missing: tuple[str, ...]
    flops: int | None  # of one image forward, by our count
    steps_per_epoch: int


def configuration(arguments: Arguments, tags: Sequence[str] = ()) -> Configuration:
    """What args.txt says as a configuration: as written, though our rules refuse it."""
    values = {key: value for key, value in arguments.values.items() if key not in APART}
    values |= {key: BY_KEY[key].default for key in NEW}
    values["run.tags"] = tuple(tags)
    told = tuple((key, type(value), _frozen(value)) for key, value in sorted(values.items()))  # 1 is not True
    return _configuration(told, _classes(arguments))


def _classes(arguments: Arguments) -> int | None:
    classes = arguments.found.get("num_classes")
    return classes if type(classes) is int and 0 < classes < 10**6 else None


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@functools.lru_cache(256)
def _configuration(told: tuple[tuple[str, type, Any], ...], classes: int | None) -> Configuration:
    values = {key: value for key, _, value in told}
    resolved = resolve(Preset("args", None, values=values))
    reasons = [problem.message for problem in resolved.problems]
    inactive = inactive_options(resolved.config)
    missing = tuple(o.name for o in OPTIONS if o.key not in values and o.key not in APART)
    needed = [name for name in missing if next(o.key for o in OPTIONS if o.name == name) not in inactive]
    if needed:
        some = ", ".join(needed[:4]) + f" and {len(needed) - 4} more" * (len(needed) > 4)
        reasons.append(f"{ARGS} says nothing of {some}")
    config, flops = resolved.config, None
    dataset = published_info(config.data.dataset)
    side = (config.data.resize,) * 2 if config.data.resize else dataset.image_size
    if not reasons and side and (classes or dataset.num_classes):
        flops = plan.plan(config, side, classes or dataset.num_classes or 1).flops
    images = dataset.train_images if "data.dataset" in values else None
    steps = math.ceil(images / config.training.batch_size) if images and "training.batch_size" in values else 1
    return Configuration(_toml(values), "; ".join(reasons) or None, missing, flops, steps)


def _toml(values: dict[str, Any]) -> str:
    tables: dict[str, dict[str, Any]] = {}
    for option in OPTIONS:
        if option.key in values:
            value = values[option.key]
            plain = "none" if value is None else list(value) if isinstance(value, tuple) else value
            tables.setdefault(option.section, {})[option.field] = plain
    return tomli_w.dumps(tables)


def seconds(metrics: dict[str, float]) -> float:
    """The time of an epoch, 0 where it is not told or no time."""
    told = metrics.get("train_s", 0.0)
    return min(told, 1e6) if told > 0 else 0.0


class EventLines:
    """The lines of `events.jsonl` that an old run comes to; epochs end when their times, added up, say so."""

    def __init__(self, arguments: Arguments, results: Results, config: Configuration, began: float) -> None:
        self.arguments, self.results, self.config, self.began = arguments, results, config, began
        epochs = arguments.values.get("training.num_epochs")
        self.planned = epochs if type(epochs) is int else None
        last = max(results.epochs[-1][0], len(results.epochs)) if results.epochs else 0  # some count from 0
        self.ended = results.ended or (self.planned is not None and last >= self.planned)

    def all(self) -> list[str]:
        """Every line, for a new run."""
        return [self._started(), *self._epochs(0, self.began), *self._finished(self._end(self.began, 0))]

    def beyond(self, history: History) -> list[str] | None:
        """The lines to add to those of `history`; None where that is of another run, not of an earlier state."""
        told = history.epochs
        now = [(epoch, repr(metrics)) for epoch, metrics in self.results.epochs[: len(told)]]
        if not history.first_started or now != [(event.epoch, repr(event.metrics)) for event in told]:
            return None
        time = (told[-1].time if told else history.first_started).timestamp()
        more = list(self._epochs(len(told), time))
        if history.finished is not None and (more or not self.ended):
            last = told[-1] if told else None
            fields = {"epoch": last.epoch if last else 0, "step": last.step if last else 0, "exact": True, "note": ""}
            more.insert(0, _line("Resumed", time, **fields))
            return more + self._finished(self._end(time, len(told)))
        return more if history.finished is not None else more + self._finished(self._end(time, len(told)))

    def _started(self) -> str:
        found, dataset = self.arguments.found, published_info(self.arguments.values.get("data.dataset"))
        size = found.get("img_size")
        fields: dict[str, Any] = {
            "schema": SCHEMA,
            "device": str(self.arguments.values.get("runtime.device", "")),
            "seed": _whole(self.arguments.values.get("training.seed")),
            "num_classes": _whole(found.get("num_classes")),
            "image_size": size if isinstance(size, tuple) and all(type(side) is int for side in size) else None,
            "images": {"train": dataset.train_images, "test": dataset.test_images} if dataset.train_images else {},
            "parameters": _whole(found.get("total_params")),
            "trainable_parameters": _whole(found.get("trainable_params")),
            "flops": self.config.flops,
            "epochs": self.planned,
            "steps_per_epoch": self.config.steps_per_epoch,
        }
        return _line("Started", self.began, **{name: value for name, value in fields.items() if value is not None})

    def _epochs(self, first: int, time: float) -> Iterator[str]:
        for epoch, metrics in self.results.epochs[first:]:
            time += seconds(metrics)
            figures = {name: value if math.isfinite(value) else _word(value) for name, value in metrics.items()}
            yield _line("Epoch", time, epoch=epoch, step=epoch * self.config.steps_per_epoch, metrics=figures)

    def _end(self, time: float, first: int) -> float:
        return time + sum(seconds(metrics) for _, metrics in self.results.epochs[first:])

    def _finished(self, time: float) -> list[str]:
        return [_line("Finished", time, outcome="done", cause="imported", code=None)] if self.ended else []


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _line(event: str, time: float, **fields: Any) -> str:
    """An event's line, as `events.line` writes it, at a hundredth of the cost."""
    at = datetime.fromtimestamp(min(time, 2.5e11), UTC)
    return json.dumps({"event": event, "time": iso(at), **fields}) + "\n"


_CLAIMS = (  # what names of directories say, and the key of it in the configuration
    (re.compile(r"(?:^|_)K(\d+)(?=_|$)"), "layer.K", int),
    (re.compile(r"(?:^|_)br(\d{4})(?=_|$)"), "branching.ratio", lambda digits: int(digits) / 1000),
    (re.compile(r"(?:^|_)s(\d+)$"), "training.seed", int),
)


def contradictions(source: Path, values: dict[str, Any]) -> list[SkippedLine]:
    """Where the directory's name says something else than args.txt, which is believed."""
    found = []
    for pattern, key, read in _CLAIMS:
        match = pattern.search(source.name)
        if match and key in values and values[key] != read(match[1][:9]):
            name, said = BY_KEY[key].name, escaped(values[key])
            found.append(
                SkippedLine(
                    ARGS, 0, f"{name} is {said}, whatever the name of the directory says ({match[0].strip('_')})"
                )
            )
    return found
