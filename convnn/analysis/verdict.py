"""What the difference between two groups of repeats is worth: a test, the runs needed, and both in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convnn.analysis.fields import Field, measuring_metrics
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
from convnn.analysis.training_data import first_conflict
from convnn.config.recorded import UNKNOWN
from convnn.json_values import json_value
from convnn.metrics import format_value, metric_info

NO_VARIATION = "the repeats have equal values, which do not show how far runs differ by chance"


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
            "noise": noise and {"sd": noise.sd, "df": noise.df, "source": noise.source},
            "words": self.text,
        }


def compare_groups(
    groups: Sequence[RunGroup], field: Field, effect_size: float, noise_floor: NoiseFloor | None
) -> list[GroupComparison]:
    """Compare every group but the first with the first; the p-values of several are adjusted by Holm's method.

    Two groups of repeats are compared by Welch's t-test, a single run by the noise floor, which is that of the first
    group's data set. Nothing is claimed across data that differ or with a run that is not done. `effect_size` has the
    unit of the field.
    """
    reference, *others = groups
    reasons = [_not_tested_reason(group, reference, field, noise_floor) for group in others]
    differences = [
        None if reason else _difference(group, reference, noise_floor)
        for group, reason in zip(others, reasons, strict=True)
    ]
    adjusted_ps = _adjusted_ps(differences)
    tests = sum(difference is not None for difference in differences)
    comparisons = []
    for group, reason, difference, p in zip(others, reasons, differences, adjusted_ps, strict=True):
        if difference is None or p is None:
            comparisons.append(GroupComparison(f"not tested: {reason}"))
            continue
        noise = None if _are_repeats(group, reference) else noise_floor
        needed = _runs_needed(group, reference, noise, effect_size, ALPHA / tests)
        text = _sentence(difference, p, noise, needed, field, effect_size, is_adjusted=tests > 1)
        comparisons.append(GroupComparison(text, difference, p, noise, needed))
    return comparisons


def _not_tested_reason(
    group: RunGroup, reference: RunGroup, field: Field, noise_floor: NoiseFloor | None
) -> str | None:
    """Return why the difference of two groups is not tested; None where it is."""
    for compared_group in (group, reference):
        if not compared_group.finished:
            return "no run was trained to its end"
        if not compared_group.values:
            return "no value to compare"
    if any(run.status != "done" for run in (*group.finished, *reference.finished)):
        return "not every run was trained to its end"
    if conflict := first_conflict(reference.finished, group.finished):
        return f"the runs are on different data: {conflict}"
    if len(metrics := measuring_metrics(field, [*reference.finished, *group.finished])) > 1:
        return f"the best epoch is by {' in some runs and by '.join(sorted(metrics))} in others"
    if _are_repeats(group, reference):
        sds = [estimate.sd for estimate in (group.estimate, reference.estimate) if estimate]
        if not any(sds):
            return NO_VARIATION
        return None
    if reference.runs[0].config.value("data.dataset") is UNKNOWN:
        return "single runs that are not known to be of one data set"
    if noise_floor is None:
        return "single runs, and no repeats on this data set show how far runs differ by chance (--seeds trains some)"
    return None if noise_floor.sd else NO_VARIATION


def _difference(group: RunGroup, reference: RunGroup, noise_floor: NoiseFloor | None) -> MeanDifference | None:
    """Return group - reference; None where there is nothing to test it by."""
    a, b = group.estimate, reference.estimate
    if a is None or b is None:
        return None
    if _are_repeats(group, reference):
        return welch(a, b)
    if noise_floor is None:
        return None
    return difference_with_sd(a, b, noise_floor.sd, noise_floor.df)


def _adjusted_ps(differences: Sequence[MeanDifference | None]) -> list[float | None]:
    adjusted = iter(holm([difference.p_value for difference in differences if difference]))
    return [next(adjusted) if difference else None for difference in differences]


def _runs_needed(
    group: RunGroup, reference: RunGroup, noise: NoiseFloor | None, effect_size: float, alpha: float
) -> int | None:
    """Return the runs needed by the noise floor, or by the pooled deviation of two groups of repeats."""
    if noise is not None:
        return runs_needed(noise.sd, effect_size, alpha)
    pooled = pooled_sd(estimate for estimate in (group.estimate, reference.estimate) if estimate)
    if pooled is None:
        return None
    return runs_needed(pooled[0], effect_size, alpha)


def _are_repeats(*groups: RunGroup) -> bool:
    return all(len(group.values) > 1 for group in groups)


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
    text = p_text(p)
    if is_adjusted:
        text += ", Holm-adjusted"
    value = f"{signed(difference.value, metric)}{unit} ({_point(field)})"
    parts = [f"{value}, {interval.replace('%', ' %')}: {outcome(p)} ({text})"]
    if noise_floor is not None:
        sd = f"{format_value(noise_floor.sd, metric)}{unit}"
        parts.append(f"a single run, compared with a run-to-run standard deviation of {sd}")
    if p >= ALPHA:
        parts.append(_runs_needed_text(needed, effect_size, unit, is_adjusted=is_adjusted))
    return "; ".join(parts)


def _runs_needed_text(needed: int | None, effect_size: float, unit: str, *, is_adjusted: bool) -> str:
    size = f"{effect_size:g}{unit}"
    if unit and effect_size == 1:
        size = size.removesuffix("s")
    if needed is None:
        return f"no feasible number of runs detects {size}"
    text = f"about {needed} runs per group are needed to detect {size}"
    if is_adjusted:
        text += ", Holm-adjusted"
    return text


def _point(field: Field) -> str:
    """Return which value of a run the groups are compared by: "best epoch" or "test_loss, last epoch"."""
    if field.key == "best":
        return "best epoch"
    if field.metric is None:
        return field.key
    point = "best" if field.best else "last"
    return f"{field.metric}, {point} epoch"


def signed(value: float, metric: str) -> str:
    """Return a difference with its sign and the digits of its metric; zero has no sign."""
    text = format_value(value, metric)
    if not text.strip("-0."):
        return text.lstrip("-")
    if text.startswith("-"):
        return text
    return f"+{text}"


def outcome(p: float) -> str:
    """Return what a test with this p says of a difference."""
    return "distinguishable" if p < ALPHA else "not distinguishable"


def p_text(p: float) -> str:
    """Return "p = 0.22", or "p < 0.001"."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2g}"
