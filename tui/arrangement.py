"""Runs arranged for the grid: filtered, sorted, in columns, as a list or as a tree of groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from convnn.analysis import fields, filters, run_table
from convnn.analysis.fields import Field
from convnn.analysis.run_table import REPEATS
from convnn.analysis.views import View
from convnn.config.recorded import UNKNOWN
from convnn.errors import UserError
from convnn.metrics import metric_info
from convnn.runs.summary import Summary
from tui.selection import Selection

if TYPE_CHECKING:
    from convnn.analysis.statistics import MeanEstimate

NOT_DIFFERENT = "differ in the seed alone"
MOST_RANKED = 200  # runs that decide which columns come first


@dataclass
class GridSettings:
    """What the grid shows of the runs, and in which order."""

    filter: str = ""
    sort: str | None = None  # a key; None: by start
    descending: bool = False  # without a key: oldest first
    columns: list[str] | None = None  # keys; None: the options that differ
    groups: list[str] = field(default_factory=list)  # keys, the outermost first
    expanded: set[str] = field(default_factory=set)  # paths of the groups that are open
    lists_early_failures: bool = False  # see `filter_runs`

    @property
    def sort_key(self) -> str | None:
        """The key as `sort_runs` takes it: `-key` is descending."""
        if self.sort is None:
            return "started" if self.descending else None
        return f"-{self.sort}" if self.descending else self.sort

    @classmethod
    def from_view(cls, view: View) -> GridSettings:
        """Return the settings that show a saved view: sorted by its first key, as the grid sorts by one."""
        settings = cls(filter=view.filter)
        if view.sort:
            key = view.sort.split(",")[0]
            settings.sort, settings.descending = key.removeprefix("-"), key.startswith("-")
        if view.columns:
            settings.columns = view.columns.split(",")
        if view.group:
            settings.groups = view.group.split(",")
        return settings

    @property
    def view(self) -> View:
        columns, group = ",".join(self.columns or ()), ",".join(self.groups)
        return View(filter=self.filter, sort=self.sort_key, columns=columns or None, group=group or None)


@dataclass
class GroupNode:
    """A group of the tree and the runs in it."""

    path: str  # the labels from the outermost group to this one
    label: str
    runs: list[Summary]
    levels: list[str]  # keys of the groups inside it
    metric: Field

    @cached_property
    def children(self) -> list[GroupNode]:
        level, *deeper = self.levels
        table = run_table.group_runs(self.runs, level, self.metric)
        columns = list(zip(*(row.values for row in table.rows), strict=True))
        by_variety = sorted(range(len(columns)), key=lambda index: -len({str(value) for value in columns[index]}))
        fallback = NOT_DIFFERENT if level == REPEATS else f"no {level}"
        nodes = []
        for row in table.rows:
            values = [(table.keys[index], row.values[index]) for index in by_variety]
            label = " ".join(f"{key.key}={key.show(value)}" for key, value in values if value is not UNKNOWN)
            label = label or fallback
            nodes.append(GroupNode(f"{self.path}/{label}", label, row.group.runs, deeper, self.metric))
        return nodes

    def rows(self, expanded: set[str], depth: int = 0) -> Iterator[GridRow]:
        """Yield its runs or, in groups, a row for each group and the rows of those that are expanded."""
        if not self.levels:
            yield from (GridRow(run, depth=depth) for run in self.runs)
            return
        for node in self.children:
            is_expanded = node.path in expanded
            yield GridRow(None, node, depth, is_expanded)
            if is_expanded:
                yield from node.rows(expanded, depth + 1)

    @cached_property
    def mean(self) -> tuple[MeanEstimate | None, str]:
        """The mean metric of the runs that were trained to their end, and what they differ in beside the seed.

        Identical repeats count once.
        """
        finished = [run for run in self.runs if run.status == "done"]
        group, averaged_over = run_table.merge_repeats(finished, self.metric)
        return group.estimate, run_table.averaged_over_text(averaged_over)


class GridRow(NamedTuple):
    """A run or a group, indented by its depth."""

    run: Summary | None
    node: GroupNode | None = None
    depth: int = 0
    is_expanded: bool = False

    @property
    def key(self) -> str:
        """A text that no other row has."""
        if self.run is not None:
            return self.run.path
        if self.node is None:
            return ""
        return f"group {self.node.path}"

    @property
    def runs(self) -> list[Summary]:
        if self.run is not None:
            return [self.run]
        if self.node is None:
            return []
        return self.node.runs


@dataclass(frozen=True)
class Arrangement:
    """The rows and columns of the grid, and what they were made from."""

    rows: list[GridRow]
    columns: list[Field]
    matches: list[Summary]  # the runs that pass the filter
    filter_error: str  # why the filter is not understood; it then hides nothing
    runs: Sequence[Summary]
    choice: tuple[str, bool]  # the settings that `matches` depends on
    differing: list[Field]  # the columns where none are chosen
    order: tuple[Any, ...]  # the settings that `root` depends on
    root: GroupNode


def arrange(
    runs: Sequence[Summary], settings: GridSettings, selection: Selection, previous: Arrangement | None = None
) -> Arrangement:
    """Arrange the runs. What cannot have changed is taken from the previous arrangement.

    Raises UserError for a sort, column or group key that does not exist.
    """
    choice = (settings.filter, settings.lists_early_failures)
    if previous is not None and previous.runs is runs and previous.choice == choice:
        matches, filter_error, differing = previous.matches, previous.filter_error, previous.differing
    else:
        previous = None
        matches, filter_error = filter_runs(runs, *choice)
        differing = run_table.ranked(run_table.columns(matches, None), matches[:MOST_RANKED])
    columns = differing
    if settings.columns:
        columns = run_table.columns(matches, ",".join(settings.columns))
    order = (settings.sort, settings.descending, tuple(settings.groups), tuple(selection.pinned))
    if previous is not None and previous.order == order:
        root = previous.root
    else:
        ordered = selection.pinned_first(run_table.sort_runs(matches, settings.sort_key))
        root = GroupNode("", "", ordered, list(settings.groups), fields.get_field("best"))
    rows = list(root.rows(settings.expanded))
    return Arrangement(rows, columns, matches, filter_error, runs, choice, differing, order, root)


def filter_runs(runs: Sequence[Summary], text: str, lists_early_failures: bool = False) -> tuple[list[Summary], str]:
    """Return the runs that pass a filter and "", or all runs and why the filter is not understood.

    Runs that failed before their first step are listed by a filter that they pass or with `lists_early_failures`.
    """
    if not text.strip():
        return [run for run in runs if lists_early_failures or not run.failed_early], ""
    try:
        return filters.parse_filter(text, runs).select(runs), ""
    except UserError as error:
        return list(runs), error.problems[0].message


def count_text(listed: int, runs: Sequence[Summary], text: str) -> str:
    """Return how many runs a filter lists, of how many, and how many are not listed because they failed early."""
    if text.strip():
        return f"{listed:,} of {len(runs):,}"
    hidden = len(runs) - listed
    if hidden:
        return f"{listed:,} · {hidden:,} failed at once, a lists them"
    return f"{listed:,}"


def starts_descending(key: str, runs: Sequence[Summary]) -> bool:
    """Return whether the best runs come first in descending order of a key."""
    column = fields.get_field(key, fields.metric_names(runs))
    metrics = fields.measuring_metrics(column, runs)
    return bool(metrics) and all(metric_info(metric).better == "higher" for metric in metrics)


def group_keys(runs: Sequence[Summary]) -> list[str]:
    """Return the keys to group runs by: repeats, the options that differ, and the status."""
    columns = run_table.columns(runs, None)
    differing = [column.key for column in columns if column.option and column.option.key != "run.name"]
    return [REPEATS, *differing, "status"]
