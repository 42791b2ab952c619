"""The text files that the original tool left in a result directory, read as far as they can be read.

Nothing here raises: what cannot be read is skipped and reported with its file and line.
"""

from __future__ import annotations

import ast
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from convnn.config.options import BY_NAME, Option
from convnn.runs.text_files import ARGS, RESULTS
from convnn.text import plural

_NUMBER = r"([-+]?(?:\d{1,300}(?:\.\d*)?(?:[eE][-+]?\d{1,4})?|nan|inf))"
_ACCURACY = rf"Top1: {_NUMBER}%, Top5: {_NUMBER}%"
_EPOCH = r"\[Epoch\s+(\d{1,9})\s*\]"
FORMATS = (  # of the line of an epoch, and the metrics of its numbers
    (
        re.compile(
            rf"{_EPOCH} Time: {_NUMBER}s \| \[Train\] Loss: {_NUMBER} Accuracy: {_ACCURACY} "
            rf"\| \[Test\] Loss: {_NUMBER} Accuracy: {_ACCURACY}"
        ),
        ("train_s", "train_loss", "train_top1", "train_top5", "test_loss", "test_top1", "test_top5"),
    ),
    (
        re.compile(rf"{_EPOCH} Time: {_NUMBER}s, Loss: {_NUMBER} \| Accuracy: {_ACCURACY}"),
        ("train_s", "train_loss", "test_top1", "test_top5"),
    ),
)
_VALUE = re.compile(rf"(Time): {_NUMBER}s|(Loss): {_NUMBER}(?=[^\d.eE])|(Top1|Top5): {_NUMBER}%")
_COMPLEXITY = re.compile(rf"Model Complexity.*?GFLOPs: {_NUMBER}, Trainable Parameters: {_NUMBER} M")
_AVERAGE = re.compile(rf"Average Epoch Time: {_NUMBER}s")
_BEST = re.compile(rf"Max Accuracy: {_NUMBER}% at Epoch (\d{{1,9}})")
SIZES = ("num_classes", "img_size", "total_params", "trainable_params")  # of data and model, in args.txt
MAX_QUOTED = 80  # characters of a line in a message


class SkippedLine(NamedTuple):
    """A line, or a part of one, that was skipped (line 0: the file as a whole)."""

    file: str
    line: int
    why: str


@dataclass
class Arguments:
    """The contents of args.txt: options by key, and the rest by name."""

    values: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)  # by the names in SIZES
    unknown: dict[str, str] = field(default_factory=dict)  # as written
    skipped: list[SkippedLine] = field(default_factory=list)


@dataclass
class Results:
    """The contents of train_eval_results.txt: (epoch, metrics) in order, and the values of its first and last lines."""

    epochs: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    published: dict[str, Any] = field(default_factory=dict)  # gflops, trainable_parameters, average_epoch_s, best
    ended: bool = False  # the last lines are there: the run was not cut short
    skipped: list[SkippedLine] = field(default_factory=list)

    def skip(self, line_number: int, why: str) -> None:
        """Report a skipped line, or (0) something about the whole file."""
        self.skipped.append(SkippedLine(RESULTS, line_number, why))


def parse_arguments(data: bytes) -> Arguments:
    """Return the configuration in the bytes of args.txt: `name: value` per line, values as Python prints them."""
    arguments = Arguments()

    def skip(line_number: int, why: str) -> None:
        arguments.skipped.append(SkippedLine(ARGS, line_number, why))

    for line_number, line in enumerate(_lines(data), 1):
        if not line.strip():
            continue
        name, colon, text = (part.strip() for part in line.partition(":"))
        if not colon or not re.fullmatch(r"\w{1,80}", name):
            skip(line_number, f"not `name: value`: {line[:MAX_QUOTED]}")
        elif name in SIZES:
            arguments.sizes[name] = _literal(text)
        elif (option := BY_NAME.get(name)) is None:
            arguments.unknown[name] = text
            skip(line_number, f"{name} is not an option; kept as it is")
        else:
            arguments.values[option.key] = _parse_value(option, text)
    if data and not data.endswith(b"\n"):
        skip(data.count(b"\n") + 1, "the last line has no end: it may be cut short")
    return arguments


def _parse_value(option: Option, text: str) -> Any:
    """Return a value of the option's type if the text spells one, else whatever it spells."""
    if option.optional and text == "None":
        return None
    if option.kind in ("text", "choice"):  # printed without quotes, so that ./Data or 1 is text too
        return _literal(text) if text[:1] in "'\"" else text
    value = _literal(text)
    is_whole_float = option.kind == "float" and type(value) is int and abs(value) < 2**53
    return float(value) if is_whole_float else value


