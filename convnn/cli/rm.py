"""`convnn rm`: runs moved to the trash, brought back, or deleted for good."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnn.cli import arguments, console, listing
from convnn.cli.console import say
from convnn.errors import Exit, Problem, UserError

if TYPE_CHECKING:
    from convnn.runs.summary import Summary

LIVE = ("running", "paused")


def rm(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="@last, @2, a path or part of a name; several",
            autocompletion=arguments.runs,
            show_default=False,
        ),
    ] = None,
    *,
    where: arguments.Where = None,
    older: Annotated[
        str | None,
        typer.Option(
            "--older", metavar="TIME", help="only runs that ended longer ago, such as 12h or 30d", show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be removed, remove nothing")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="bring back what was removed last")] = False,
    count: Annotated[int, typer.Option("--count", min=1, help="with --undo: how many runs to bring back")] = 1,
    empty: Annotated[bool, typer.Option("--empty", help="delete what is in the trash for good")] = False,
    runs: arguments.Runs = None,
) -> None:
    """Move runs to the trash of their folder, never one that trains; --undo brings them back."""
    from convnn.runs.run import runs_root

    place = runs_root(runs)
    asked = {"RUN": names, "--where or --older": where or older, "--undo": undo, "--empty": empty}
    if sum(map(bool, asked.values())) != 1:
        given = " and ".join(name for name, value in asked.items() if value) or "nothing"
        fix = "give RUN, or --where and --older, or --undo, or --empty"
        raise UserError(Problem(f"{given} was asked for: one thing at a time", fix=fix))
    if undo:
        return _bring_back(place, count, dry_run)
    if empty:
        return _empty(place, dry_run)
    chosen = _named(names, place) if names else _fitting(place, where, older)
    if dry_run:
        return _show(chosen)
    return _remove(chosen, place, by_name=bool(names))


def _named(names: list[str], root: Path) -> list[Summary]:
    from convnn.runs.find import find_run
    from convnn.runs.summary import summarize

    found = {run.path: run for run in (find_run(name, root) for name in names)}
    return [summarize(run) for run in found.values()]


def _fitting(root: Path, where: str | None, older: str | None) -> list[Summary]:
    from convnn.analysis.fields import RUN_FIELDS, parse_duration
    from convnn.analysis.filters import parse_filter
    from convnn.config.recorded import UNKNOWN

    known = listing.read_summaries(root)
    found = parse_filter(where or "", known).select(known)
    if older is not None:
        try:
            least = parse_duration(older)
        except ValueError:
            raise UserError(
                Problem(f"--older is {older!r}: must be a time such as 12h or 30d", key="older", value=older)
            ) from None
        ages = [(run, RUN_FIELDS["age"].get(run)) for run in found]
        found = [run for run, age in ages if age is not UNKNOWN and age > least]
    if live := [run for run in found if run.status in LIVE]:
        few = "1 that trains is" if len(live) == 1 else f"{len(live)} that train are"
        say(f"{few} left alone: {', '.join(run.name for run in live[:3])}")
    return [run for run in found if run.status not in LIVE]


def _show(chosen: list[Summary]) -> None:
    from convnn.analysis import fields, run_table

    if chosen:
        columns = [fields.get_field(key) for key in ("name", "status", "epoch", "best", "age")]
        console.print_table(run_table.run_table(chosen, columns), "table")
    say(f"{_many(len(chosen))} would be removed")


def _remove(chosen: list[Summary], root: Path, *, by_name: bool) -> None:
    from convnn.runs import trash

    removed = 0
    for run in chosen:
        try:
            trash.discard(Path(run.path), run.name, root)
        except UserError as error:
            if by_name or error.code != Exit.HELD:
                raise
            say(f"{run.name} trains by now and is left alone")
            continue
        removed += 1
        if by_name:
            say(f"{run.name} is in the trash")
    many = f" --count {removed}" if removed > 1 else ""
    say(f"{_many(removed)} removed" + (f"; convnn rm --undo{many} brings them back" if removed else ""))


def _bring_back(root: Path, count: int, dry_run: bool) -> None:
    from convnn.runs import trash

    if dry_run:
        raise UserError(Problem("--dry-run is for removing", fix="leave it out: --undo deletes nothing"))
    for at in range(count):
        try:
            say(f"{trash.undo(root)} is back")
        except UserError as error:
            if at == 0 or error.code != Exit.NO_RUN:
                raise
            return say(f"{_many(at)} came back; there are no more")
    return None


def _empty(root: Path, dry_run: bool) -> None:
    from convnn.runs import trash

    if dry_run:
        held = sorted(path for path in (root / trash.NAME).glob("*") if path.is_dir() and not path.is_symlink())
        return say(f"{_many(len(held))} would be deleted for good")
    return say(f"{_many(trash.empty(root))} deleted for good")


def _many(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
