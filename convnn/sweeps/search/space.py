"""The space of a search: what an axis is to Optuna, and the point of a value that it proposes.

An interval is a range of numbers, the points of a range are numbered in their order, and those of a list are choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

from convnn.config.options import BY_KEY
from convnn.sweeps.axes import Axis, Point, find_option
from convnn.text import joined, plural

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Parameter = int | float | str
MAX_NAMES = 8  # choices that a line names


def describe(axis: Axis) -> str:
    """Return the values of an axis in words: "0.0001 to 0.1, logarithmic", "1 to 9 (9 values)", "Col, Loc_Col"."""
    labels = [point.label for point in axis.points]
    if axis.interval is not None:
        scale = ", logarithmic" if axis.interval.log else ""
        return f"{labels[0]} to {labels[1]}{scale}"
    if not axis.is_categorical:
        return f"{labels[0]} to {labels[-1]} ({plural(len(labels), 'value')})"
    return joined(labels, MAX_NAMES)


def distribution(axis: Axis) -> BaseDistribution:
    """Return what Optuna draws the parameter of an axis from."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    interval = axis.interval
    if interval is not None and interval.is_whole:
        return IntDistribution(int(interval.low), int(interval.high), log=interval.log)
    if interval is not None:
        return FloatDistribution(interval.low, interval.high, log=interval.log)
    if axis.is_categorical:
        return CategoricalDistribution([point.label for point in axis.points])
    return IntDistribution(0, len(axis.points) - 1)


def point_of(axis: Axis, parameter: Parameter) -> Point:
    if axis.interval is not None:
        return axis.point(float(parameter))
    if axis.is_categorical:
        return next(point for point in axis.points if point.label == parameter)
    return axis.points[int(parameter)]


def parameter_of(axis: Axis, label: str) -> Parameter:
    """Return the parameter of a point by its label. Raises ValueError where the axis has no such point."""
    labels = [point.label for point in axis.points]
    if axis.interval is None:
        index = labels.index(label)
        return label if axis.is_categorical else index
    option = find_option(axis.name)
    value = float(label) if option is None else BY_KEY[option.key].parse(label)
    if not isinstance(value, int | float):
        raise ValueError(label)
    label_value, value = value, min(max(value, axis.interval.low), axis.interval.high)
    if not math.isclose(label_value, value, rel_tol=1e-9):  # a label has fewer digits than a bound
        raise ValueError(label)
    return int(value) if axis.interval.is_whole else float(value)


def parameters_of(axes: Sequence[Axis], labels: Mapping[str, str]) -> dict[str, Parameter] | None:
    """Return the parameters of a trial by the label of its point of each axis; None where it is of another space."""
    try:
        return {axis.name: parameter_of(axis, labels[axis.name]) for axis in axes}
    except (KeyError, ValueError):
        return None


def random_point(axis: Axis, random: Random) -> Point:
    """Return a point at random, as likely as any other."""
    interval = axis.interval
    if interval is None:
        return random.choice(axis.points)
    if interval.log:
        return axis.point(math.exp(random.uniform(math.log(interval.low), math.log(interval.high))))
    margin = 0.5 if interval.is_whole else 0.0
    return axis.point(random.uniform(interval.low - margin, interval.high + margin))
