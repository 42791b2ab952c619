"""What the difference between two groups of repeats is worth: a test, the runs needed, and both in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convnn.analysis.fields import Field
from convnn.analysis.repeats import NoiseFloor, RunGroup
from convnn.analysis.statistics import (
    ALPHA,
    CONFIDENCE_LEVEL,
    MeanDifference,
    difference_with_sd,
    holm,
    pooled_sd,
    runs_needed,
    welch,
)
from convnn.config.recorded import UNKNOWN
from convnn.metrics import format_value, metric_info
from convnn.runs.summary import json_value


@dataclass(frozen=True)
class GroupComparison:
    """A group compared with the first one; without a difference there is nothing to claim, and `text` says why."""

    text: str
    difference: MeanDifference | None = None  # group - first group
    adjusted_p: float | None = None  # by Holm's method
    noise_floor: NoiseFloor | None = None  # where one of the groups is a single run
    runs_needed: int | None = None  # per group, to detect the effect size

    @property
    def distinguishable(self) -> bool:
        return self.adjusted_p is not None and self.adjusted_p < ALPHA

    def json(self) -> dict[str, Any]:
        if self.difference is None:
            return {"distinguishable": None, "words": self.text}
        noise = self.noise_floor
        return {
            "difference": json_value(self.difference.value),
            "low": json_value(self.difference.low),
            "high": json_value(self.difference.high),
            "p": self.adjusted_p,
            "distinguishable": self.distinguishable,
            "needed": self.runs_needed,
            "noise": noise and {"sd": noise.sd, "source": noise.source},
            "words": self.text,
        }


def compare_groups(
    groups: Sequence[RunGroup], field: Field, effect_size: float, noise_floor: NoiseFloor | None
) -> list[GroupComparison]:
    """Compare every group but the first with the first; the p-values of several are adjusted by Holm's method.

    Two groups of repeats are compared by Welch's t-test, a single run by the noise floor, which is that of the first
    group's data set. `effect_size` has the unit of the field.
    """
    reference, *others = groups
    differences = [_difference(group, reference, noise_floor) for group in others]
    adjusted_ps = _adjusted_ps(differences)
    tests = sum(difference is not None for difference in differences)
    comparisons = []
    for group, difference, p in zip(others, differences, adjusted_ps, strict=True):
        if difference is None or p is None:
            comparisons.append(GroupComparison(_no_claim_text(group, reference)))
            continue
        noise = None if _are_repeats(group, reference) else noise_floor
        needed = _runs_needed(group, reference, noise, effect_size)
        text = _sentence(difference, p, noise, needed, field, effect_size, is_adjusted=tests > 1)
        comparisons.append(GroupComparison(text, difference, p, noise, needed))
    return comparisons


def _difference(group: RunGroup, reference: RunGroup, noise_floor: NoiseFloor | None) -> MeanDifference | None:
    """Return group - reference; None where nothing can be claimed."""
    a, b = group.estimate, reference.estimate
    if a is None or b is None:
        return None
    if _are_repeats(group, reference):
        return welch(a, b)
    if noise_floor is None or not _share_dataset(group, reference):
        return None
    return difference_with_sd(a, b, noise_floor.sd, noise_floor.df)


def _adjusted_ps(differences: Sequence[MeanDifference | None]) -> list[float | None]:
    adjusted = iter(holm([difference.p_value for difference in differences if difference]))
    return [next(adjusted) if difference else None for difference in differences]


def _no_claim_text(group: RunGroup, reference: RunGroup) -> str:
    if not group.values or not reference.values:
        return "no value to compare"
    if not _share_dataset(group, reference):
        return "not tested: single runs that are not known to be of one data set"
    return "not tested: single runs, and no repeats on this data set that show how far runs differ by chance"


def _runs_needed(group: RunGroup, reference: RunGroup, noise: NoiseFloor | None, effect_size: float) -> int | None:
    """Return the runs needed by the noise floor, or by the pooled deviation of two groups of repeats."""
    if noise is not None:
        return runs_needed(noise.sd, effect_size)
    pooled = pooled_sd(estimate for estimate in (group.estimate, reference.estimate) if estimate)
    return runs_needed(pooled[0], effect_size) if pooled else None


def _are_repeats(*groups: RunGroup) -> bool:
    return all(len(group.values) > 1 for group in groups)


def _share_dataset(*groups: RunGroup) -> bool:
    datasets = {run.config.value("data.dataset") for group in groups for run in group.runs}
    return len(datasets) == 1 and UNKNOWN not in datasets


def _sentence(
    difference: MeanDifference,
    p: float,
    noise_floor: NoiseFloor | None,
    needed: int | None,
    field: Field,
    effect_size: float,
    *,
    is_adjusted: bool,
) -> str:
    """Return "+0.86 points (best epoch), 95 % interval -1.22 to +2.94: not distinguishable (p = 0.22)" and the like."""
    metric = field.format_as
    unit = " points" if metric_info(metric).unit == "%" else ""
    interval = f"{CONFIDENCE_LEVEL:.0%} interval {signed(difference.low, metric)} to {signed(difference.high, metric)}"
    outcome = "distinguishable" if p < ALPHA else "not distinguishable"
    p_text = "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
    if is_adjusted:
        p_text += ", Holm-adjusted"
    value = f"{signed(difference.value, metric)}{unit} ({_point(field)})"
    parts = [f"{value}, {interval.replace('%', ' %')}: {outcome} ({p_text})"]
    if noise_floor is not None:
        sd = f"{format_value(noise_floor.sd, metric)}{unit}"
        parts.append(f"a single run, compared with a run-to-run standard deviation of {sd}")
    if p >= ALPHA:
        parts.append(_runs_needed_text(needed, effect_size, unit))
    return "; ".join(parts)


def _runs_needed_text(needed: int | None, effect_size: float, unit: str) -> str:
    size = f"{effect_size:g}{unit}"
    if unit and effect_size == 1:
        size = size.removesuffix("s")
    if needed is None:
        return f"no feasible number of runs detects {size}"
    return f"about {needed} runs per group are needed to detect {size}"


def _point(field: Field) -> str:
    """Return which value of a run the groups are compared by: "best epoch" or "test_loss, last epoch"."""
    if field.key == "best":
        return "best epoch"
    if field.metric is None:
        return field.key
    return f"{field.metric}, {'best' if field.best else 'last'} epoch"


def signed(value: float, metric: str) -> str:
    """Return a difference with its sign and the digits of its metric; zero has no sign."""
    text = format_value(value, metric)
    if not text.strip("-0."):
        return text.lstrip("-")
    return text if text.startswith("-") else f"+{text}"
