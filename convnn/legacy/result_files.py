"""The text files that the original tool left in a result directory, read as far as they can be read.

Nothing here raises: what cannot be read is passed over, and said with file and line.
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

_NUMBER = r"([-+]?(?:\d{1,300}(?:\.\d*)?(?:[eE][-+]?\d{1,4})?|nan|inf))"
_ACCURACY = rf"Top1: {_NUMBER}%, Top5: {_NUMBER}%"
_HEAD = r"\[Epoch\s+(\d{1,9})\s*\]"
WITH_TEST = re.compile(
    rf"{_HEAD} Time: {_NUMBER}s \| \[Train\] Loss: {_NUMBER} Accuracy: {_ACCURACY} "
    rf"\| \[Test\] Loss: {_NUMBER} Accuracy: {_ACCURACY}"
)
TEST_ACCURACY_ONLY = re.compile(rf"{_HEAD} Time: {_NUMBER}s, Loss: {_NUMBER} \| Accuracy: {_ACCURACY}")
FORMATS = (
    (
        WITH_TEST,
        ("train_s", "train_loss", "train_top1", "train_top5", "test_loss", "test_top1", "test_top5"),
    ),
    (TEST_ACCURACY_ONLY, ("train_s", "train_loss", "test_top1", "test_top5")),
)
_FIGURE = re.compile(rf"(Time): {_NUMBER}s|(Loss): {_NUMBER}(?=[^\d.eE])|(Top1|Top5): {_NUMBER}%")
_COMPLEXITY = re.compile(rf"Model Complexity.*?GFLOPs: {_NUMBER}, Trainable Parameters: {_NUMBER} M")
_AVERAGE = re.compile(rf"Average Epoch Time: {_NUMBER}s")
_BEST = re.compile(rf"Max Accuracy: {_NUMBER}% at Epoch (\d{{1,9}})")


class SkippedLine(NamedTuple):
    """A line, or a part of one, that was passed over (line 0: the file as a whole)."""

    file: str
    line: int
    why: str


@dataclass
class Arguments:
    """What args.txt says: options by key, the rest by name."""

    values: dict[str, Any] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)  # num_classes, img_size and the like
    unknown: dict[str, str] = field(default_factory=dict)  # as written
    passed: list[SkippedLine] = field(default_factory=list)


@dataclass
class Results:
    """What train_eval_results.txt says: (epoch, metrics) in order, and the figures of its first and last lines."""

    epochs: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    published: dict[str, Any] = field(default_factory=dict)  # gflops, trainable_parameters, average_epoch_s, best
    ended: bool = False  # the last lines are there: the run was not cut short
    passed: list[SkippedLine] = field(default_factory=list)


FOUND = ("num_classes", "img_size", "total_params", "trainable_params")


def parse_arguments(data: bytes) -> Arguments:
    """The configuration in the bytes of args.txt: one `name: value` a line, values as Python prints them."""
    result = Arguments()
    for number, line in enumerate(_lines(data), 1):
        name, colon, text = line.partition(":")
        name, text = name.strip(), text.strip()
        if not line.strip():
            continue
        if not colon or not re.fullmatch(r"\w{1,80}", name):
            result.passed.append(SkippedLine(ARGS, number, f"no `name: value`: {line[:80]}"))
        elif name in FOUND:
            result.found[name] = _literal(text)
        elif (option := BY_NAME.get(name)) is None:
            result.unknown[name] = text
            result.passed.append(SkippedLine(ARGS, number, f"{name} is no option; kept as it is"))
        else:
            result.values[option.key] = _value(option, text)
    if data and not data.endswith(b"\n"):
        result.passed.append(SkippedLine(ARGS, data.count(b"\n") + 1, "the last line has no end: it may be cut short"))
    return result


def _value(option: Option, text: str) -> Any:
    """A value as the option's type where it is one, else as it can be read."""
    if option.optional and text == "None":
        return None
    if option.kind in ("text", "choice"):  # printed without quotes, so that ./Data or 1 is text too
        return _literal(text) if text[:1] in "'\"" else text
    value = _literal(text)
    return float(value) if option.kind == "float" and type(value) is int and abs(value) < 2**53 else value


