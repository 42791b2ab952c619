"""The axes of a sweep: lists, ranges, intervals and zipped options of a file, lists on a command line, as points."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from convnn.config.command_line import command_flag, command_flag_problem
from convnn.config.options import BY_KEY, BY_NAME, MAX_INT, SECTIONS, Option, Value, nearest_option
from convnn.config.recorded import SEED
from convnn.errors import Problem, UserError, did_you_mean

MAX_POINTS = 100_000  # of an axis, and cells of a sweep
RANGE_KEYS = ("from", "to", "step", "steps", "log")
INTERVAL_KEYS = ("min", "max", "log")
SIGNIFICANT_DIGITS = 4  # of a number that a search draws
LABEL = "label"
MAX_LABEL = 80  # characters
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_TEXT_RANGE = re.compile(r"([+-]?\d{1,18})\.\.([+-]?\d{1,18})")


@dataclass(frozen=True)
class Point:
    """A value of an axis: the options and variables that it sets, and its label in tables and names."""

    label: str
    options: Mapping[str, Value]  # by key
    variables: Mapping[str, int | float | str]


@dataclass(frozen=True)
class Interval:
    """The numbers between two bounds, both included, that a search draws from."""

    low: float
    high: float
    log: bool  # draws are uniform in the logarithm
    is_whole: bool


@dataclass(frozen=True)
class Axis:
    """A key of `axes` and its points: an option, a variable, or several options that change together."""

    name: str
    points: Sequence[Point]  # of an interval its bounds
    interval: Interval | None = None
    range: Mapping[str, Any] | None = None  # the table that the points are from, which have an order then

    @property
    def option_keys(self) -> set[str]:
        return {key for point in self.points for key in point.options}

    @property
    def is_variable(self) -> bool:
        return not self.option_keys

    @property
    def is_categorical(self) -> bool:
        """Whether its points have no order for a search."""
        return self.interval is None and self.range is None

    def point(self, number: float) -> Point:
        """Return the point of a number of its interval."""
        assert self.interval is not None
        value = round(number) if self.interval.is_whole else float(f"{number:.{SIGNIFICANT_DIGITS}g}")
        return _number_point(self.name, min(max(value, self.interval.low), self.interval.high))


def find_option(key: str) -> Option | None:
    """Return the option of a key `layer.K` or of a flag's name `K`."""
    return BY_KEY.get(key) or BY_NAME.get(key)


def unknown_option(key: str) -> Problem:
    """Return the problem that there is no option of this name, with the nearest that there is."""
    if (flag := command_flag(key)) is not None:
        return command_flag_problem(key, flag)
    nearest_key = nearest_option(key.rpartition(".")[2])
    guess = did_you_mean(key, [*BY_NAME, *BY_KEY, *SECTIONS])
    if nearest_key is not None:
        guess = f". Did you mean {nearest_key}?"
    return Problem(f"there is no option {key}{guess}", key=key, fix="use the name of an option, as K or layer.K")


def sweepable_option(key: str) -> Option:
    """Return the option of a key that cells may differ in. Raises UserError with the nearest known one."""
    option = find_option(key)
    if option is None:
        raise UserError(unknown_option(key))
    if option.section == "output" or option.key == "run.name":
        fix = "remove it"
        if option.key == "run.name":
            fix += ": `name` is the template of the names"
        raise UserError(f"{option.key} cannot be set in a sweep: it belongs to one run", key=key, fix=fix)
    return option


def checked_value(option: Option, value: Any) -> Value:
    """Return a value as the schema holds it. Raises UserError where that does not allow it."""
    if isinstance(value, str) and value.lstrip().startswith("="):
        message = f"{option.key} is {value!r}: arithmetic is only possible in [[derive]]"
        fix = f'write [[derive]] and set = {{ {option.key} = "{value}" }}'
        raise UserError(message, key=option.key, value=value, fix=fix)
    try:
        if option.kind == "int" and isinstance(value, float) and value.is_integer() and abs(value) < MAX_INT:
            value = int(value)
        return option.validate(value)
    except ValueError:
        raise UserError(option.problem(value)) from None


def parse_axis(name: str, value: Any) -> Axis:
    """Return the axis of a key of `axes` and its value: a list, a range, or a list of tables of options.

    Raises UserError with every problem.
    """
    if isinstance(value, dict):
        if value.keys() & {"min", "max"}:
            return _interval_axis(name, value)
        return replace(parse_axis(name, list(_range(name, value))), range=value)
    if not isinstance(value, list):
        message = f"{name} is one value: an axis is a list or a range"
        raise UserError(message, key=name, value=value, fix=f"write {name} = [...], or set it in [set]")
    if not value:
        raise UserError(f"{name} is an empty list", key=name, fix="give at least one value, or remove it")
    if len(value) > MAX_POINTS:
        raise UserError(_too_many(name, len(value)))
    if any(isinstance(item, dict) for item in value):
        return _zipped_axis(name, value)
    option = find_option(name)
    if option is None:
        return _variable_axis(name, value)
    return option_axis(sweepable_option(name), value)


