"""Commands about one run: `convnn show`, `stop`, `note`."""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnn.cli.arguments import RunArgument, RunsOption
from convnn.cli.console import out, say, write_json
from convnn.errors import UserError

if TYPE_CHECKING:
    from convnn.runs.run import Run

POLL = 0.5  # seconds between two looks at a run of another process


def _find(ref: str, runs: Path | None) -> Run:
    from convnn.runs.find import find_run
    from convnn.runs.run import runs_root

    return find_run(ref, runs_root(runs))


def show(
    run: RunArgument = "@last",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="stay with a live run until it ends")] = False,
    everything: Annotated[bool, typer.Option("--all", help="also options at their defaults")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="with --follow: one line an epoch")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON document")] = False,
    runs: RunsOption = None,
) -> None:
    """Configuration, status, figures and curves of a run."""
    found = _find(run, runs)
    if follow and not json:
        return _follow(found, plain)
    history = found.history()
    for byte, reason in history.skipped_lines:
        say(f"warning: {found.events_path}: byte {byte}: {reason}")
    if json:
        from convnn.runs.summary import summary_json

        epochs = [{"epoch": e.epoch, **e.model_dump(mode="json")["metrics"]} for e in history.epochs]
        return write_json({"run": summary_json(found), "epochs": epochs})
    from convnn.terminal.panels import RunReport

    out().print(RunReport(found.name, found.status(), found.sections(), history, found.import_record(), everything))
    return None


def _follow(run: Run, plain: bool) -> None:
    """Show what the run's file tells, as it is told, until a final event or until nobody trains it any more."""
    from convnn.runs import event_log
    from convnn.terminal.live import run_view

    config = run.sections()
    words = [
        config.get(section, {}).get(key) for section, key in (("model", "name"), ("layer", "type"), ("data", "dataset"))
    ]
    about = " ".join(str(word) for word in words if word)
    byte = 0
    with run_view(run.name, about, plain=plain) as shown:
        while True:
            alive = run.status() in (
                "running",
                "paused",
            )  # asked before reading: what is written after is read next time
            new, byte, _ = event_log.read_events(run.events_path, byte) if run.events_path.exists() else ([], byte, [])
            for event in new:
                shown.show(event)
            if not alive:
                break
            time.sleep(POLL)
    if run.status() == "died":
        say(f"{run.name} died: its process is gone; convnn resume {run.name}")


def stop(
    run: RunArgument,
    after_epoch: Annotated[bool, typer.Option("--after-epoch", help="let it finish the epoch first")] = False,
    runs: RunsOption = None,
) -> None:
    """Ask a running run to stop after this step, or after this epoch; it can be resumed."""
    from convnn.runs import control

    found = _find(run, runs)
    command = control.ControlCommand.STOP_EPOCH if after_epoch else control.ControlCommand.STOP
    control.send(found.path, command)
    out().print_line(f"{found.name} was asked to stop after {'this epoch' if after_epoch else 'this step'}")


def note(run: RunArgument, text: Annotated[str, typer.Argument(help="one line")], runs: RunsOption = None) -> None:
    """Write a line into the history of a run, with the time and your name."""
    from convnn import events
    from convnn.runs import event_log

    line = " ".join(text.split())
    if not line:
        raise UserError("the note is empty")
    found = _find(run, runs)
    event_log.append_event(found.events_path, events.Changed(description=line, by=getpass.getuser()))
    out().print_line(f"noted in {found.name}")
