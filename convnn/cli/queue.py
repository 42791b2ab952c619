"""`convnn queue`: the configurations that wait for a slot, in their order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnn.cli import arguments
from convnn.cli.output import print_table, write_json
from convnn.errors import Exit, UserError
from convnn.tables import Column, Table
from convnn.terminal.console import say
from convnn.text import duration, plural

if TYPE_CHECKING:
    from convnn.sweeps.queue import Entry, Queue
    from convnn.sweeps.queue_view import QueueRow

queue = typer.Typer(help="List and reorder the runs that wait for a slot.", rich_markup_mode="rich")
EXAMPLES = """
convnn run quickstart --queue
convnn queue
convnn queue move 5 1
convnn queue remove 3
"""

Positions = Annotated[list[int], typer.Argument(metavar="POSITION", min=1, help="as `convnn queue` lists it")]


@queue.callback(invoke_without_command=True)
def default(context: typer.Context, as_json: arguments.Json = False, runs: arguments.RunsFolder = None) -> None:
    """List and reorder the runs that wait for a slot; without a command list them."""
    if context.invoked_subcommand is None:
        list_(as_json, runs)


@queue.command("list")
def list_(as_json: arguments.Json = False, runs: arguments.RunsFolder = None) -> None:
    """List the entries that wait or train, and those that left the queue unfinished."""
    from convnn.sweeps.queue_view import queue_rows
    from convnn.sweeps.work import live_workers

    target = _queue(runs)
    rows, warnings = queue_rows(target)
    ended = target.ended()
    if as_json:
        entries = [_row_json(row) for row in rows]
        left = [
            {"name": entry.title, "sweep": entry.sweep, "run": entry.run, "state": entry.outcome, "cause": entry.cause}
            for entry in ended
        ]
        return write_json({"paused": target.paused, "entries": entries, "ended": left})
    for warning in warnings:
        say(f"warning: {warning}")
    if rows:
        _print_rows(rows)
    else:
        say("the queue is empty; add a run with: convnn run PRESET --queue")
    if ended:
        command = "convnn queue retry"
        if not any(entry.outcome == "failed" for entry in ended):  # without a name it adds those that failed
            command += " NAME"
        say(f"{plural(len(ended), 'entry', 'entries')} left it without being done; try again with: {command}")
        for entry in ended[:10]:
            say(f"  {entry.title}  {entry.cause}")
    if (reason := target.paused) is not None:
        say(f"paused: {reason}; convnn queue resume starts it again")
    elif rows and not live_workers(target):
        say("no worker serves it; start one: convnn work")
    return None


@queue.command()
def move(
    position: Annotated[int, typer.Argument(metavar="POSITION", min=1, help="as `convnn queue` lists it")],
    to: Annotated[int, typer.Argument(metavar="TO", min=1, help="where it should be; 1 is next")],
    runs: arguments.RunsFolder = None,
) -> None:
    """Move an entry to another position."""
    target = _queue(runs)
    (entry,) = _at(target, [position])
    target.move(entry, to)
    say(f"{entry.title} is at position {min(to, len(target.entries()[0]))}")


@queue.command()
def remove(positions: Positions, runs: arguments.RunsFolder = None) -> None:
    """Remove entries that do not train from the queue; `convnn queue undo` restores them."""
    target = _queue(runs)
    _remove(target, _at(target, positions))


@queue.command()
def clear(runs: arguments.RunsFolder = None) -> None:
    """Remove all entries that do not train; `convnn queue undo` restores them."""
    target = _queue(runs)
    _remove(target, [entry for entry in target.entries()[0] if not target.is_claimed(entry)])


@queue.command()
def undo(runs: arguments.RunsFolder = None) -> None:
    """Restore the entries that were removed last, in their places."""
    for entry in _queue(runs).undo():
        say(f"{entry.title} is back")


@queue.command()
def retry(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="name, or a part of it, as `convnn queue` lists it")
    ] = None,
    runs: arguments.RunsFolder = None,
) -> None:
    """Add unfinished entries to the queue again: those of these names, else all that failed."""
    target = _queue(runs)
    ended = target.ended()
    for name in names or []:
        if not any(name in entry.title for entry in ended):
            message = f"no entry called {name!r} left the queue without being done"
            raise UserError(message, Exit.NO_RUN, value=name, fix="list them: convnn queue")
    if names:
        selected = [entry for entry in ended if any(name in entry.title for name in names)]
    else:
        selected = [entry for entry in ended if entry.outcome == "failed"]
    if not selected:
        fix = "name one that ended otherwise, as convnn queue lists it"
        raise UserError("no entry of the queue failed", Exit.NO_RUN, fix=fix)
    target.retry(selected)
    for entry in selected:
        say(f"{entry.title} waits again")
    start_worker(target)


@queue.command()
def pause(runs: arguments.RunsFolder = None) -> None:
    """Start no more entries; those that train go on."""
    _queue(runs).pause("on request")
    say("paused: what trains goes on, nothing starts")


@queue.command()
def resume(runs: arguments.RunsFolder = None) -> None:
    """Start entries again, with a worker in the background where there is none."""
    target = _queue(runs)
    target.resume()
    waiting = len(target.entries()[0])
    if waiting:
        start_worker(target)
    say(f"{plural(waiting, 'entry', 'entries')} in the queue")


def start_worker(target: Queue, slots: int | None = None) -> None:
    """Start a worker in the background where none serves the queue; say so, or why nothing starts."""
    from convnn.sweeps.work import ensure_worker

    if (reason := target.paused) is not None:
        say(f"the queue is paused: {reason}; convnn queue resume starts it again")
    elif ensure_worker(target, slots):
        say("a worker was started in the background")
    elif slots is not None:
        say("note: the worker that is there keeps its slots; --slots is for a new one")


def _queue(runs: Path | None) -> Queue:
    from convnn.runs.run import runs_root
    from convnn.sweeps.queue import Queue

    return Queue(runs_root(runs))


def _at(target: Queue, positions: list[int]) -> list[Entry]:
    entries, _ = target.entries()
    positions = list(dict.fromkeys(positions))
    beyond = [position for position in positions if position > len(entries)]
    if beyond:
        message = f"there is no position {beyond[0]}: the queue has {plural(len(entries), 'entry', 'entries')}"
        raise UserError(message, Exit.NO_RUN, fix="list them: convnn queue")
    return [entries[position - 1] for position in positions]


def _remove(target: Queue, entries: list[Entry]) -> None:
    removed = target.remove(entries)
    if entries and not removed:
        raise UserError("they train now", Exit.HELD, fix="stop them first: convnn stop RUN")
    for entry in removed:
        say(f"{entry.title} is removed from the queue")
    if len(removed) < len(entries):
        say(f"{plural(len(entries) - len(removed), 'live run')} left alone: stop with convnn stop RUN")
    undo = "; undo with: convnn queue undo" if removed else ""
    say(f"{plural(len(removed), 'entry', 'entries')} removed{undo}")


def _print_rows(rows: list[QueueRow]) -> None:
    keys = list(dict.fromkeys(key for row in rows for key in row.options))
    columns = [Column("#", right=True), Column("name"), Column("state"), Column("left", right=True)]
    columns += [Column(key) for key in keys]
    cells = [
        [str(row.position), row.name, _state(row), _left(row), *(row.options.get(key, "") for key in keys)]
        for row in rows
    ]
    print_table(Table(columns, cells, key_columns=2), "table")


def _state(row: QueueRow) -> str:
    if row.progress is not None and row.progress.fraction is not None:
        return f"{row.state} {row.progress.fraction:.0%}"
    return row.state


def _left(row: QueueRow) -> str:
    if row.progress is None or row.progress.eta is None:
        return ""
    return duration(row.progress.eta)


def _row_json(row: QueueRow) -> dict[str, object]:
    return {
        "position": row.position,
        "name": row.name,
        "sweep": row.entry.sweep,
        "state": row.state,
        "run": row.entry.run,
        "eta": row.progress and row.progress.eta,
        "options": row.options,
    }
