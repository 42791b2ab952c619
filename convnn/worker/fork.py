"""Fork a run: a new run from a checkpoint of another, whose configuration may differ as far as the weights fit."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from convnn import predictions
from convnn.config.active import active_options
from convnn.config.options import BY_KEY, value_at
from convnn.config.schema import RunConfig
from convnn.config.toml import dumps
from convnn.data.catalog import dataset_info
from convnn.errors import Exit, Problem, UserError
from convnn.events import Epoch, LayerStatistics
from convnn.files import write_atomic
from convnn.runs.event_log import event_line
from convnn.runs.lock import lock_run
from convnn.runs.resume import cosine_note, with_data_path
from convnn.runs.run import CHECKPOINTS, Run
from convnn.runs.staging import publish, staged_run
from convnn.text import plural
from convnn.training.state import Position, check_fits
from convnn.worker import checkpoint
from convnn.worker.checkpoint import Checkpoint
from convnn.worker.crash_points import reach


def fork_run(source: Run, config: RunConfig, root: Path) -> tuple[Run, list[str]]:
    """Create a run that goes on from the newest good checkpoint of `source`; return it with notes for the person.

    It begins with the epochs so far, and appears when it is complete: what kills this process leaves no half of it.
    Raises UserError where there is no checkpoint, where its weights do not fit the configuration, where no epoch would
    be left, or where the source is being trained.
    """
    config = with_data_path(source, config)
    newest, notes = _newest(source)
    epoch = _epoch(newest)
    done, epochs = epoch - 1, config.training.num_epochs
    if epoch > epochs:
        message = f"{source.name} has already done {plural(done, 'epoch')}"
        key, fix = "training.num_epochs", f"give the fork more of them: --num_epochs {2 * done}"
        raise UserError(message, key=key, value=epochs, fix=fix, change={key: 2 * done})
    _check_splits(source, newest, config)
    _check_weights(newest, config)
    if not newest.state.optimizer:
        notes.append(f"{source.name} kept no optimizer state: the fork begins with a fresh one")
    if (note := cosine_note(active_options(source.config()), config, done)) is not None:
        notes.append(note)
    directory = Path(config.output.dir) if config.output.dir else None
    if directory is not None and directory.resolve() == source.path:  # recorded, not given
        directory = None
        config = config.with_values({"output.dir": None})
    stage = root if directory is None else directory.resolve().parent  # of one file system
    with staged_run(dumps(config, whole=True), config.model.name, config.layer.type, stage, config.run.name) as forked:
        reach("fork.created")
        _write_checkpoints(source, newest, forked)
        _write_predictions(source, forked)
        reach("fork.saved")
        history = source.history(steps=False)
        events: list[LayerStatistics | Epoch] = [*history.layer_statistics, *history.epochs]
        events = sorted((event for event in events if event.epoch < epoch), key=lambda event: event.step)
        write_atomic(forked.events_path, "".join(f"{event_line(event)}\n" for event in events))
        reach("fork.logged")
        result = publish(forked, root, directory)
    reach("fork.published")
    return result, notes


def _check_splits(source: Run, newest: Checkpoint, config: RunConfig) -> None:
    """Raise UserError where the fork would validate on images that its run trained on.

    A larger share is taken from the training images; so is one of another subset. A smaller one is a part of the same
    images, and the test images never depend on either.
    """
    before = newest.state.plain.get("config")
    if not isinstance(before, dict) or before.get("data.dataset") != config.data.dataset or config.data.val_share == 0:
        return
    reasons = {"data.val_share": config.data.val_share > before.get("data.val_share", 0.0)}
    reasons["data.limit"] = config.data.limit != before.get("data.limit")
    config_path = shlex.quote(str(source.config_path))
    problems = []
    for key in (key for key, differs in reasons.items() if differs):
        option, value = BY_KEY[key], value_at(config, key)
        recorded = before.get(key, option.default)
        text = f"{key} {option.text(value)} holds out images for validation that {source.name} was trained on"
        fix = f"keep {option.flag} {option.text(recorded)}, or train a new run with it: convnn run {config_path}"
        problems.append(Problem(text, key=key, value=value, fix=fix, change={key: recorded}))
    if problems:
        raise UserError(problems)


def _check_weights(newest: Checkpoint, config: RunConfig) -> None:
    """Raise UserError where the weights do not fit, as far as the classes are known before the data are read."""
    data = config.data
    num_classes = dataset_info(data.dataset, data.path, data.resize).num_classes
    if num_classes is not None:
        check_fits(config, num_classes, newest.state.model)


def _write_checkpoints(source: Run, newest: Checkpoint, forked: Run) -> None:
    """Write the best and the newest checkpoint of a run as those of its fork."""
    best = checkpoint.read_pointer(source.path, "best")
    if best is not None and best != newest.path.name:
        best_checkpoint = checkpoint.load_verified(source.path / CHECKPOINTS / best)
        if best_checkpoint.step <= newest.step:
            checkpoint.write(forked.path, best_checkpoint.step, replace(best_checkpoint.state, optimizer=None))
            checkpoint.write_pointer(forked.path, "best", best_checkpoint.step)
    plain = {**newest.state.plain, "forked": f"{source.name} at step {newest.step}"}
    state = replace(newest.state, optimizer=newest.state.optimizer or {}, plain=plain)
    checkpoint.write(forked.path, newest.step, state)
    checkpoint.write_pointer(forked.path, "last", newest.step)
    if best == newest.path.name:
        checkpoint.write_pointer(forked.path, "best", newest.step)


def _write_predictions(source: Run, forked: Run) -> None:
    """Write the predictions of a run into its fork, where they are of the best checkpoint that the fork begins with."""
    best = checkpoint.read_pointer(forked.path, "best")
    with suppress(UserError):  # a damaged file: `convnn evaluate RUN --save` writes one of a fork, too
        latest = predictions.read(source.path)
        if latest is not None and best is not None and latest.step == int(best):
            predictions.write(forked.path, latest)


def _epoch(newest: Checkpoint) -> int:
    """Return the epoch that a checkpoint goes on with. Raises UserError (storage) where it says none."""
    try:
        return Position.from_state_dict(newest.state.plain["position"]).epoch
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        message = f"checkpoint {newest.path} has no position: {type(error).__name__}: {error}"[:300]
        raise UserError(message, Exit.STORAGE) from error


def _newest(source: Run) -> tuple[Checkpoint, list[str]]:
    if source.status() == "done":  # not a byte of it changes
        return checkpoint.load_named(source.path, "last"), []
    with lock_run(source.path):
        newest, notes = checkpoint.recover_newest(source.path)
    if newest is None:
        fix = f"train its configuration: convnn run {shlex.quote(str(source.config_path))}"
        raise UserError(f"{source.name} has no checkpoint yet", fix=fix)
    return newest, notes