@functools.lru_cache(1000)
def _literal(text: str) -> Any:
    """The plain value that a text spells in Python; the text where it spells none."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {"nan": math.nan, "inf": math.inf}.get(text, text)
    plain = isinstance(value, bool | int | float | str) or value is None
    plain = plain or (isinstance(value, tuple | list) and all(isinstance(item, int | float | str) for item in value))
    return value if plain and not (isinstance(value, int) and abs(value) >= 2**63) else text


def parse_results(data: bytes) -> Results:
    """The curves in the bytes of train_eval_results.txt, in each of the formats it was ever written in."""
    result = Results()
    lines = _lines(data)
    whole = data.endswith(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if line.startswith("[Epoch"):
            _epoch(result, number, line, last=number == len(lines) and not whole)
        elif match := _COMPLEXITY.match(line):
            result.published |= {"gflops": float(match[1]), "trainable_parameters": float(match[2]) * 1e6}
            _rest(result, number, line, match)
        elif match := _AVERAGE.match(line):
            result.published["average_epoch_s"], result.ended = float(match[1]), True
            _rest(result, number, line, match)
        elif match := _BEST.match(line):
            result.published["best"], result.ended = {"value": float(match[1]), "epoch": int(match[2])}, True
            _rest(result, number, line, match)
        else:
            result.passed.append(SkippedLine(RESULTS, number, f"not understood: {line[:80]}"))
    if (best := result.published.get("best")) and not any(
        epoch == best["epoch"] and metrics.get("test_top1") == best["value"] for epoch, metrics in result.epochs
    ):
        why = f"Max Accuracy {best['value']}% at Epoch {best['epoch']} is not what the lines of the epochs say"
        result.passed.append(SkippedLine(RESULTS, 0, why))
        if not whole:  # the number of the epoch may be cut, too
            del result.published["best"]
    return result


def _rest(result: Results, number: int, line: str, match: re.Match[str]) -> None:
    if rest := line[match.end() :].strip():
        result.passed.append(SkippedLine(RESULTS, number, f"behind the figures: {rest[:80]}"))


def _lines(data: bytes) -> list[str]:
    return data.decode("utf-8-sig", "replace").replace("\r\n", "\n").split("\n")


def _epoch(result: Results, number: int, line: str, *, last: bool) -> None:
    """Add what a line tells of its epoch."""
    for pattern, names in FORMATS:
        if match := pattern.match(line):
            _rest(result, number, line, match)
            return _add(result, number, int(match[1]), dict(zip(names, map(float, match.groups()[1:]), strict=True)))
    head = re.match(_HEAD, line)
    if last or head is None:
        return result.passed.append(SkippedLine(RESULTS, number, f"cut short or not understood: {line[:80]}"))
    metrics = _readable(line[head.end() :])
    why = f"only {', '.join(metrics) or 'nothing'} could be read: {line[:80]}"
    result.passed.append(SkippedLine(RESULTS, number, why))
    return _add(result, number, int(head[1]), metrics) if metrics else None


def _readable(line: str) -> dict[str, float]:
    """The figures of a damaged line, each where its part of the line and its unit say what it is."""
    metrics: dict[str, float] = {}
    split_known = "[Train]" in line or "[Test]" in line
    for match in _FIGURE.finditer(line):
        word, value = next((match[i], float(match[i + 1])) for i in (1, 3, 5) if match[i])
        before = line[: match.start()]
        split = "test" if "[Test]" in before or (not split_known and word != "Loss") else "train"
        metrics.setdefault("train_s" if word == "Time" else f"{split}_{word.lower()}", value)
    return metrics


def _add(result: Results, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
    if result.epochs and epoch <= result.epochs[-1][0]:
        kept = [told for told in result.epochs if told[0] < epoch]
        dropped = len(result.epochs) - len(kept)
        why = f"epoch {epoch} is told again: {dropped} earlier epochs from there on are passed over"
        result.passed.append(SkippedLine(RESULTS, number, why))
        result.epochs = kept
    result.epochs.append((epoch, dict(metrics)))
