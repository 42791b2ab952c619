"""Which run to resume, whether it may be resumed under a configuration, and the command that resumes it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnn.config import command_line
from convnn.config.active import active_options
from convnn.config.diff import config_diff
from convnn.errors import Exit, Problem, UserError
from convnn.runs.find import find_run, list_runs
from convnn.runs.run import Run, runs_root
from convnn.runs.slurm_jobs import QUEUED, REQUEUED
from convnn.runs.status import STATUSES
from convnn.text import plural

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig
    from convnn.runs.history import History


def resumable_run(reference: str | None, root: Path) -> Run:
    """Return the run that a person refers to, else the newest unfinished one.

    Raises UserError where there is none, or where it was trained by the original tool.
    """
    if reference is not None:
        run = find_run(reference, root)
        if run.imported:
            fix = f"{shlex.join(['convnn', 'run', str(run.config_path)])} trains its configuration anew"
            raise UserError(f"{run.name} is imported: it has no weights to resume from", fix=fix)
        return run
    for run in list_runs(root)[0]:
        try:
            status = run.status()
            if run.failed_early():
                continue  # it would fail again
        except UserError:
            continue  # damaged, which lists say
        if status not in ("done", QUEUED, REQUEUED) and not STATUSES[status].is_live and not run.imported:
            return run
    raise UserError(f"there is no unfinished run in {root}", Exit.NO_RUN, fix="start one: convnn run")


def with_data_path(run: Run, config: RunConfig, history: History | None = None) -> RunConfig:
    """Return the configuration of a run with the absolute path at which it read its data, if that still exists.

    So a run whose path is relative goes on from another folder. Where the recorded path is gone, or `config` has
    another path than the run, the path is used as it is.
    """
    started = (history or run.history(steps=False)).started
    if started is None or not started.data_path or config.data.path != run.config().data.path:
        return config
    recorded = Path(started.data_path)
    if recorded == Path(config.data.path).expanduser().absolute() or not recorded.is_dir():
        return config
    return config.with_values({"data.path": str(recorded)})


def check_same_config(run: Run, before: Mapping[str, Any], config: RunConfig) -> None:
    """Raise UserError with every difference between the active options of a run and `config`."""
    if problems := config_diff(before, config):
        options = "these options as they were"
        if len(problems) == 1:
            options = "this option as it was"
        fix = f"leave {options}, or fork a new run: {_fork_command(run, problems, config)}"
        raise UserError([*problems[:-1], replace(problems[-1], fix=fix)])


def check_nothing_left(run: Run, before: Mapping[str, Any], config: RunConfig) -> None:
    """Raise UserError where a finished run is to be resumed with other options than it has, such as more epochs."""
    problems = config_diff(before, config)
    if not problems:
        return
    epochs, done = config.training.num_epochs, len(run.history(steps=False).epochs)
    if epochs <= done:
        message = f"{run.name} is finished: it has done {plural(done, 'epoch')} already"
        raise UserError(message, key="training.num_epochs", value=epochs, fix=more_epochs(run, config))
    fix = f"train on as a new run, from its last checkpoint: {_fork_command(run, problems, config)}"
    problems = [Problem(f"{run.name} is finished", key=problems[0].key, fix=fix), *problems]
    if (note := cosine_note(before, config, done)) is not None:
        problems.append(Problem(note, key="scheduler.name"))
    raise UserError(problems)


def more_epochs(run: Run, config: RunConfig) -> str:
    """Return a sentence that says how a finished run is trained for more epochs, one that stopped early for all."""
    done = len(run.history(steps=False).epochs)
    flags = ["--num_epochs", str(2 * done)]
    if done < config.training.num_epochs:
        flags = ["--early_stop", "none"]
    return f"for more epochs: {resume_command(run, flags)}"


def cosine_note(before: Mapping[str, Any], config: RunConfig, done: int) -> str | None:
    """Return what becomes of the learning rate where a cosine schedule is stretched after `done` epochs; else None."""
    epochs = config.training.num_epochs
    if config.scheduler.name != "cosine" or before.get("scheduler.name") != "cosine":
        return None
    warmup = config.scheduler.warmup_epochs
    if before["training.num_epochs"] == epochs or done < warmup:
        return None
    spans = (before["training.num_epochs"], epochs)
    rates = [_cosine_rate(config.optimizer.lr, done - warmup, max(1, span - warmup)) for span in spans]
    span = plural(epochs, "epoch")
    return f"the cosine schedule spans {span} now: the learning rate was {rates[0]:.3g}, it is {rates[1]:.3g}"


def _cosine_rate(rate: float, epoch: int, epochs: int) -> float:
    return rate * (1 + math.cos(math.pi * epoch / epochs)) / 2


def _fork_command(run: Run, problems: Sequence[Problem], config: RunConfig) -> str:
    """Return the command that forks a run with the options that differ."""
    keys = [problem.key for problem in problems if problem.key in active_options(config)]
    if not keys:
        return f"{resume_command(run)} --fork"
    return resume_command(run, command_line.flags(config, keys))


def resume_command(run: Run, flags: Sequence[str] = (), config: RunConfig | None = None) -> str:
    """Return the command that resumes a run or, with flags, forks it; without a checkpoint flags start it anew.

    Where the directory of the run has vanished, it is the command that makes a run of `config`.
    """
    if config is not None and not run.config_path.is_file():
        return command_line.command(config)
    if flags and not run.has_checkpoint:
        return shlex.join(["convnn", "run", str(run.config_path), *flags])
    reference = f"{run.path}/"
    if run.path.parent == runs_root():
        reference = run.name
    if flags:
        flags = ["--fork", *flags]
    return shlex.join(["convnn", "resume", reference, *flags])
