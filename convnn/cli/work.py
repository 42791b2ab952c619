"""`convnn work`: train what is in the queue."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Annotated

import typer

from convnn.cli import arguments
from convnn.errors import Exit, UserError
from convnn.terminal.console import say
from convnn.text import plural

EXAMPLES = """
convnn work
convnn work --slots 2 --threads 4
convnn work --stop
"""


def work(
    slots: arguments.Slots = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="CPU threads a run, else an equal share")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="end when the queue is empty")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="have the workers end when their runs have ended")] = False,
    now: Annotated[bool, typer.Option("--now", help="with --stop: the runs save and end too")] = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Train the runs in the queue, one per slot; ctrl+c ends this worker, and its runs go on."""
    from convnn.runs.file_lock import flock_warnings
    from convnn.runs.run import runs_root
    from convnn.sweeps.queue import Queue
    from convnn.sweeps.slots import machine_slots
    from convnn.sweeps.work import Worker, stop_workers
    from convnn.worker.detached import serve

    queue = Queue(runs_root(runs))
    if stop:
        count = stop_workers(queue, now=now)
        if not count:
            raise UserError(f"no worker serves {queue.folder}", Exit.NO_RUN)
        moment = "after saving its runs" if now else "after its runs"
        return say(f"{plural(count, 'worker')} will end {moment}")
    arguments.refuse_without({"--now": now}, "--stop")
    places = machine_slots(slots, threads)
    with Worker(queue, places, say) as worker:
        for warning in flock_warnings():
            say(f"warning: {warning}")
        say(f"{plural(len(places), 'slot')}: {', '.join(slot.name for slot in places)}; queue {queue.folder}")
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _end)
        serve(lambda: worker.step() or not (once or worker.command is not None), say)
    return None


def _end(number: int, frame: FrameType | None) -> None:
    raise typer.Exit(128 + number)  # the runs are detached and go on
