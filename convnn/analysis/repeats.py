"""Runs grouped into repeats of one configuration, and the noise floor: how far repeats differ by chance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from convnn.analysis.fields import Field, choosing_metrics, measuring_metrics
from convnn.analysis.statistics import MeanEstimate, estimate_mean, pooled_sd
from convnn.analysis.training_data import data_conflict, drawn_splits, images_trained, is_verified
from convnn.config.options import BY_KEY
from convnn.config.recorded import NO_EFFECT, UNKNOWN, value_text
from convnn.metrics import format_value, monitored
from convnn.runs.summary import Summary
from convnn.text import plural

PUBLISHED_SD = {  # median sd, in points, of the best test accuracy among runs that share configuration and seed
    "cifar10": 0.44,
    "cifar100": 0.55,
}
# each of the published groups has a few runs, so that the deviation of one configuration is known no better than from
# the largest of them: seven runs of VGG11 at ratio 0, whose best accuracy is 81.17 ± 0.39
PUBLISHED_DF = 6
PUBLISHED_METRIC = monitored(validation=False)
PUBLISHED_EPOCHS = 100  # that the shortest of the published runs trained
PUBLISHED_SOURCE = "172 groups of repeated runs in the published experiments, arXiv 2511.14137"
TRIAL_SHARE = 0.5  # of the images that compared runs trained on: repeats of fewer are trials, which vary more


@dataclass
class RunGroup:
    """Runs that belong together, and the value of each that counts; of runs with the same digest only the first."""

    runs: list[Summary] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    independent: list[Summary] = field(default_factory=list)  # runs that are no copies or forks of others
    copies: int = 0  # runs left out because an earlier one has the same digest
    forks: int = 0  # runs left out because they go on from another run, and are no independent repeats
    missing: int = 0  # runs without a finite value
    unfinished: list[Summary] = field(default_factory=list)  # runs left out because they did not train to their end

    @property
    def estimate(self) -> MeanEstimate | None:
        """The mean of the values; None without any."""
        if not self.values:
            return None
        return estimate_mean(self.values)

    @property
    def finished(self) -> list[Summary]:
        """The runs that were not left out as unfinished."""
        paths = {run.path for run in self.unfinished}
        return [run for run in self.runs if run.path not in paths]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The confidence interval of the mean; None of a single run, and where some did not train to their end."""
        estimate = self.estimate
        if estimate is None or estimate.low is None or estimate.high is None:
            return None
        if any(run.status != "done" for run in self.finished):
            return None
        return estimate.low, estimate.high


@dataclass(frozen=True)
class NoiseFloor:
    """The standard deviation of single runs that differ by chance alone, in the unit of the metric."""

    sd: float
    df: float  # degrees of freedom it was estimated with
    source: str
    epochs: int  # that the shortest of the runs it is estimated from trained


def group_repeats(runs: Iterable[Summary], field: Field, *, only_finished: bool = False) -> list[RunGroup]:
    """Return groups of runs that differ in the seed or in options without effect alone, in the order of their first.

    Runs on data that are known to differ are no repeats, nor are those that read theirs at different paths unless
    digests show that it is the same. With `only_finished`, runs that did not train to their end have no part in the
    values.
    """
    groups: list[RunGroup] = []
    by_config: dict[object, list[RunGroup]] = {}
    for run in runs:
        candidates = by_config.setdefault(run.config.pathless_key, [])
        group = next((group for group in candidates if _are_repeats(group.runs[0], run)), None)
        if group is None:
            group = RunGroup()
            groups.append(group)
            candidates.append(group)
        group.runs.append(run)
    for group in groups:
        if only_finished:
            group.unfinished = [run for run in group.runs if run.status != "done"]
        _collect_values(group, field)
    return groups


def _are_repeats(a: Summary, b: Summary) -> bool:
    """Return whether two runs of the same options, but for the path of their data, are on the same data."""
    return data_conflict(a, b) is None and (a.config.key == b.config.key or is_verified(a, b))


def _collect_values(group: RunGroup, field: Field) -> None:
    digests: set[str] = set()
    origins: set[str] = set()  # of forks
    has_original = any(run.forked_from is None for run in group.finished)
    for run in group.finished:
        if run.forked_from is not None:
            if has_original or run.forked_from in origins:
                group.forks += 1
                continue
            origins.add(run.forked_from)
        value = field.get(run)
        if value is UNKNOWN or not math.isfinite(value):
            group.missing += 1
            group.independent.append(run)
        elif run.digest is not None and run.digest in digests:
            group.copies += 1
        else:
            group.values.append(value)
            group.independent.append(run)
            digests.add(run.digest or run.path)


