"""`convnn doctor`: what works on this machine, by trying it."""

from __future__ import annotations

from typing import Annotated

import typer

from convnn.cli import arguments
from convnn.cli.output import write_json
from convnn.errors import Exit
from convnn.terminal.console import out, say

MARKS = {True: "✓", False: "✗", None: " "}
EXAMPLES = """
convnn doctor
convnn doctor --deep --data_path ~/data
"""


def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="kill and resume one small run five times")] = False,
    data_path: Annotated[str, typer.Option("--data_path", metavar="DIR", help="folder of the data sets")] = "./Data",
    as_json: arguments.Json = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Check versions, device, mixed precision, compilation, storage and data sets.

    The exit code is 1 if anything that a run needs does not work.
    """
    from convnn.runs.run import runs_root

    if not as_json:
        say("loading torch ...")
    from convnn.worker import doctor as checks

    root, findings = runs_root(runs), []

    def report(finding: checks.Finding) -> None:
        findings.append(finding)
        if not as_json:
            out().print_line(f"{MARKS[finding.ok]} {finding.name:<14} {finding.message}")

    for finding in checks.findings(root, data_path):
        report(finding)
    if deep:
        report(checks.deep(root, say))
    if as_json:
        write_json({"findings": [finding.json() for finding in findings]})
    raise typer.Exit(Exit.FAILED if any(finding.ok is False for finding in findings) else Exit.DONE)
