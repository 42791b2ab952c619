"""`convnn import`: result directories of the original project, made into runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnn.cli import arguments
from convnn.cli.output import write_json
from convnn.errors import Exit, UserError
from convnn.terminal.console import out, say
from convnn.text import plural

if TYPE_CHECKING:
    from convnn.legacy.importer import Imported

MAX_REMARKS, MAX_REMARKS_PER_RUN = 20, 5  # lines about what was skipped; imported.json has the rest
EXAMPLES = """
convnn import ./Output
convnn import ./Output/VGG11/ConvNN --tag paper
"""


def import_runs(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="a result directory, or a tree of them")],
    *,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="WORD", help="word to find the runs by; repeatable")
    ] = None,
    as_json: arguments.Json = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Import result directories of the original project as runs.

    The metrics are kept as published, and each skipped line is reported. A run is recognized by a digest of its files:
    importing it again adds nothing, and one that grew is brought up to date.
    """
    from convnn.legacy.importer import import_tree
    from convnn.paths import typed_path
    from convnn.runs.run import runs_root

    path = typed_path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist", Exit.NO_RUN)
    if not path.is_dir():
        raise UserError(f"{path} is not a directory", fix="give the directory that it is in")
    counts: Counter[str] = Counter()
    remarks: list[str] = []
    documents: list[dict[str, Any]] = []

    def on_unreadable(error: OSError) -> None:
        remarks.append(f"{error.filename}: {error.strerror}")

    for imported in import_tree(path, runs_root(runs), tag or [], on_unreadable):
        counts[imported.outcome] += 1
        remarks += _remarks(imported)
        if as_json:
            documents.append(imported.json())
    for remark in remarks[:MAX_REMARKS]:
        say(remark)
    if len(remarks) > MAX_REMARKS:
        say(f"and {plural(len(remarks) - MAX_REMARKS, 'more remark')}: imported.json in each run has them all")
    if as_json:
        return write_json({"imported": documents})
    updated, known = counts["grown"], counts["known"]
    return out().print_line(f"{plural(counts['new'], 'run')} imported, {updated} updated, {known} known already")


def _remarks(imported: Imported) -> Iterator[str]:
    """Yield what was skipped, and why the run cannot be launched."""
    if imported.outcome == "known":
        return
    for line in islice(imported.skipped, MAX_REMARKS_PER_RUN):
        place = str(imported.source / line.file)
        if line.line:
            place += f":{line.line}"
        yield f"{place}: {line.why}"
    if len(imported.skipped) > MAX_REMARKS_PER_RUN:
        count = len(imported.skipped) - MAX_REMARKS_PER_RUN
        yield f"{imported.source}: skipped {plural(count, 'more line')}"
    if imported.reason:
        yield f"{imported.name}: not launchable: {imported.reason}"
