"""Runs as a person asked to see them: filtered, sorted, in columns, as a list or as a tree of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev

from convnn import fields, listing, query
from convnn.errors import UserError
from convnn.fields import Field
from convnn.groups import repeats
from convnn.listing import REPEATS
from convnn.settings import UNKNOWN
from convnn.summaries import Summary
from tui.marks import Marks

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
    levels: list[str]  # that are below it
    figure: Field

    @cached_property
    def values(self) -> list[float]:
        """The figures of the runs that were trained to their end; of copies one."""
        done = [run for run in self.runs if run.status == "done"]
        return [value for group in repeats(done, self.figure) for value in group.values]

    @property
    def mean(self) -> float | None:
        return fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Line:
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
    """The rows and the columns to show them in."""

    lines: list[Line]
    columns: list[Field]
    found: int  # runs that the filter lets through
    wrong: str  # why the filter is not understood; then it hides nothing


def arrange(runs: Sequence[Summary], look: Look, marks: Marks) -> Arranged:
    """The runs as asked for. Raises UserError for a sort, column or group key that there is not."""
    found, wrong = list(runs), ""
    try:
        found = query.parse(look.filter, runs).of(runs)
    except UserError as error:
        wrong = error.problems[0].message
    columns = listing.columns(found, ",".join(look.columns) if look.columns else None)
    found = marks.on_top(listing.ordered(found, look.sort and ("-" if look.down else "") + look.sort))
    if not look.groups:
        return Arranged([Line(run) for run in found], columns, len(found), wrong)
    figure = fields.field("best")
    return Arranged(_tree(found, look.groups, look.open, figure, "", 0), columns, len(found), wrong)


def _tree(runs: list[Summary], levels: list[str], open: set[str], figure: Field, above: str, depth: int) -> list[Line]:
    """The groups of the first level and, below those that are open, what they hold."""
    if not levels:
        return [Line(run, depth=depth) for run in runs]
    lines: list[Line] = []
    grouped = listing.grouped(runs, levels[0], figure)
    for row in grouped.rows:
        told = zip(grouped.keys, row.values, strict=True)
        words = [f"{key.key}={key.show(value)}" for key, value in told if value is not UNKNOWN]
        label = " ".join(words) or (SAME if levels[0] == REPEATS else f"no {levels[0]}")
        node = Node(f"{above}/{label}", label, row.group.runs, levels[1:], figure)
        lines.append(Line(None, node, depth, node.key in open))
        if node.key in open:
            lines += _tree(node.runs, node.levels, open, figure, node.key, depth + 1)
    return lines


def groupable(runs: Sequence[Summary]) -> list[str]:
    """The keys that runs can be grouped by: being repeats, the options that differ, and the state."""
    differ = [column.key for column in listing.columns(runs, None) if column.place not in (None, "run.name")]
    return [REPEATS, *differ, "status"]
