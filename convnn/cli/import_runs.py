"""`convnn import`: result directories of the original tool, made into runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnn.cli import arguments
from convnn.cli.console import out, say, write_json
from convnn.errors import Exit, Problem, UserError

if TYPE_CHECKING:
    from convnn.legacy.importer import Imported

SAID, SAID_OF_ONE = 20, 5  # lines about what was passed over, of all and of one; imported.json has the rest


def import_(
    path: Annotated[Path, typer.Argument(help="a result directory, or a tree of them")],
    *,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="word to find the runs by; repeatable", show_default=False)
    ] = None,
    json: arguments.Json = False,
    runs: arguments.Runs = None,
) -> None:
    """Make runs of the result directories of the original tool.

    The metrics are kept as published, and each skipped line is reported. A run is recognized by a digest of its files:
    importing it again adds nothing, and one that grew is brought up to date.
    """
    from convnn.runs.run import runs_root

    if not path.exists():
        raise UserError(f"{path} does not exist", Exit.NO_RUN)
    if not path.is_dir():
        raise UserError(Problem(f"{path} is not a directory", fix="give the directory that it is in"))
    _directories(path, runs_root(runs), tag or [], json)


def _directories(path: Path, root: Path, tags: list[str], as_json: bool) -> None:
    from convnn.legacy.importer import import_tree

    counted: Counter[str] = Counter()
    said: list[str] = []
    documents: list[dict[str, Any]] = []

    def unreadable(error: OSError) -> None:
        said.append(f"{error.filename}: {error.strerror}")

    for told in import_tree(path, root, tags, unreadable):
        counted[told.outcome] += 1
        said += _told(told)
        if as_json:
            documents.append(told.json())
    for line in said[:SAID]:
        say(line)
    if len(said) > SAID:
        say(f"and {len(said) - SAID} more of these: imported.json in each run has them all")
    if as_json:
        return write_json({"imported": documents})
    few = "run" if counted["new"] == 1 else "runs"
    return out().print_line(
        f"{counted['new']} {few} imported, {counted['grown']} brought up to date, {counted['known']} known already"
    )


def _told(told: Imported) -> list[str]:
    """What has to be said of one: what was passed over, and why it cannot be launched."""
    if told.outcome == "known":
        return []
    lines = [f"{told.source / each.file}{f':{each.line}' if each.line else ''}: {each.why}" for each in told.passed]
    if len(lines) > SAID_OF_ONE:
        lines[SAID_OF_ONE:] = [f"{told.source}: {len(lines) - SAID_OF_ONE} more lines were passed over"]
    return lines + ([f"{told.name}: not launchable: {told.reason}"] if told.reason else [])
