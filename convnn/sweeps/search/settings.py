"""The table `[search]` of a sweep file, and what a search cannot do. Optuna is not loaded here.

[search]
method = "tpe"         metric = "val_top1"    trials = 40      seed = 0       on_test = false
stop = { method = "asha", min_epochs = 5, eta = 3 }            confirm = 3
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from convnn.config.options import Value
from convnn.errors import Problem, UserError, did_you_mean
from convnn.metrics import METRICS
from convnn.text import plural

if TYPE_CHECKING:
    from convnn.sweeps.file import Sweep

METHODS = ("random", "qmc", "tpe", "gp", "cmaes")
PACKAGES = {"cmaes": "cmaes", "gp": "torch"}  # that a method needs beside Optuna
STOP_METHODS = ("asha", "median", "none")
KEYS = ("method", "metric", "trials", "seed", "on_test", "stop", "confirm")
STOP_KEYS = ("method", "min_epochs", "eta")
MAX_TRIALS, MAX_CONFIRM = 10_000, 20
VAL_SHARE = "data.val_share"
EXTRA = "pip install 'convnn[search]'"


@dataclass(frozen=True)
class StopRule:
    """When a trial is stopped early: never, or where others are better after so many epochs."""

    method: str = "none"
    min_epochs: int = 1  # of asha: the first rung; of median: before the first comparison
    eta: int = 3  # of asha: a rung is eta times as long as the one before, and one trial in eta goes on there

    @property
    def text(self) -> str:
        if self.method == "none":
            return "every trial is trained to its end"
        if self.method == "median":
            return f"trials below the median are stopped early, after {plural(self.min_epochs, 'epoch')} at least"
        return f"about one trial in {self.eta} goes on after {plural(self.min_epochs, 'epoch')}, and so on (ASHA)"

    def json(self) -> dict[str, Any]:
        keys = {"asha": STOP_KEYS, "median": STOP_KEYS[:2], "none": STOP_KEYS[:1]}[self.method]
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True)
class Search:
    """How a search draws, compares and repeats trials."""

    method: str = "tpe"
    metric: str = "val_top1"  # its best value over the epochs of a run is compared
    trials: int = 20
    seed: int = 0  # of the sampler
    on_test: bool = False  # a metric of the test split is allowed
    stop: StopRule = StopRule()
    confirm: int = 0  # so many of the best trials are repeated with so many seeds

    def json(self) -> dict[str, Any]:
        """Return the table as a sweep file and JSON documents hold it."""
        return {key: getattr(self, key) for key in KEYS if key != "stop"} | {"stop": self.stop.json()}

    @property
    def repeats(self) -> int:
        """The number of runs that confirm the best trials."""
        return min(self.confirm, self.trials) * self.confirm


class SearchReader:
    """Reads `[search]` and gathers what is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def read(self, table: Any) -> Search:
        if not isinstance(table, dict):
            self._fail("search must be a table", "search", table, 'write [search] and method = "tpe"')
            return Search()
        self._check_keys("search", table, KEYS)
        on_test = table.get("on_test", Search.on_test)
        if not isinstance(on_test, bool):
            self._fail("search.on_test must be true or false", "search.on_test", on_test, "write on_test = false")
        metric = table.get("metric", Search.metric)
        if not isinstance(metric, str):
            self._fail("search.metric is the name of a metric", "search.metric", metric, 'write metric = "val_top1"')
            metric = Search.metric
        return Search(
            method=self._choice("search.method", table.get("method", Search.method), METHODS),
            metric=metric,
            trials=self._count("search", "trials", table, Search.trials, 1, MAX_TRIALS),
            seed=self._count("search", "seed", table, Search.seed, 0, 2**32 - 1),
            on_test=on_test is True,
            stop=self._stop(table.get("stop", "none")),
            confirm=self._count("search", "confirm", table, Search.confirm, 0, MAX_CONFIRM),
        )

    def _stop(self, value: Any) -> StopRule:
        if isinstance(value, str):
            value = {"method": value}
        if not isinstance(value, dict):
            fix = 'write stop = { method = "asha", min_epochs = 5, eta = 3 }'
            self._fail("search.stop is a table or a method", "search.stop", value, fix)
            return StopRule()
        self._check_keys("search.stop", value, STOP_KEYS)
        method = self._choice("search.stop.method", value.get("method", "asha"), STOP_METHODS)
        for key in value.keys() & set(STOP_KEYS) - StopRule(method).json().keys():
            self._fail(f"search.stop.{key} has no effect with {method}", f"search.stop.{key}", fix="remove it")
        return StopRule(
            method,
            self._count("search.stop", "min_epochs", value, StopRule.min_epochs, 1, 10**9),
            self._count("search.stop", "eta", value, StopRule.eta, 2, 100),
        )

    def _check_keys(self, place: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                message = f"there is no key {place}.{key}{did_you_mean(key, known)}"
                self._fail(message, f"{place}.{key}", table[key], f"use {', '.join(known)}")

    def _choice(self, key: str, value: Any, choices: tuple[str, ...]) -> str:
        if value in choices:
            return str(value)
        message = f"{key} is {value!r}: must be one of {', '.join(choices)}{did_you_mean(str(value), choices)}"
        self._fail(message, key, value, f'write {key.rpartition(".")[2]} = "{choices[0]}"')
        return choices[0]

    def _count(self, place: str, key: str, table: Mapping[str, Any], default: int, low: int, high: int) -> int:
        value = table.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        message = f"{place}.{key} is {value!r}: must be a whole number from {low} to {high:,}"
        self._fail(message, f"{place}.{key}", value, f"write {key} = {max(low, default)}")
        return default

    def _fail(self, message: str, key: str, value: Any = None, fix: str | None = None) -> None:
        self.problems.append(Problem(message, key=key, value=value, fix=fix))


def search_problems(sweep: Sweep, base: Mapping[str, Value]) -> Iterator[Problem]:
    """Yield what a search cannot do, with the values of its base and of flags; before anything is drawn."""
    search = sweep.search
    assert search is not None
    yield from _metric_problems(sweep, search, base)
    if len(sweep.seeds or (0,)) > 1:
        message = "a search trains every trial with one seed"
        yield Problem(message, key="seeds", fix="write seeds = [0], and confirm = 3 in [search] to repeat the best")
    if sweep.slurm is not None:
        message = "a search is trained by the queue of the machine that it runs on"
        fix = "remove [slurm], and call convnn sweep run FILE --yes in the script of a job"
        yield Problem(message, key="slurm", fix=fix)
    if sweep.blocks:
        yield Problem("a search has no blocks", key="block", fix="write their axes in [axes]")
    if not sweep.axes:
        yield Problem("a search needs axes", key="axes", fix="write lr = { min = 1e-4, max = 1e-1, log = true }")
    if search.method == "cmaes":
        for axis in sweep.axes:
            if axis.is_categorical:
                message = f"{axis.name} is a list of choices, and cmaes searches numbers alone"
                yield Problem(message, key=axis.name, fix='write { min, max } or { from, to }, or method = "tpe"')
        if len(sweep.axes) == 1:
            yield Problem("cmaes needs at least two axes", key="search.method", fix='write method = "tpe"')
    epochs = _last_value(sweep, base, "training.num_epochs")
    is_varied = any("training.num_epochs" in axis.option_keys for axis in sweep.axes)
    rule = search.stop
    if rule.method != "none" and isinstance(epochs, int) and not is_varied and rule.min_epochs >= epochs:
        message = f"search.stop.min_epochs is {rule.min_epochs}: a run of {epochs} epochs is never stopped early"
        yield Problem(message, key="search.stop.min_epochs", value=rule.min_epochs, fix='write fewer, or stop = "none"')


def _metric_problems(sweep: Sweep, search: Search, base: Mapping[str, Value]) -> Iterator[Problem]:
    metric, key = search.metric, "search.metric"
    names = [f"val_{name}" for name, row in METRICS.items() if row.per_split]
    if metric in [name.replace("val_", "test_") for name in names]:
        if not search.on_test:
            message = (
                f"{metric} is measured on the test split: a value that many trials were chosen by is no longer a test"
            )
            fix = f'write metric = "val_{metric.partition("_")[2]}" and [set] data.val_share = 0.1, or on_test = true'
            yield Problem(message, key=key, value=metric, fix=fix)
        return
    if metric not in names:
        message = f"search.metric is {metric!r}: must be a metric of the validation split{did_you_mean(metric, names)}"
        yield Problem(message, key=key, value=metric, fix=f"use one of {', '.join(names)}")
        return
    if any(VAL_SHARE in axis.option_keys for axis in sweep.axes):
        message = "data.val_share cannot be searched: trials would be compared on other images"
        yield Problem(message, key=VAL_SHARE, fix="write it in [set]")
    elif _last_value(sweep, base, VAL_SHARE) == 0:
        message = f"{metric} is never measured: the runs have no validation split, as data.val_share is 0"
        yield Problem(message, key=VAL_SHARE, value=0, fix="write [set] data.val_share = 0.1")


def _last_value(sweep: Sweep, base: Mapping[str, Value], key: str) -> Value:
    """Return the value of an option that no axis sets; None where it is derived."""
    if any(key in derivation.values for derivation in sweep.derivations):
        return None
    return sweep.values.get(key, base.get(key))


def missing_package(search: Search) -> Problem | None:
    """Return what has to be installed before a search can run; None where everything is there."""
    users = {"optuna": "a search", "scipy": "a search"}
    if search.method in PACKAGES:
        users[PACKAGES[search.method]] = f"method {search.method}"
    for name, user in users.items():
        if find_spec(name) is None:
            return Problem(f"{user} needs {name}, which is not installed", key="search", fix=EXTRA)
    return None


def check_packages(search: Search) -> None:
    """Raise UserError where a package is missing that a search needs."""
    if (problem := missing_package(search)) is not None:
        raise UserError(problem)