def option_axis(option: Option, values: Sequence[Any]) -> Axis:
    """Return the axis of an option. Raises UserError for values that it cannot have, or that are there twice."""
    if option.key == SEED:
        message = "seeds are no axis: they repeat every cell"
        raise UserError(message, key=SEED, fix="write seeds = [0, 1, 2], or seeds = 3")
    points: dict[Value, Point] = {}
    problems: list[Problem] = []
    for item in values:
        try:
            value = checked_value(option, item)
        except UserError as error:
            problems += error.problems
            continue
        if value in points:
            problems.append(_twice(option.name, option.text(value)))
        points[value] = Point(option.text(value), {option.key: value}, {})
    if problems:
        raise UserError(problems)
    return Axis(option.name, list(points.values()))


def parse_values(option: Option, text: str | bool) -> list[Value]:
    """Return the values of a flag of a sweep: "1,4,9" or "1..12"; a switch is a bool. Raises UserError.

    An option that takes text or a list of words has one value.
    """
    if isinstance(text, bool):
        return [text]
    values: list[Any] = []
    parts = [text] if option.kind in ("words", "text") else text.split(",")
    for part in parts:
        bounds = None
        if option.kind in ("int", "float"):
            bounds = _TEXT_RANGE.fullmatch(part.strip())
        try:
            if bounds is None:
                values.append(option.parse(part.strip()))
            else:
                values += _range(option.name, {"from": int(bounds[1]), "to": int(bounds[2]), "step": 1})
        except ValueError:
            raise UserError(option.problem(part.strip())) from None
        if len(values) > MAX_POINTS:
            raise UserError(_too_many(option.name, len(values)))
    return [checked_value(option, value) for value in values]


def _interval_axis(name: str, table: Mapping[str, Any]) -> Axis:
    """Return the axis of `{ min = 1e-4, max = 1e-1, log = true }`. Raises UserError with every problem."""
    fix = f"write {name} = {{ min = 1, max = 9 }}, or log = true beside them"
    problems = []
    for key in table:
        if key not in INTERVAL_KEYS:
            message = f"there is no key {key} beside min and max{did_you_mean(key, INTERVAL_KEYS)}"
            problems.append(Problem(message, key=f"{name}.{key}", value=table[key], fix=fix))
    bounds = [table.get("min"), table.get("max")]
    if not all(_is_variable_value(bound) and not isinstance(bound, str) for bound in bounds):
        problems.append(Problem(f"{name}: min and max must be numbers", key=name, value=bounds, fix=fix))
    elif not bounds[0] < bounds[1]:  # type: ignore[operator]
        problems.append(Problem(f"{name}: min must be below max", key=name, value=bounds, fix=fix))
    is_log = table.get("log", False)
    if not isinstance(is_log, bool):
        problems.append(Problem(f"{name}.log must be true or false", key=f"{name}.log", value=is_log, fix="write true"))
    elif not problems and is_log and bounds[0] <= 0:  # type: ignore[operator]
        problems.append(Problem(f"{name}: log = true needs a min above 0", key=f"{name}.min", value=bounds[0], fix=fix))
    option = find_option(name)
    if option is not None and option.kind not in ("int", "float"):
        problems.append(Problem(f"{name} is no number", key=name, fix=f"write {name} = [...] with its values"))
    elif option is None and not _VARIABLE.fullmatch(name):
        problems.append(unknown_option(name))
    if problems:
        raise UserError(problems)
    if option is not None:
        sweepable_option(name)
        bounds = [checked_value(option, bound) for bound in bounds]
    low, high = bounds
    assert isinstance(low, int | float) and isinstance(high, int | float)
    is_whole = isinstance(low, int) and isinstance(high, int)
    if option is not None:
        is_whole = option.kind == "int"
    points = [_number_point(name, bound) for bound in (low, high)]
    interval = Interval(low, high, is_log, is_whole)
    return Axis(name if option is None else option.name, points, interval)


def _number_point(name: str, value: float) -> Point:
    option = find_option(name)
    if option is None:
        return Point(f"{value:.12g}", {}, {name: value})
    return Point(option.text(value), {option.key: checked_value(option, value)}, {})


def _variable_axis(name: str, values: Sequence[Any]) -> Axis:
    if not _VARIABLE.fullmatch(name):
        raise UserError(unknown_option(name))
    points: dict[str, Point] = {}
    for value in values:
        if not _is_variable_value(value):
            message = f"{name} is no option, and as a variable it takes numbers and text{did_you_mean(name, BY_NAME)}"
            raise UserError(message, key=name, value=value, fix="use the name of an option, or numbers")
        label = value if isinstance(value, str) else f"{value:.12g}"
        if label in points:
            raise UserError(_twice(name, label))
        points[label] = Point(label, {}, {name: value})
    return Axis(name, list(points.values()))


