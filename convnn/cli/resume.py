"""`convnn resume`: go on with a run where its last good checkpoint left it, or fork a new run from there."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from convnn.cli import arguments
from convnn.cli.arguments import RunsOption
from convnn.cli.console import say
from convnn.cli.run import farewell, train
from convnn.presets.resolve import resolve_with_data


def resume(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="else the newest unfinished one", autocompletion=arguments.runs),
    ] = None,
    *,
    typed: dict[str, Any],
    fork: Annotated[
        bool, typer.Option("--fork", help="make a new run from the checkpoint; its options may differ")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="one line an epoch")] = False,
    live: Annotated[bool, typer.Option("--live", help="live panes even where CI is set")] = False,
    json: Annotated[bool, typer.Option("--json", help="events as JSON lines on stdout")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of a failure")] = False,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", min=0, help="stop, resumable, after this time")
    ] = None,
    runs: RunsOption = None,
) -> None:
    """Go on with a run that was stopped, interrupted, failed or died.

    On the same machine the finished run has the weights and figures it would have had undisturbed, bit for bit. Without
    --fork only device, threads, workers and the path of the data may be given.
    """
    from convnn.config.active import active_options
    from convnn.runs import resume as runs_resume
    from convnn.runs.run import runs_root

    found = runs_resume.resumable_run(run, runs_root(runs))
    before = found.config()
    resolved = resolve_with_data(None, typed, base=before)
    if fork:
        from convnn.worker.fork import fork as forked

        source, (found, said) = found, forked(found, resolved.checked(), runs_root(runs))
        for sentence in [f"{found.name} goes on from {source.name}", *said]:
            say(sentence)
    elif found.status() == "done":
        return say(f"{found.name} is finished: nothing is left to do")
    else:
        runs_resume.check_same_config(found, active_options(before), resolved.config)
        say(f"going on with {found.name}")
    config = resolved.checked() if typed else before  # what a later version thinks of its rules ends no run
    ended = train(found, config, plain=plain, live=live, as_json=json, resume=True, max_minutes=max_minutes)
    farewell(found, ended, config, debug)
    raise typer.Exit(ended.code)
