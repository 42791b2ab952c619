"""Fork a run: a new run from a checkpoint of another, whose configuration may differ as far as the weights fit."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from convnn.config.toml import dumps
from convnn.errors import Problem, UserError
from convnn.runs.event_log import append_event
from convnn.runs.lock import lock_run
from convnn.runs.resume import with_data_path
from convnn.runs.run import CHECKPOINTS, Run, create_run
from convnn.text import plural

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig
    from convnn.worker.checkpoint import Checkpoint


def fork_run(source: Run, config: RunConfig, root: Path) -> tuple[Run, list[str]]:
    """Create a run that goes on from the newest good checkpoint of `source`; return it with notes for the person.

    It begins with the epochs so far. A finished run keeps no optimizer state: its fork has none.
    Raises UserError where there is no checkpoint, where no epoch would be left, or where the source is being trained.
    """
    from convnn.worker import checkpoint

    config = with_data_path(source, config)
    newest, notes = _newest(source)
    epoch = newest.plain["position"]["epoch"]
    if epoch > config.training.num_epochs:
        raise UserError(
            Problem(
                f"{source.name} has already done {plural(config.training.num_epochs, 'epoch')}",
                key="training.num_epochs",
                value=config.training.num_epochs,
                fix=f"give the fork more of them: --num_epochs {2 * config.training.num_epochs}",
                change={"training.num_epochs": 2 * config.training.num_epochs},
            )
        )
    forked = create_run(
        dumps(config, whole=True),
        model=config.model.name,
        layer=config.layer.type,
        root=root,
        name=config.run.name,
        directory=Path(config.output.dir) if config.output.dir else None,
    )
    if newest.optimizer is None:
        notes.append("a finished run keeps no optimizer state: the fork begins with a fresh one")
    best = checkpoint.read_pointer(source.path, "best")
    if best is not None and best != newest.path.name:
        weights = checkpoint.load_verified(source.path / CHECKPOINTS / best)
        if weights.step <= newest.step:
            checkpoint.write(forked.path, weights.step, weights.model, None, weights.plain)
            checkpoint.write_pointer(forked.path, "best", weights.step)
    plain = {**newest.plain, "forked": f"{source.name} at step {newest.step}"}
    checkpoint.write(forked.path, newest.step, newest.model, newest.optimizer or {}, plain)
    checkpoint.write_pointer(forked.path, "last", newest.step)
    if best == newest.path.name:
        checkpoint.write_pointer(forked.path, "best", newest.step)
    for event in source.history(steps=False).epochs:
        if event.epoch < epoch:
            append_event(forked.events_path, event)
    return forked, notes


def _newest(source: Run) -> tuple[Checkpoint, list[str]]:
    from convnn.worker import checkpoint

    if source.status() == "done":  # not a byte of it changes
        return checkpoint.load_named(source.path, "last"), []
    with lock_run(source.path):
        newest, notes = checkpoint.recover_newest(source.path)
    if newest is None:
        raise UserError(
            Problem(
                f"{source.name} has no checkpoint yet",
                fix=f"train its configuration: convnn run {shlex.quote(str(source.config_path))}",
            )
        )
    return newest, notes