@functools.lru_cache(1000)
def _literal(text: str) -> Any:
    """Return the plain value that a text spells in Python; the text where it spells none."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {"nan": math.nan, "inf": math.inf}.get(text, text)
    if isinstance(value, int) and abs(value) >= 2**63:
        return text
    if isinstance(value, tuple | list):
        return value if all(isinstance(item, int | float | str) for item in value) else text
    return value if value is None or isinstance(value, bool | int | float | str) else text


def parse_results(data: bytes) -> Results:
    """Return the curves in the bytes of train_eval_results.txt, in each of the formats it was ever written in."""
    results = Results()
    lines = _lines(data)
    is_complete = data.endswith(b"\n")
    for line_number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if line.startswith("[Epoch"):
            _parse_epoch(results, line_number, line, is_cut=line_number == len(lines) and not is_complete)
        elif match := _COMPLEXITY.match(line):
            results.published |= {"gflops": float(match[1]), "trainable_parameters": float(match[2]) * 1e6}
            _skip_rest(results, line_number, line, match)
        elif match := _AVERAGE.match(line):
            results.published["average_epoch_s"], results.ended = float(match[1]), True
            _skip_rest(results, line_number, line, match)
        elif match := _BEST.match(line):
            results.published["best"], results.ended = {"value": float(match[1]), "epoch": int(match[2])}, True
            _skip_rest(results, line_number, line, match)
        else:
            results.skip(line_number, f"not understood: {line[:MAX_QUOTED]}")
    if "best" in results.published:
        _check_best(results, is_complete)
    return results


def _check_best(results: Results, is_complete: bool) -> None:
    """Report a best accuracy that no line of an epoch has."""
    value, epoch = results.published["best"]["value"], results.published["best"]["epoch"]
    if any(number == epoch and metrics.get("test_top1") == value for number, metrics in results.epochs):
        return
    results.skip(0, f"Max Accuracy {value}% at Epoch {epoch} contradicts the lines of the epochs")
    if not is_complete:  # the number of the epoch may be cut, too
        del results.published["best"]


def _skip_rest(results: Results, line_number: int, line: str, match: re.Match[str]) -> None:
    if rest := line[match.end() :].strip():
        results.skip(line_number, f"after the values: {rest[:MAX_QUOTED]}")


def _lines(data: bytes) -> list[str]:
    return data.decode("utf-8-sig", "replace").replace("\r\n", "\n").split("\n")


def _parse_epoch(results: Results, line_number: int, line: str, *, is_cut: bool) -> None:
    """Add the epoch of a line."""
    for pattern, names in FORMATS:
        if match := pattern.match(line):
            _skip_rest(results, line_number, line, match)
            values = map(float, match.groups()[1:])
            return _add_epoch(results, line_number, int(match[1]), dict(zip(names, values, strict=True)))
    head = re.match(_EPOCH, line)
    if is_cut or head is None:
        return results.skip(line_number, f"cut short or not understood: {line[:MAX_QUOTED]}")
    metrics = _readable_values(line[head.end() :])
    results.skip(line_number, f"only {', '.join(metrics) or 'nothing'} could be read: {line[:MAX_QUOTED]}")
    return _add_epoch(results, line_number, int(head[1]), metrics) if metrics else None


def _readable_values(line: str) -> dict[str, float]:
    """Return the metrics of a damaged line: those whose part of the line and unit say what they are."""
    metrics: dict[str, float] = {}
    has_splits = "[Train]" in line or "[Test]" in line
    for match in _VALUE.finditer(line):
        word, value = next((match[group], float(match[group + 1])) for group in (1, 3, 5) if match[group])
        is_test = "[Test]" in line[: match.start()] or (not has_splits and word != "Loss")
        split = "test" if is_test else "train"
        metrics.setdefault("train_s" if word == "Time" else f"{split}_{word.lower()}", value)
    return metrics


def _add_epoch(results: Results, line_number: int, epoch: int, metrics: Mapping[str, float]) -> None:
    """Add an epoch; one that is written again replaces those from there on."""
    if results.epochs and epoch <= results.epochs[-1][0]:
        earlier = [(number, values) for number, values in results.epochs if number < epoch]
        count = len(results.epochs) - len(earlier)
        results.skip(line_number, f"epoch {epoch} is written again: skipped {plural(count, 'earlier epoch')}")
        results.epochs = earlier
    results.epochs.append((epoch, dict(metrics)))