def _is_variable_value(value: Any) -> bool:
    if isinstance(value, str):
        return _is_label(value)
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_label(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_LABEL and value.isprintable()


def _zipped_axis(name: str, rows: Sequence[Any]) -> Axis:
    """Return the axis whose points set several options each; its label is a variable of the axis' name."""
    problems: list[Problem] = []
    if find_option(name) is not None:
        message = f"{name} is an option, so its values are no tables"
        raise UserError(message, key=name, fix="give the tables a name of their own, such as features")
    if not _VARIABLE.fullmatch(name):
        raise UserError(unknown_option(name))
    points: dict[str, Point] = {}
    for row in rows:
        if not isinstance(row, dict):
            problems.append(Problem(f"{name} mixes tables and values", key=name, value=row, fix="write tables alone"))
            continue
        options: dict[str, Value] = {}
        for key, value in flat_items({key: value for key, value in row.items() if key != LABEL}):
            try:
                option = sweepable_option(key)
                options[option.key] = checked_value(option, value)
            except UserError as error:
                problems += error.problems
        label = row.get(LABEL, "_".join(BY_KEY[key].text(value) for key, value in options.items()))
        if not _is_label(label):
            message = f"{name}: a label is a short text on one line"
            problems.append(Problem(message, key=f"{name}.{LABEL}", value=label, fix="quote it"))
        elif label in points:
            problems.append(_twice(name, label))
        elif not options:
            problems.append(Problem(f"{name}: {label!r} sets no option", key=name, value=label, fix="remove it"))
        else:
            points[label] = Point(label, options, {name: label})
    if problems:
        raise UserError(problems)
    return Axis(name, list(points.values()))


def flat_items(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a table of options: `layer.K = 9` lies in a table of its own in TOML."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", item) for name, item in value.items())
        else:
            yield key, value


def _range(name: str, table: Mapping[str, Any]) -> Iterator[int | float]:
    """Yield the values of a range, both ends included; they are counted before the first. Raises UserError."""
    problems: list[Problem] = []

    def refuse(key: str, message: str, fix: str) -> None:
        problems.append(Problem(message, key=f"{name}.{key}", value=table[key], fix=fix))

    for key in table:
        if key not in RANGE_KEYS:
            guess = did_you_mean(key, RANGE_KEYS)
            refuse(key, f"there is no key {key} in a range{guess}", "write from, to, and step or steps")
    numbers = {key: table[key] for key in ("from", "to", "step", "steps") if key in table}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            refuse(key, f"{name}.{key} must be a number", "write 1, or 0.5")
    if table.get("log") and "steps" not in table:
        refuse("log", f"{name}: log needs steps", "write steps = 5")
    if not isinstance(table.get("log", False), bool):
        refuse("log", f"{name}.log must be true or false", "write true")
    if not problems and ("from" not in table or "to" not in table or {"step", "steps"} <= table.keys()):
        fix = f"write {name} = {{ from = 0, to = 1, step = 0.25 }}, or steps = 5"
        problems.append(Problem(f"{name}: a range has from, to, and at most one of step and steps", key=name, fix=fix))
    if problems:
        raise UserError(problems)
    first, last = numbers["from"], numbers["to"]
    if "steps" in table:
        yield from _divided(name, first, last, numbers["steps"], is_log=table.get("log", False))
    else:
        yield from _stepped(name, first, last, numbers.get("step", 1))


def _stepped(name: str, first: float, last: float, step: float) -> Iterator[int | float]:
    if step == 0 or (last - first) / step < 0:
        fix = "give a step above 0, or a negative one where `to` is below `from`"
        raise UserError(f"{name}: a step of {step:g} never reaches {last:g}", key=f"{name}.step", fix=fix)
    steps = (last - first) / step
    if steps >= MAX_POINTS:
        raise UserError(_too_many(name, steps))
    count = round(steps)
    if abs(steps - count) > 1e-6:
        reached = first + math.floor(steps) * step
        message = f"{name}: steps of {step:g} from {first:g} do not end at {last:g}"
        raise UserError(message, key=f"{name}.to", value=last, fix=f"write to = {reached:g}, or steps")
    for index in range(count + 1):
        value = first + index * step
        yield value if isinstance(value, int) else _rounded(value)


def _divided(name: str, first: float, last: float, count: float, *, is_log: bool) -> Iterator[int | float]:
    if count != int(count) or count < 2:
        message = f"{name}.steps is {count:g}: must be a whole number of at least 2"
        raise UserError(message, key=f"{name}.steps", value=count, fix="write steps = 5, for example")
    if count > MAX_POINTS:
        raise UserError(_too_many(name, count))
    if is_log and (first <= 0 or last <= 0):
        message = f"{name}: a range with log = true lies above 0"
        raise UserError(message, key=name, value=min(first, last), fix="write from and to above 0")
    for index in range(int(count)):
        share = index / (count - 1)
        if index == count - 1:
            yield last
        elif is_log:
            yield _rounded(first * (last / first) ** share)
        else:
            yield _rounded(first + share * (last - first))


def _rounded(value: float) -> float:
    """Return a number without the error of its sum: 0.30000000000000004 is 0.3."""
    return float(f"{value:.12g}")


def _too_many(name: str, count: float) -> Problem:
    message = f"{name} has {count:,.0f} values: at most {MAX_POINTS:,} are planned"
    return Problem(message, key=name, fix="give fewer values")


def _twice(name: str, label: str) -> Problem:
    return Problem(f"{name} has {label} twice", key=name, value=label, fix="write it once")
