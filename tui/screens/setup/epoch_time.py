"""How long an epoch takes: from runs of the same model on this device, or from a few real steps in a child process."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from convnn.config.active import active_options
from convnn.config.schema import RunConfig
from convnn.config.toml import dumps
from convnn.errors import UserError
from convnn.runs.run import Run
from convnn.runs.summary import Summary
from convnn.text import duration, escaped

PATIENCE = 180.0  # seconds that timing may take
RUNS = 3  # of the same model, the newest, that are asked
APART = ("training.num_epochs", "training.seed", "training.criterion", "training.clip_grad_norm")  # cost the same
FREE = (
    "optimizer.lr",
    "optimizer.weight_decay",
    "optimizer.momentum",
    "scheduler.name",
    "scheduler.step",
    "scheduler.gamma",
)


@dataclass(frozen=True)
class Pace:
    """Seconds of an epoch, evaluation included, and where that is known from."""

    seconds: float
    source: str


def past(config: RunConfig, runs: Iterable[Summary], host: str | None = None) -> Pace | None:
    """The pace of the newest runs of the same model on this device and host; None without one."""
    host = host or socket.gethostname()
    wanted, found = _cost(config), []
    for summary in runs:
        if summary.epoch == 0 or summary.config.get("model", {}).get("name") != config.model.name:
            continue
        run = Run(Path(summary.path), summary.name)
        try:
            if _cost(run.config()) != wanted:
                continue
            history = run.history(steps=False)
        except (UserError, OSError):
            continue  # damaged: Home says so
        if history.started is None or history.started.host != host:
            continue
        times = [epoch.metrics.get("train_s", 0.0) + epoch.metrics.get("eval_s", 0.0) for epoch in history.epochs]
        if any(times):
            found.append(statistics.median(time for time in times if time))
        if len(found) == RUNS:
            break
    if not found:
        return None
    return Pace(statistics.median(found), "from a past run" if len(found) == 1 else f"from {len(found)} past runs")


def _cost(config: RunConfig) -> dict[str, object]:
    """What decides how long an epoch takes."""
    return {key: value for key, value in active_options(config).items() if key not in APART + FREE}


async def timed(config: RunConfig) -> Pace:
    """Time a few real steps in a child process. Raises UserError that says why it could not be done."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tui.screens.setup.timing_probe",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(child.communicate(dumps(config, whole=True).encode()), PATIENCE)
    except TimeoutError as error:
        raise UserError(f"a few steps take longer than {duration(PATIENCE)}") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        lines = err.decode(errors="replace").strip().splitlines() or [f"exit code {child.returncode}"]
        first = next((at for at, line in enumerate(lines) if line.startswith("error: ")), -1)  # else of a traceback
        said = " ".join(" ".join(lines[first:]).removeprefix("error: ").split())
        raise UserError(f"timing failed: {escaped(said)}")
    told = json.loads(out.splitlines()[-1])
    return Pace(told["epoch_s"], f"from {told['steps']} steps timed on {told['device']}")
