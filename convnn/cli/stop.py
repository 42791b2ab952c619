"""`convnn stop`: ask a running run to stop; it can be resumed."""

from __future__ import annotations

from typing import Annotated

import typer

from convnn.cli import arguments
from convnn.terminal.console import out

EXAMPLES = """
convnn stop @last
convnn stop 3f2a --after-epoch
"""


def stop(
    run: arguments.LiveRun,
    after_epoch: Annotated[bool, typer.Option("--after-epoch", help="let it finish the epoch first")] = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Stop a run after its step, or cancel the Slurm job that it waits for; it can be resumed."""
    from convnn.runs.control import ControlCommand, send
    from convnn.runs.find import find_run
    from convnn.runs.lock import is_locked
    from convnn.runs.run import runs_root
    from convnn.sweeps.stop import stop_job

    target = find_run(run, runs_root(runs))
    if not is_locked(target.path) and (job := stop_job(target.path)) is not None:
        return out().print_line(f"job {job}, which was to train {target.name}, is canceled")
    command, unit = ControlCommand.STOP, "step"
    if after_epoch:
        command, unit = ControlCommand.STOP_EPOCH, "epoch"
    send(target.path, command)
    return out().print_line(f"{target.name} stops after this {unit}")
