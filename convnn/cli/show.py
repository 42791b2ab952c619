"""`convnn show`: status, metrics, curves and configuration of a run; with --follow a live run until it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnn.cli import arguments
from convnn.cli.output import print_table, write_json
from convnn.errors import Exit
from convnn.runs.status import STATUSES
from convnn.terminal.console import out, say

if TYPE_CHECKING:
    from convnn.runs.run import Run

POLL_SECONDS = 0.5  # between two looks at a run of another process
EXAMPLES = """
convnn show @last
convnn show 3f2a --follow
convnn show @last --layers
convnn show @best:test_top1 --json
"""


def show(
    run: arguments.Run = "@last",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="stay with a live run until it ends")] = False,
    all_options: Annotated[bool, typer.Option("--all", help="also show options at their defaults")] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="only what its layers choose: the latest statistics of each")
    ] = False,
    plain: arguments.Plain = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON document, with --follow the events as JSON lines")
    ] = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Show status, metrics, curves and configuration of a run."""
    from convnn.runs.file_lock import flock_warnings
    from convnn.runs.find import find_run
    from convnn.runs.run import runs_root

    if not follow:
        arguments.refuse_without({"--plain": plain}, "--follow")
    if layers:
        arguments.refuse({"--follow": follow, "--all": all_options}, "--layers")
    target = find_run(run, runs_root(runs))
    if follow:
        return _follow(target, plain=plain, as_json=as_json)
    history = target.history()
    for byte, reason in history.skipped_lines:
        say(f"warning: {target.events_path}: byte {byte}: {reason}")
    if as_json:
        document = run_json(target)
        if layers:
            document["layers"] = [event.model_dump(exclude={"time"}) for event in history.layer_statistics]
        return write_json(document)
    if layers:
        from convnn.terminal.layer_report import NO_STATISTICS, layer_table

        if not history.layer_statistics:
            return say(f"{target.name}: {NO_STATISTICS}")
        return print_table(layer_table(history), "table")
    from convnn.terminal.panes import RunReport

    status = target.status()
    host = target.remote_host if STATUSES[status].is_live else None
    for warning in flock_warnings():
        say(f"warning: {warning}")
    out().print(
        RunReport(target.name, status, target.sections(), history, target.import_record(), all_options, host=host)
    )
    return None


def run_json(run: Run) -> dict[str, Any]:
    """Return the summary, the code and the epochs of a run as JSON values."""
    from convnn.runs.summary import summary_json

    history = run.history()
    epochs = [{"epoch": epoch.epoch, **epoch.metrics} for epoch in history.epochs]
    return {"run": summary_json(run), "code": history.code_json(), "epochs": epochs}


@contextmanager
def leaving_the_run_alone(run: Run) -> Iterator[None]:
    """End at ctrl+c with a word on the run, which its own process goes on to train."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"no longer following {run.name}, which continues; stop it with: convnn stop {run.name}")
        raise typer.Exit(Exit.INTERRUPTED) from None


def _follow(run: Run, *, plain: bool, as_json: bool) -> None:
    """Show the events of a run as they are written, until a final one or until its process is gone."""
    from convnn.runs.history import History
    from convnn.terminal.live import FOLLOW_HINT, run_view

    config = run.sections()
    words = [config.get(section, {}).get(key) for section, key in (("model", "name"), ("layer", "type"))]
    words.append(config.get("data", {}).get("dataset"))
    about = " ".join(str(word) for word in words if word)
    history = History()
    view = run_view(run.name, about, history=history, plain=plain, json=as_json, hint=FOLLOW_HINT)
    with view, leaving_the_run_alone(run):
        while True:
            # checked before reading: what is written after that is read in the next round
            trains = STATUSES[run.status()].is_live
            for event in history.read(run.events_path):
                history.fold([event])
                view.show(event)
            if not trains:
                break
            time.sleep(POLL_SECONDS)
    if run.status() == "died":
        say(f"{run.name} died: its process is gone; resume with: convnn resume {run.name}")
