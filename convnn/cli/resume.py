"""`convnn resume`: continue a run from its last good checkpoint, or fork a new run from there."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

import typer

from convnn.cli import arguments
from convnn.cli.end_hooks import EndHooks
from convnn.cli.run import TrainFlags, follow_step, train
from convnn.hardware import check_device
from convnn.presets.resolve import resolve_with_data
from convnn.terminal.console import say

EXAMPLES = """
convnn resume
convnn resume 3f2a --plain
convnn resume 3f2a --fork --lr 1e-4
"""


def resume(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="run to continue; without it the newest unfinished one",
            autocompletion=arguments.complete_resumable_runs,
        ),
    ] = None,
    *,
    typed: dict[str, Any],
    fork: Annotated[
        bool, typer.Option("--fork", help="make a new run from the checkpoint; its options may differ")
    ] = False,
    plain: arguments.Plain = False,
    live: arguments.Live = False,
    as_json: arguments.JsonEvents = False,
    debug: arguments.Debug = False,
    max_minutes: arguments.MaxMinutes = None,
    requeue: arguments.Requeue = False,
    take_over: arguments.TakeOver = False,
    on_finish: arguments.OnFinish = None,
    no_notify: arguments.NoNotify = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Continue a run that was stopped, interrupted, failed or died.

    On the same machine the finished run has the weights and metrics it would have had undisturbed, bit for bit. Without
    --fork only the device, threads, workers and the path of the data may differ. A finished run is trained for more
    epochs with --fork --num_epochs N: the new run continues with the weights, the optimizer state and the schedule.
    """
    from convnn.config.active import active_options
    from convnn.runs.file_lock import inherited
    from convnn.runs.lock import LOCK_FILE, lock_run
    from convnn.runs.resume import check_nothing_left, check_same_config, more_epochs, resumable_run, with_data_path
    from convnn.runs.run import runs_root

    hooks = EndHooks(on_finish, not (no_notify or as_json))
    if run is None:
        follow_step(None)  # the first task may have chosen a run already, which this one would pass over
    target = resumable_run(run, runs_root(runs))
    recorded = with_data_path(target, target.config())
    resolved = resolve_with_data(None, typed, base=recorded)
    if fork:
        arguments.refuse({"--take-over": take_over}, "--fork")
    follow_step(resolved.config)
    is_done = not fork and target.recorded_status() == "done"
    if not is_done:
        check_device(resolved.config.runtime.device)
    if fork:
        from convnn.worker.fork import fork_run

        source = target
        target, notes = fork_run(source, resolved.checked(), runs_root(runs))
        for line in [f"{target.name} continues from {source.name}", *notes]:
            say(line)
    elif is_done:
        check_nothing_left(target, active_options(recorded), resolved.config)
        say(f"{target.name} is finished: there is nothing left to do")
        return say(more_epochs(target, recorded))
    else:
        check_same_config(target, active_options(recorded), resolved.config)
        if not take_over and inherited(target.path / LOCK_FILE) is None:
            with suppress(OSError), lock_run(target.path):  # raises UserError where another process trains it
                pass
        say(f"continuing {target.name}")
    config = recorded  # rules of a later version must not end a run
    if typed:
        config = resolved.checked()
    flags = TrainFlags(plain, live, as_json, debug, max_minutes, requeue, take_over)
    raise typer.Exit(train(target, config, hooks, flags, resume=True))
