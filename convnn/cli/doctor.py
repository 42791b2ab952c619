"""`convnn doctor`: what works on this machine, tried and not guessed."""

from __future__ import annotations

from typing import Annotated

import typer

from convnn.cli.arguments import RunsOption
from convnn.cli.console import out, say, write_json
from convnn.errors import Exit

MARKS = {True: "✓", False: "✗", None: " "}


def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="kill and resume one small run five times")] = False,
    data_path: Annotated[str, typer.Option("--data_path", help="where data sets are looked for")] = "./Data",
    json: Annotated[bool, typer.Option("--json", help="one JSON document")] = False,
    runs: RunsOption = None,
) -> None:
    """Versions, device, mixed precision and compilation on a small model, storage, data sets.

    Exit code 1 if anything that a run needs does not work.
    """
    from convnn.runs.run import runs_root

    if not json:
        say("loading torch ...")
    from convnn.worker import doctor as look

    place, console = runs_root(runs), out()
    found = []

    def tell(finding: look.Finding) -> None:
        found.append(finding)
        if not json:
            console.print_line(f"{MARKS[finding.ok]} {finding.name:<14} {finding.said}")

    for finding in look.findings(place, data_path):
        tell(finding)
    if deep:
        tell(look.deep(place, (lambda line: None) if json else say))
    if json:
        write_json({"findings": [finding.json() for finding in found]})
    raise typer.Exit(Exit.FAILED if any(finding.ok is False for finding in found) else Exit.DONE)
