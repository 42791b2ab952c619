"""Runs as a person asked to see them: filtered, sorted, in columns, as a list or as a tree of groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import Any, NamedTuple

from convnn.analysis import fields, filters, run_table
from convnn.analysis.fields import Field
from convnn.analysis.repeats import group_repeats
from convnn.analysis.run_table import REPEATS
from convnn.config.recorded import UNKNOWN
from convnn.errors import UserError
from convnn.runs.summary import Summary
from tui.selection import Selection

SAME = "the same but for the seed"


@dataclass
class Look:
    """What a person asked for."""

    filter: str = ""
    sort: str | None = None  # a key; None is newest first
    down: bool = False
    columns: list[str] | None = None  # keys; None is those that differ
    groups: list[str] = field(default_factory=list)  # keys, the outermost first
    open: set[str] = field(default_factory=set)  # keys of the groups that are open


@dataclass
class Node:
    """Runs that are one row of the tree."""

    key: str  # its labels from the outermost group to this
    label: str
    runs: list[Summary]
    levels: list[str]  # keys that it is grouped by
    figure: Field

    @cached_property
    def groups(self) -> list[Node]:
        """What its runs are grouped into."""
        nodes: list[Node] = []
        grouped = run_table.group_runs(self.runs, self.levels[0], self.figure)
        columns = list(zip(*(row.values for row in grouped.rows), strict=True))
        telling = sorted(range(len(columns)), key=lambda at: -len({str(value) for value in columns[at]}))
        for row in grouped.rows:
            told = [(grouped.keys[at], row.values[at]) for at in telling]  # first what tells most of them apart
            words = [f"{key.key}={key.show(value)}" for key, value in told if value is not UNKNOWN]
            label = " ".join(words) or (SAME if self.levels[0] == REPEATS else f"no {self.levels[0]}")
            nodes.append(Node(f"{self.key}/{label}", label, row.group.runs, self.levels[1:], self.figure))
        return nodes

    def lines(self, open: set[str], depth: int) -> Iterator[Line]:
        """Its runs or groups and, below the groups that are open, what they hold."""
        if not self.levels:
            yield from (Line(run, depth=depth) for run in self.runs)
            return
        for node in self.groups:
            yield Line(None, node, depth, node.key in open)
            if node.key in open:
                yield from node.lines(open, depth + 1)

    @cached_property
    def values(self) -> list[float]:
        """The figures of the runs that were trained to their end; of copies one."""
        done = [run for run in self.runs if run.status == "done"]
        return [value for group in group_repeats(done, self.figure) for value in group.values]

    @property
    def mean(self) -> float | None:
        return fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        return stdev(self.values) if len(self.values) > 1 else None


class Line(NamedTuple):
    """A row: a run or a group, so many groups deep."""

    run: Summary | None
    node: Node | None = None
    depth: int = 0
    open: bool = False

    @property
    def key(self) -> str:
        """What tells it from the others."""
        return self.run.path if self.run else f"group {self.node.key}" if self.node else ""

    @property
    def runs(self) -> list[Summary]:
        return [self.run] if self.run else self.node.runs if self.node else []


@dataclass(frozen=True)
class Arranged:
    """The rows and the columns to show them in, and what they were made from."""

    lines: list[Line]
    columns: list[Field]
    found: list[Summary]  # that the filter lets through
    wrong: str  # why the filter is not understood; then it hides nothing
    runs: Sequence[Summary]
    filter: str
    differing: list[Field]  # the columns where none are asked for
    order: tuple[Any, ...]  # of sorting, pinning and grouping
    root: Node


def arrange(runs: Sequence[Summary], look: Look, marks: Selection, before: Arranged | None = None) -> Arranged:
    """The runs as asked for; what was found before is not looked for again where it cannot have changed.

    Raises UserError for a sort, column or group key that there is not.
    """
    if before is not None and before.runs is runs and before.filter == look.filter:
        found, wrong, differing = before.found, before.wrong, before.differing
    else:
        before = None
        found, wrong = _filtered(runs, look.filter)
        differing = run_table.columns(found, None)
    columns = run_table.columns(found, ",".join(look.columns)) if look.columns else differing
    order = (look.sort, look.down, tuple(look.groups), tuple(marks.pinned))
    if before is not None and before.order == order:
        root = before.root
    else:
        ordered = marks.pinned_first(run_table.sort_runs(found, look.sort and ("-" if look.down else "") + look.sort))
        root = Node("", "", ordered, list(look.groups), fields.get_field("best"))
    lines = list(root.lines(look.open, 0))
    return Arranged(lines, columns, found, wrong, runs, look.filter, differing, order, root)


def _filtered(runs: Sequence[Summary], text: str) -> tuple[list[Summary], str]:
    try:
        return filters.parse_filter(text, runs).select(runs), ""
    except UserError as error:
        return list(runs), error.problems[0].message


def groupable(runs: Sequence[Summary]) -> list[str]:
    """The keys that runs can be grouped by: being repeats, the options that differ, and the state."""
    differ = [
        column.key for column in run_table.columns(runs, None) if column.option and column.option.key != "run.name"
    ]
    return [REPEATS, *differ, "status"]
