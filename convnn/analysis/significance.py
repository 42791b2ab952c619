"""What the difference between two groups of repeats comes to, in numbers and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convnn.analysis.fields import Field
from convnn.analysis.repeats import NoiseFloor, RunGroup, noise_floor_difference
from convnn.analysis.statistics import LEVEL, MeanDifference, MeanEstimate, holm, pooled, runs_needed, welch
from convnn.config.recorded import UNKNOWN
from convnn.metrics import format_value, metric_info
from convnn.runs.summary import json_value


@dataclass(frozen=True)
class GroupComparison:
    """A group held against the first one; `difference` is None where nothing can be claimed."""

    difference: MeanDifference | None
    p: float | None  # adjusted where there are several
    noise: NoiseFloor | None  # what it was held against, unless both are groups of repeats
    needed: int | None  # runs per group that would settle the effect
    words: str

    @property
    def distinguishable(self) -> bool:
        return self.p is not None and self.p < LEVEL

    def json(self) -> dict[str, Any]:
        if self.difference is None:
            return {"distinguishable": None, "words": self.words}
        d = self.difference
        return {
            "difference": json_value(d.value),
            "low": json_value(d.low),
            "high": json_value(d.high),
            "p": self.p,
            "distinguishable": self.distinguishable,
            "needed": self.needed,
            "noise": self.noise and {"sd": self.noise.sd, "source": self.noise.source},
            "words": self.words,
        }


def compare_groups(
    groups: Sequence[RunGroup], figure: Field, effect: float, noise: NoiseFloor | None
) -> list[GroupComparison]:
    """Every group but the first held against the first; more than one comparison is Holm-adjusted.

    `noise` is that of the first group's data set.
    """
    spreads = [group.estimate for group in groups]
    alike = [_one_data_set(groups[0], group) for group in groups[1:]]
    found = [
        _difference(spread, spreads[0], noise if same else None)
        for spread, same in zip(spreads[1:], alike, strict=True)
    ]
    ps = holm([difference.p for difference in found if difference is not None])
    adjusted = iter(ps)
    result = []
    for at, difference in enumerate(found):
        spread, first = spreads[at + 1], spreads[0]
        if difference is None or spread is None or first is None:
            result.append(GroupComparison(None, None, None, None, _nothing(spread, first, alike[at])))
            continue
        alone = spread.sd is None or first.sd is None
        sd = _deviation(spread, first, noise if alone else None)
        fewest = runs_needed(sd, effect) if sd is not None else None
        held = noise if alone else None
        p = next(adjusted)
        words = _words(difference, p, held, fewest, figure, effect, several=len(ps) > 1)
        result.append(GroupComparison(difference, p, held, fewest, words))
    return result


def _difference(
    spread: MeanEstimate | None, first: MeanEstimate | None, noise: NoiseFloor | None
) -> MeanDifference | None:
    if spread is None or first is None:
        return None
    if spread.sd is not None and first.sd is not None:
        return welch(spread, first)
    return noise_floor_difference(spread, first, noise) if noise else None


def _deviation(spread: MeanEstimate, first: MeanEstimate, noise: NoiseFloor | None) -> float | None:
    if noise is not None:
        return noise.sd
    found = pooled([spread, first])
    return found[0] if found else None


def _one_data_set(*groups: RunGroup) -> bool:
    found = {run.config.value("data.dataset") for group in groups for run in group.runs}
    return len(found) == 1 and UNKNOWN not in found


def _nothing(spread: MeanEstimate | None, first: MeanEstimate | None, alike: bool) -> str:
    if spread is None or first is None:
        return "no figure to compare"
    if not alike:
        return "nothing is claimed: single runs that are not known to be of one data set"
    return "nothing is claimed: single runs, and no repeats on this data set to tell how far chance goes"


def _words(
    d: MeanDifference,
    p: float,
    noise: NoiseFloor | None,
    fewest: int | None,
    figure: Field,
    effect: float,
    *,
    several: bool,
) -> str:
    metric = figure.format_as
    unit = " points" if metric_info(metric).unit == "%" else ""
    said = f"{signed(d.value, metric)}{unit}, 95 % interval {signed(d.low, metric)} to {signed(d.high, metric)}"
    adjusted = f" (p {'< 0.001' if p < 0.001 else f'= {p:.2g}'}{', Holm-adjusted' if several else ''})"
    said += ": distinguishable" + adjusted if p < LEVEL else ": not distinguishable" + adjusted
    if noise is not None:
        said += f"; single runs, held against a noise floor of {format_value(noise.sd, metric)}{unit}"
    if p >= LEVEL:
        size = f"{effect:g} point{'' if effect == 1 else 's'}" if unit else f"{effect:g}"
        settled = f"{fewest} runs per group would settle" if fewest else "no number of runs in reason would settle"
        said += f"; {settled} a difference of {size}"
    return said


def signed(value: float, metric: str) -> str:
    """A difference with its sign, +0.00 and -0.00 being one."""
    text = format_value(value, metric)
    if not text.strip("-0."):
        return text.lstrip("-")
    return text if text.startswith("-") else f"+{text}"
