"""What the commands that list runs share: the format, reading all runs, and leaving out those that did not finish."""

from __future__ import annotations

from pathlib import Path

from convnn.cli.arguments import unknown_choice
from convnn.errors import UserError
from convnn.runs.file_lock import flock_warnings
from convnn.runs.find import find_run
from convnn.runs.summary import Summary, summarize
from convnn.runs.summary_cache import summaries
from convnn.tables import FORMATS
from convnn.terminal.console import say
from convnn.text import plural

SLOW = 300  # runs that take a second or so to read


def checked_format(format: str, json: bool) -> str:
    """Return the format; --json wins. Raises UserError for an unknown one."""
    if format not in FORMATS:
        raise UserError(unknown_choice("format", format, FORMATS))
    return "json" if json else format


def read_summaries(root: Path) -> list[Summary]:
    """Return all runs of a root, newest first; a damaged one costs a line of warning."""

    def report(count: int) -> None:
        if count >= SLOW:
            say(f"reading {count} new runs ...")

    runs, warnings = summaries(root, report)
    for warning in [*warnings, *flock_warnings()]:
        say(f"warning: {warning}")
    return runs


def named_summaries(names: list[str], summaries: list[Summary], root: Path) -> list[Summary]:
    """Return the summaries of runs by reference; one that is not among those of the root is read. Raises UserError."""
    by_path = {summary.path: summary for summary in summaries}
    runs = [find_run(name, root) for name in names]
    return [by_path.get(str(run.path)) or summarize(run) for run in runs]


def finished_runs(runs: list[Summary], unfinished: bool) -> tuple[list[Summary], list[str]]:
    """Return the runs that were trained to their end, all with `unfinished`, and a note on those left out."""
    if unfinished:
        return runs, []
    finished = [run for run in runs if run.status == "done"]
    left_out = len(runs) - len(finished)
    if not left_out:
        return finished, []
    return finished, [f"{plural(left_out, 'unfinished run')} left out (--unfinished includes them)"]
