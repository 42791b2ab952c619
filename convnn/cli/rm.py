"""`convnn rm`: runs moved to the trash, brought back, or deleted for good."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnn.cli import arguments, listing
from convnn.cli.output import print_table
from convnn.errors import Exit, UserError
from convnn.runs.slurm_jobs import QUEUED, REQUEUED
from convnn.runs.status import STATUSES
from convnn.terminal.console import say
from convnn.text import plural

if TYPE_CHECKING:
    from convnn.runs.summary import Summary

LISTED = ("name", "status", "epoch", "best", "age")
EXAMPLES = """
convnn rm 3f2a
convnn rm --where 'status=failed,died' --older 30d --dry-run
convnn rm --undo
"""


def rm(
    names: arguments.Runs = None,
    *,
    where: arguments.Where = None,
    older: Annotated[
        str | None, typer.Option("--older", metavar="TIME", help="only runs that ended longer ago, such as 12h or 30d")
    ] = None,
    dry_run: arguments.DryRun = False,
    undo: Annotated[bool, typer.Option("--undo", help="bring back what was removed last")] = False,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="with --undo: how many runs to bring back, else 1")
    ] = None,
    empty: Annotated[bool, typer.Option("--empty", help="delete what is in the trash for good")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="with --empty: also what a person put into the runs")] = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Move runs to the trash of their folder, unless they train; --undo restores them."""
    from convnn.runs.run import runs_root

    root = runs_root(runs)
    modes = {"RUN": names, "--where or --older": where or older, "--undo": undo, "--empty": empty}
    arguments.only_one(modes, "nothing to remove", "give RUN, or --where and --older, or --undo, or --empty")
    if undo:
        return _bring_back(root, count or 1, dry_run)
    arguments.refuse_without({"--count": count}, "--undo")
    if empty:
        return _empty(root, dry_run, yes=yes)
    selected = _named(names, root) if names else _matching(root, where, older)
    if dry_run:
        return _list(_without_live(selected))
    return _remove(selected, root, by_name=bool(names))


def _named(names: list[str], root: Path) -> list[Summary]:
    from convnn.runs.find import find_run
    from convnn.runs.summary import summarize

    runs = {run.path: run for run in (find_run(name, root) for name in names)}
    return [summarize(run) for run in runs.values()]


def _matching(root: Path, where: str | None, older: str | None) -> list[Summary]:
    """Return the runs that match and do not train."""
    from convnn.analysis.fields import RUN_FIELDS, parse_duration
    from convnn.analysis.filters import parse_filter
    from convnn.config.recorded import UNKNOWN

    summaries = listing.read_summaries(root)
    matches = parse_filter(where or "", summaries).select(summaries)
    if older is not None:
        try:
            least_age = parse_duration(older)
        except ValueError:
            message = f"--older is {older!r}: must be a time such as 12h or 30d"
            raise UserError(message, key="older", value=older) from None
        ages = [(run, RUN_FIELDS["age"].get(run)) for run in matches]
        matches = [run for run, age in ages if age is not UNKNOWN and age > least_age]
    return _without_live(matches)


def _without_live(selected: list[Summary]) -> list[Summary]:
    """Return the runs that can be removed, and print how many are left alone because they train or are to."""
    live = [run for run in selected if STATUSES[run.status].is_live or run.status in (QUEUED, REQUEUED)]
    if live:
        say(f"{plural(len(live), 'live run')} left alone: {', '.join(run.name for run in live[:3])}")
    return [run for run in selected if run not in live]


def _list(selected: list[Summary]) -> None:
    from convnn.analysis import fields, run_table

    if selected:
        print_table(run_table.run_table(selected, [fields.get_field(key) for key in LISTED]), "table")
    say(f"{plural(len(selected), 'run')} would be removed")


def _remove(selected: list[Summary], root: Path, *, by_name: bool) -> None:
    from convnn.runs import trash

    removed = 0
    for run in selected:
        try:
            trash.discard(Path(run.path), run.name, root)
        except UserError as error:
            if by_name or error.code != Exit.HELD:
                raise
            say(f"{run.name} has started to train and is kept")
            continue
        removed += 1
        if by_name:
            say(f"{run.name} is in the trash")
    if not removed:
        return say("0 runs removed")
    undo = "convnn rm --undo"
    if removed > 1:
        undo += f" --count {removed}"
    return say(f"{plural(removed, 'run')} removed; undo with: {undo}")


def _bring_back(root: Path, count: int, dry_run: bool) -> None:
    from convnn.runs import trash

    if dry_run:
        raise UserError("--dry-run is for removing", fix="leave it out: --undo deletes nothing")
    for index in range(count):
        try:
            say(f"{trash.undo(root)} is back")
        except UserError as error:
            if index == 0 or error.code != Exit.NO_RUN:
                raise
            return say(f"{plural(index, 'run')} restored; there are no more")
    return None


def _empty(root: Path, dry_run: bool, *, yes: bool) -> None:
    from convnn.runs import trash

    trashed = trash.trashed_runs(root)
    foreign_files = [file for run in trashed for file in trash.foreign_files(run)]
    files = plural(len(foreign_files), "file or folder", "files or folders")
    if dry_run:
        for file in foreign_files:
            say(f"not a file of the run itself: {file}")
        with_files = ""
        if foreign_files:
            with_files = f", with {files} of your own"
        return say(f"{plural(len(trashed), 'run')} would be deleted for good{with_files}")
    if foreign_files and not yes:
        message = f"the trash holds {files} that no run writes: {foreign_files[0]}"
        fix = "move them away (--empty --dry-run lists them), or delete them, too: convnn rm --empty --yes"
        raise UserError(message, key="yes", fix=fix)
    return say(f"{plural(trash.empty(root), 'run')} deleted for good")
