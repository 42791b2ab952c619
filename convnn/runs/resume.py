"""Which run goes on, and whether it may under the configuration it is given."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnn.config import command_line
from convnn.config.diff import config_diff
from convnn.errors import Exit, Problem, UserError
from convnn.runs.find import find_run, list_runs
from convnn.runs.run import Run, runs_root
from convnn.text import escaped

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig


def resumable_run(ref: str | None, place: Path) -> Run:
    """The run that a person names, else the newest unfinished one. Raises UserError (no such run)."""
    if ref is not None:
        return _trained(find_run(ref, place))
    for run in list_runs(place)[0]:
        if run.status() not in ("done", "running", "paused") and not run.imported:
            return run
    raise UserError(
        Problem(f"there is no unfinished run in {escaped(place)}", fix="start one: convnn run"), Exit.NO_RUN
    )


def _trained(run: Run) -> Run:
    """The run, unless its figures are all that came of it. Raises UserError."""
    if run.imported:
        fix = shlex.join(["convnn", "run", str(run.config_path)]) + " trains its configuration anew"
        raise UserError(Problem(f"{escaped(run.name)} is imported: it has no weights to go on from", fix=fix))
    return run


def check_same_config(run: Run, before: Mapping[str, Any], now: RunConfig) -> None:
    """Raises UserError with every difference where a run would go on under another configuration."""
    if found := config_diff(before, now):
        first = Problem(
            f"{escaped(run.name)} has another configuration",
            fix=f"leave those options as they were, or fork a new run: {resume_command(run)} --fork",
        )
        raise UserError([first, *found])


def resume_command(run: Run, flags: Sequence[str] = (), config: RunConfig | None = None) -> str:
    """The command that goes on with a run; with flags, that forks it, or starts it anew where it has no checkpoint.

    Where the directory of the run has vanished it is the command that makes `config` anew.
    """
    if config is not None and not run.config_path.is_file():
        return command_line.command(config)
    there = run.name if run.path.parent == runs_root() else f"{run.path}/"
    words = ["convnn", "resume", there]
    if flags and not (run.path / "checkpoints" / "last").is_file():
        words = ["convnn", "run", str(run.config_path)]
    elif flags:
        words.append("--fork")
    return shlex.join([*words, *flags])
