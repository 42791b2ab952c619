"""`convnn resume`: go on with a run where its last good checkpoint left it."""

from __future__ import annotations

from typing import Annotated

import typer

from convnn.commands import complete
from convnn.commands.console import say
from convnn.commands.run import RunsOption, farewell, train
from convnn.errors import Exit, UserError, escaped


def resume(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="else the newest unfinished one", autocompletion=complete.runs),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="one line an epoch")] = False,
    live: Annotated[bool, typer.Option("--live", help="live panes even where CI is set")] = False,
    json: Annotated[bool, typer.Option("--json", help="events as JSON lines on stdout")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of a failure")] = False,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", min=0, help="stop, resumable, after this time")
    ] = None,
    runs: RunsOption = None,
) -> None:
    """Go on with a run that was stopped, interrupted, or died."""
    from convnn.runs import find, list_runs, root

    place = root(runs)
    if run is not None:
        found = find(run, place)
    else:
        unfinished = [r for r in list_runs(place)[0] if r.status() not in ("done", "running", "paused")]
        if not unfinished:
            raise UserError(f"there is no unfinished run in {escaped(place)}", Exit.NO_RUN)
        found = unfinished[0]
    if found.status() == "done":
        say(f"{escaped(found.name)} is finished: nothing is left to do")
        return
    say(f"going on with {escaped(found.name)}")
    config = found.config()
    ended = train(found, config, plain=plain, live=live, as_json=json, resume=True, max_minutes=max_minutes)
    farewell(ended, debug)
    raise typer.Exit(ended.code)
