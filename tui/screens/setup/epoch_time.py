"""How long an epoch takes: from past runs of the same model on this host, or from steps timed in a child process."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from convnn import hardware
from convnn.config.active import active_options
from convnn.config.schema import RunConfig
from convnn.config.toml import dumps
from convnn.errors import UserError
from convnn.runs.run import Run
from convnn.runs.summary import Summary
from convnn.text import duration, plural
from tui.process.child import ChildResult, run_module

TIMEOUT = 180.0  # seconds that timing may take
MAX_RUNS = 3  # past runs that are used, the newest first
WITHOUT_COST = frozenset(
    {
        "training.num_epochs", "training.seed", "training.criterion", "training.clip_grad_norm",
        "training.label_smoothing", "training.early_stop",
        "optimizer.lr", "optimizer.weight_decay", "optimizer.momentum",
        "scheduler.name", "scheduler.step", "scheduler.gamma", "scheduler.warmup_epochs",
    }
)  # fmt: skip
"""Options that do not change how long an epoch takes."""


@dataclass(frozen=True)
class EpochTime:
    """Seconds of an epoch, evaluation included, and how that is known."""

    seconds: float
    source: str


def from_past_runs(config: RunConfig, runs: Iterable[Summary], host: str | None = None) -> EpochTime | None:
    """The median epoch time of the newest runs of the same model on this host; None without such a run."""
    host = host or hardware.host_name()
    costly_options = _costly_options(config)
    medians: list[float] = []
    for summary in runs:
        if summary.epoch == 0 or summary.config.get("model", {}).get("name") != config.model.name:
            continue
        median = _median_epoch_time(summary.run, costly_options, host)
        if median is not None:
            medians.append(median)
        if len(medians) == MAX_RUNS:
            break
    if not medians:
        return None
    source = "from a past run" if len(medians) == 1 else f"from {len(medians)} past runs"
    return EpochTime(statistics.median(medians), source)


def _median_epoch_time(run: Run, costly_options: dict[str, object], host: str) -> float | None:
    """The median epoch time of a run, in seconds; None for one of another model or host, or a damaged one."""
    try:
        if _costly_options(run.config()) != costly_options:
            return None
        history = run.history(steps=False)
    except (UserError, OSError):
        return None
    if history.started is None or history.started.host != host:
        return None
    times = [epoch.metrics.get("train_s", 0.0) + epoch.metrics.get("eval_s", 0.0) for epoch in history.epochs]
    if not any(times):
        return None
    return statistics.median(filter(None, times))


def _costly_options(config: RunConfig) -> dict[str, object]:
    return {key: value for key, value in active_options(config).items() if key not in WITHOUT_COST}


async def from_timed_steps(config: RunConfig) -> EpochTime:
    """Time a few real steps in a child process. Raises UserError that says why it could not be done."""
    text = dumps(config, whole=True)
    try:
        child = await run_module("tui.screens.setup.timing_probe", stdin=text, timeout=TIMEOUT)
    except TimeoutError as error:
        raise UserError(f"a few steps take longer than {duration(TIMEOUT)}") from error
    if child.code != 0:
        raise UserError(f"timing failed: {_cause(child)}")
    result = json.loads(child.out.splitlines()[-1])
    return EpochTime(result["epoch_s"], f"from {plural(result['steps'], 'step')} timed on {result['device']}")


def _cause(child: ChildResult) -> str:
    """The error message of the child in one line: what follows "error: ", else the last line of a traceback."""
    lines = child.err.strip().splitlines() or [f"exit code {child.code}"]
    first = next((index for index, line in enumerate(lines) if line.startswith("error: ")), -1)
    return " ".join(" ".join(lines[first:]).removeprefix("error: ").split())
