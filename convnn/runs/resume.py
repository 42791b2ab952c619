"""Which run to resume, whether it may be resumed under a configuration, and the command that resumes it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnn.config import command_line
from convnn.config.diff import config_diff
from convnn.errors import Exit, Problem, UserError
from convnn.runs.find import find_run, list_runs
from convnn.runs.run import Run, runs_root
from convnn.runs.status import STATUSES

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
            raise UserError(Problem(f"{run.name} is imported: it has no weights to resume from", fix=fix))
        return run
    for run in list_runs(root)[0]:
        try:
            status = run.status()
            if run.failed_early():
                continue  # it would fail again
        except UserError:
            continue  # damaged, which lists say
        if status != "done" and not STATUSES[status].is_live and not run.imported:
            return run
    raise UserError(Problem(f"there is no unfinished run in {root}", fix="start one: convnn run"), Exit.NO_RUN)


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
    return config.model_copy(update={"data": config.data.model_copy(update={"path": str(recorded)})})


def check_same_config(run: Run, before: Mapping[str, Any], config: RunConfig) -> None:
    """Raise UserError with every difference between the active options of a run and `config`."""
    if problems := config_diff(before, config):
        options = "this option as it was" if len(problems) == 1 else "these options as they were"
        fix = f"leave {options}, or fork a new run: {resume_command(run)} --fork"
        raise UserError([*problems[:-1], replace(problems[-1], fix=fix)])


def resume_command(run: Run, flags: Sequence[str] = (), config: RunConfig | None = None) -> str:
    """Return the command that resumes a run or, with flags, forks it; without a checkpoint flags start it anew.

    Where the directory of the run has vanished, it is the command that makes a run of `config`.
    """
    if config is not None and not run.config_path.is_file():
        return command_line.command(config)
    if flags and not run.has_checkpoint:
        return shlex.join(["convnn", "run", str(run.config_path), *flags])
    reference = run.name if run.path.parent == runs_root() else f"{run.path}/"
    fork = ["--fork"] if flags else []
    return shlex.join(["convnn", "resume", reference, *fork, *flags])
