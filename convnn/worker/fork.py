"""A new run from a checkpoint of another: its configuration may differ in all that still fits the weights."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from convnn.config.toml import dumps
from convnn.errors import Problem, UserError
from convnn.runs import event_log, run
from convnn.runs.lock import lock_run
from convnn.runs.run import Run

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig
    from convnn.worker.checkpoint import Checkpoint


def fork(source: Run, config: RunConfig, root: Path) -> tuple[Run, list[str]]:
    """Make a run that goes on from the newest good checkpoint of `source`, and what there is to say of that.

    It begins with the figures of the epochs so far. A finished run keeps no optimizer state: its fork has none.
    Raises UserError where there is no checkpoint, where no epoch would be left, or where the source is held.
    """
    from convnn.worker import checkpoint

    found, said = _newest(source)
    epoch = found.plain["position"]["epoch"]
    if epoch > config.training.num_epochs:
        raise UserError(
            Problem(
                f"{source.name} has done all of {config.training.num_epochs} epochs",
                key="training.num_epochs",
                value=config.training.num_epochs,
                fix=f"give the fork more of them: --num_epochs {2 * config.training.num_epochs}",
                change={"training.num_epochs": 2 * config.training.num_epochs},
            )
        )
    made = run.create_run(
        dumps(config, whole=True),
        model=config.model.name,
        layer=config.layer.type,
        root=root,
        name=config.run.name,
        directory=Path(config.output.dir) if config.output.dir else None,
    )
    if found.optimizer is None:
        said.append("a finished run keeps no optimizer state: the fork begins with a fresh one")
    best = checkpoint.pointed(source.path, "best")
    if best is not None and best != found.path.name:
        weights = checkpoint.verified(source.path / checkpoint.FOLDER / best)
        if weights.step <= found.step:
            checkpoint.write(made.path, weights.step, weights.model, None, weights.plain)
            checkpoint.point(made.path, "best", weights.step)
    plain = {**found.plain, "forked": f"{source.name} at step {found.step}"}
    checkpoint.write(made.path, found.step, found.model, found.optimizer or {}, plain)
    checkpoint.point(made.path, "last", found.step)
    if best == found.path.name:
        checkpoint.point(made.path, "best", found.step)
    for event in source.history(steps=False).epochs:
        if event.epoch < epoch:
            event_log.append_event(made.events_path, event)
    return made, said


def _newest(source: Run) -> tuple[Checkpoint, list[str]]:
    from convnn.worker import checkpoint

    if source.status() == "done":  # not a byte of it changes
        return checkpoint.chosen(source.path, "last"), []
    with lock_run(source.path):
        found, said = checkpoint.newest(source.path)
    if found is None:
        raise UserError(
            Problem(
                f"{source.name} has no checkpoint yet",
                fix=f"begin anew with its configuration: convnn run {shlex.quote(str(source.config_path))}",
            )
        )
    return found, said