def differing_values(cells: Iterable[Sequence[RunGroup]]) -> dict[str, set[str]]:
    """Return the options in which groups that lie in one cell differ, with their values as text.

    An option that differs only by having no effect in some runs is left out where another one explains that; so is the
    path at which the same data was read. None differ where the groups are on other data alone.
    """
    no_effect = value_text("", NO_EFFECT)
    differing: dict[str, set[str]] = {}
    for groups in cells:
        first_runs = [group.runs[0] for group in groups]
        is_same_data = all(is_verified(first_runs[0], run) for run in first_runs[1:])
        configs = [dict(run.config.key) for run in first_runs]
        if is_same_data:
            configs = [dict(run.config.pathless_key) for run in first_runs]
        for key in BY_KEY:
            values = {config.get(key, no_effect) for config in configs}
            if len(values) > 1:
                differing.setdefault(key, set()).update(values)
    explaining = {key: values for key, values in differing.items() if len(values - {no_effect}) > 1}
    return explaining or differing


def copies_note(groups: Sequence[RunGroup]) -> list[str]:
    """Return the notes that some runs are copies of others, or forks, which have their first epochs from another."""
    notes = []
    if copies := sum(group.copies for group in groups):
        notes.append(f"left out: {plural(copies, 'copy', 'copies')} of another run, epoch for epoch")
    if forks := sum(group.forks for group in groups):
        notes.append(f"left out: {plural(forks, 'fork')} of another run: no independent repeats")
    return notes


def drawn_note(groups: Sequence[RunGroup], field: Field) -> list[str]:
    """Return the note that repeats, or runs of several groups, also differ in the images they are measured on."""
    repeated = [split for group in groups for split in _drawn_splits(group.finished, field)]
    if repeated:
        images = _split_words(repeated)
        return [f"repeats over seeds also differ in their {images} images: their spread is that of both"]
    if drawn := _drawn_splits([run for group in groups for run in group.finished], field):
        return [f"the runs are measured on {_split_words(drawn)} images that differ: the seed draws them"]
    return []


def _drawn_splits(runs: Sequence[Summary], field: Field) -> list[str]:
    return drawn_splits(runs, measuring_metrics(field, runs))


def _split_words(splits: Iterable[str]) -> str:
    return " and ".join({"test": "test", "val": "validation"}[split] for split in sorted(set(splits)))


def sd_text(estimate: MeanEstimate, metric: str) -> str:
    """Return the standard deviation as text; empty for a single value, which has none."""
    if estimate.sd is None:
        return ""
    return format_value(estimate.sd, metric)


def mean_text(estimate: MeanEstimate, metric: str, count: str = "") -> str:
    """Return a mean as text, "71.20 ± 0.31 (3)" of several values; `count` stands in place of their number."""
    mean = format_value(estimate.mean, metric)
    if sd := sd_text(estimate, metric):
        return f"{mean} ± {sd} ({count or estimate.n})"
    return f"{mean} ({count})" if count else mean


def interval_text(group: RunGroup, metric: str) -> str:
    """Return the confidence interval of a group's mean as text; empty where it has none."""
    return " to ".join(format_value(end, metric) for end in group.interval or ())


def noise_floor(runs: Iterable[Summary], compared: Sequence[Summary], field: Field) -> NoiseFloor | None:
    """Return how far single runs like the compared ones, which are done, differ by chance.

    Estimated from the repeats among the runs that are done, on the data of the first compared run, measured by the same
    metric, and no trials: a few epochs, or a few images, vary more. Without any, the published standard deviation of
    the best test accuracy; None for another field or data set.
    """
    if not compared:
        return None
    reference, metrics = compared[0], measuring_metrics(field, compared)
    eligible = [
        run
        for run in _without_trials(runs, compared)
        if run.status == "done" and data_conflict(reference, run) is None and measuring_metrics(field, [run]) <= metrics
    ]
    repeats = [group for group in group_repeats(eligible, field) if len(group.values) > 1]
    dataset = reference.config.value("data.dataset")
    if pooled := pooled_sd(estimate for group in repeats if (estimate := group.estimate)):
        sd, df = pooled
        source = f"{plural(len(repeats), 'group')} of repeats on {dataset} in these runs"
        return NoiseFloor(sd, df, source, min(run.epoch for group in repeats for run in group.runs))
    if choosing_metrics(field, compared) != {PUBLISHED_METRIC}:
        return None
    return published_noise_floor(dataset)


def published_noise_floor(dataset: object) -> NoiseFloor | None:
    """Return how far the best test accuracy of the published runs on a data set differs by chance; None without any."""
    if not isinstance(dataset, str) or dataset not in PUBLISHED_SD:
        return None
    source = f"median on {dataset} of {PUBLISHED_SOURCE}"
    return NoiseFloor(PUBLISHED_SD[dataset], PUBLISHED_DF, source, PUBLISHED_EPOCHS)


def _without_trials(runs: Iterable[Summary], compared: Sequence[Summary]) -> Iterator[Summary]:
    """Yield the runs that trained on at least TRIAL_SHARE of the images of the shortest compared run.

    Where a number of images is unknown, epochs decide.
    """
    compared_images = [images_trained(run) for run in compared]
    fewest_images = min((count for count in compared_images if count is not None), default=0)
    fewest_epochs = min(run.epoch for run in compared)
    for run in runs:
        images, share = images_trained(run), run.epoch / max(1, fewest_epochs)
        if images is not None and None not in compared_images:
            share = images / max(1, fewest_images)
        if share >= TRIAL_SHARE:
            yield run
