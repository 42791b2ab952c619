"""`convnn import`: result directories of the original tool, or a table of figures, made into runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnn.cli import arguments
from convnn.cli.console import say, write_json
from convnn.errors import Exit, Problem, UserError
from convnn.runs.text_files import ARGS, RESULTS
from convnn.text import escaped

if TYPE_CHECKING:
    from convnn.legacy.importer import Imported

SAID, SAID_OF_ONE = 20, 5  # lines about what was passed over, of all and of one; imported.json has the rest
OUTCOMES = {"new": "imported", "grown": "brought up to date", "known": "known already"}

METRICS = (
    *(f"{split}_{name}" for split in ("train", "test", "val") for name in ("loss", "top1", "top5")),
    *("lr", "grad_norm", "train_s", "eval_s"),
)
Column = Annotated[
    str | None, typer.Option(metavar="COL", help="FILE.csv: the column of this figure", show_default=False)
]


def import_(
    path: Annotated[Path, typer.Argument(help="a result directory, a tree of them, or FILE.csv")],
    *,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="word to find the runs by; repeatable", show_default=False)
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="FILE.csv: the configuration the figures are of", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="FILE.csv: name of the run, else that of the file", show_default=False)
    ] = None,
    epoch: Column = None,
    train_loss: Column = None,
    train_top1: Column = None,
    train_top5: Column = None,
    test_loss: Column = None,
    test_top1: Column = None,
    test_top5: Column = None,
    val_loss: Column = None,
    val_top1: Column = None,
    val_top5: Column = None,
    lr: Column = None,
    grad_norm: Column = None,
    train_s: Column = None,
    eval_s: Column = None,
    json: arguments.Json = False,
    runs: arguments.Runs = None,
) -> None:
    """Make runs of what the original tool left behind: figures as published, what is passed over said.

    A run is known by a digest of its files: importing it again adds nothing, and one that grew is brought up to date.
    """
    from convnn.runs.run import root

    given = dict(locals())
    columns = {metric: given[metric] for metric in METRICS if given[metric] is not None}
    if not path.exists():
        raise UserError(f"{escaped(path)} does not exist", Exit.NO_RUN)
    if path.is_dir():
        if columns or epoch or preset or name:
            raise UserError(
                Problem("columns, --preset and --name are for FILE.csv", fix="leave them out for a directory")
            )
        return _directories(path, root(runs), tag or [], json)
    if path.name in (ARGS, RESULTS):
        raise UserError(Problem(f"{escaped(path)} is a part of a run", fix="give the directory that it is in"))
    return _table(path, root(runs), {"epoch": epoch or "epoch", **columns}, preset, name, tag or [], json)


def _directories(path: Path, root: Path, tags: list[str], as_json: bool) -> None:
    from convnn.legacy.importer import import_tree

    counted: Counter[str] = Counter()
    said: list[str] = []
    documents: list[dict[str, Any]] = []

    def unreadable(error: OSError) -> None:
        said.append(f"{escaped(error.filename)}: {error.strerror}")

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
    return typer.echo(
        f"{counted['new']} {few} imported, {counted['grown']} brought up to date, {counted['known']} known already"
    )


def _told(told: Imported) -> list[str]:
    """What has to be said of one: what was passed over, and why it cannot be launched."""
    if told.outcome == "known":
        return []
    lines = [
        f"{escaped(told.source / each.file)}{f':{each.line}' if each.line else ''}: {escaped(each.why)}"
        for each in told.passed
    ]
    if len(lines) > SAID_OF_ONE:
        lines[SAID_OF_ONE:] = [f"{escaped(told.source)}: {len(lines) - SAID_OF_ONE} more lines were passed over"]
    return lines + ([f"{escaped(told.name)}: not launchable: {escaped(told.reason)}"] if told.reason else [])


def _table(
    path: Path,
    root: Path,
    columns: dict[str, str],
    preset: str | None,
    name: str | None,
    tags: list[str],
    as_json: bool,
) -> None:
    from convnn.legacy.csv_file import import_csv
    from convnn.presets.resolve import resolve
    from convnn.presets.store import read

    config = None if preset is None else resolve(read(preset)).checked()
    told = import_csv(path, root, columns, config=config, name=name, tags=tags)
    for line in _told(told):
        say(line)
    if as_json:
        return write_json({"imported": [told.json()]})
    return typer.echo(f"{told.name}: {told.epochs} epochs, {OUTCOMES[told.outcome]}")
