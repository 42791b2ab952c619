"""Load a trained model from its run directory: built from its configuration, with verified weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from convnn.config.schema import RunConfig
from convnn.errors import Exit, UserError
from convnn.events import Started
from convnn.metrics import SPLITS
from convnn.runs.find import find_run
from convnn.runs.history import History
from convnn.runs.run import Run, runs_root
from convnn.text import joined
from convnn.training import build
from convnn.training.state import load_weights, saved_split_seed
from convnn.worker import checkpoint

if TYPE_CHECKING:
    from convnn.data import LoadedDataset, Normalization
    from convnn.data.loaders import Loader

GIVE_DATA = "give the data of the run with --data_path"
OTHER_IMAGES = "images or their labels are not those of the run"  # after the name of a split
MOST_CLASSES = 3  # that a message names


class SavedCheckpoint(NamedTuple):
    """A checkpoint of a run, by the name of its folder."""

    name: str
    step: int
    epoch: int | None  # that ended with this step; None within an epoch


@dataclass(frozen=True)
class TrainedRun:
    """A run and its trained model: `load_run("@last").model()`."""

    run: Run

    @cached_property
    def config(self) -> RunConfig:
        return self.run.config()

    @property
    def history(self) -> History:
        """The events so far, read anew each time: `history.epochs`, `history.series("test_top1")`, `history.best()`."""
        return self.run.history()

    @cached_property
    def started(self) -> Started:
        """The event with classes, normalization and image size. Raises UserError where the run never started."""
        started = self.run.history(steps=False).started
        if started is None:
            raise UserError(f"{self.run.name} never started: it has no model", Exit.NO_RUN)
        return started

    @property
    def normalization(self) -> Normalization | None:
        """Mean and standard deviation per channel that images were normalized with."""
        normalization = self.started.normalisation
        if not normalization or not {"mean", "std"} <= normalization.keys():
            return None
        return normalization["mean"], normalization["std"]

    def find_checkpoint(self, which: str) -> SavedCheckpoint:
        """Return the checkpoint `best`, `last` or the one of an epoch, given as its number. Nothing of it is read.

        Raises UserError (no such run) where there is none, naming the epochs that have one.
        """
        epochs = {event.step: event.epoch for event in self.run.history(steps=False).epochs}
        steps = {epochs[step]: step for step in self.run.checkpoint_steps() if step in epochs}
        if which.isdecimal():
            step = steps.get(int(which[:15]))
        else:
            step = int(checkpoint.read_pointer(self.run.path, which) or 0) or None
        if step is None:
            name = f"of epoch {which}" if which.isdecimal() else which
            message = f"{self.run.name} has no checkpoint {name}"
            fix = checkpoint.CHOOSE_TRAINED
            if steps:
                fix = f"it has those of epoch {', '.join(map(str, sorted(steps)))}, best and last"
            elif checkpoint.read_pointer(self.run.path, "last"):
                fix = "use --checkpoint last, which lies within an epoch"
            raise UserError(message, Exit.NO_RUN, key="checkpoint", value=which, fix=fix)
        return SavedCheckpoint(f"{step:08d}", step, epochs.get(step))

    def open_data(
        self, config: RunConfig, device: torch.device, checkpoint_name: str, splits: tuple[str, ...]
    ) -> LoadedDataset:
        """Open the data as a checkpoint was trained on it, with its normalization and its images of each split.

        A fork keeps the seed that drew the images of the run it goes on from. Raises UserError (data) where the data is
        missing, or has other classes than the run recorded.
        """
        saved = checkpoint.load_named(self.run.path, checkpoint_name, with_tensors=False).state
        split_seed = saved_split_seed(saved.plain, self.config.training.seed)
        data = build.data(config, device, splits=splits, normalization=self.normalization, split_seed=split_seed)
        if self.started.classes and data.classes != self.started.classes:
            difference = _difference(self.started.classes, data.classes)
            message = f"the classes of the data are not those of the run: {difference}"
            raise UserError(message, Exit.DATA, key="data.path", value=config.data.path, fix=GIVE_DATA)
        return data

    def has_images(self, data: LoadedDataset, split: str) -> bool:
        """Return whether the images of a split and their labels are those of the run, as far as it recorded them."""
        recorded = self.started.data_digest.get(split)
        return recorded is None or recorded == data.digests.get(split)

    def loader(self, data: LoadedDataset, split: str) -> Loader:
        """Return the images of a split. Raises UserError where the data has none."""
        if split not in data.splits:
            message = f"the data of {self.run.name} has no {split} images"
            fix = f"choose --split {' or '.join(name for name in SPLITS if name != split)}"
            raise UserError(message, key="split", value=split, fix=fix)
        return data.splits[split]

    def model(self, which: str = "best", device: str | torch.device = "cpu", *, ema: bool = False) -> nn.Module:
        """Return the model with the weights of a checkpoint, `best`, `last` or a folder's name, in evaluation mode.

        With `ema` it has their moving average, of a run that keeps one. It takes normalized images (B, 3, H, W) and
        gives logits (B, classes). Raises UserError when the checkpoint is missing, damaged, or of another model, naming
        the difference.
        """
        saved = checkpoint.load_named(self.run.path, which).state
        weights = saved.ema if ema else saved.model
        if weights is None:
            message = f"{self.run.name} has no moving average of its weights"
            raise UserError(message, fix="leave --ema out, or train with an average: --ema 0.999")
        classes = self.started.num_classes
        if classes is None:
            raise UserError(f"{self.run.name} does not say how many classes it has")
        model = build.model(self.config, classes)
        try:
            load_weights(model, weights)
        except ValueError as error:
            message = f"the checkpoint of {self.run.name} does not fit its configuration: {error}"
            raise UserError(message, Exit.STORAGE, fix="was config.toml changed by hand?") from error
        return model.to(device).eval()


def unaugmented(config: RunConfig) -> RunConfig:
    """Return a configuration that reads training images as they are evaluated."""
    return config.with_values({"data.augment": False, "data.noise": 0.0, "training.drop_last": False})


def load_run(ref: str | Path, runs: str | Path | None = None) -> TrainedRun:
    """Return a run by path, part of its name, "@last" or "@best:test_top1"; `runs` is the folder of the runs.

    Raises UserError when there is no such run.
    """
    reference = f"{ref}/" if isinstance(ref, Path) else ref
    return TrainedRun(find_run(reference, runs_root(Path(runs) if runs else None)))


def _difference(classes: Sequence[str], present: Sequence[str]) -> str:
    """Return in words how two lists of classes differ: which are missing, and which are new."""
    known, names = set(classes), set(present)
    missing = [name for name in classes if name not in names]
    new = [name for name in present if name not in known]
    parts = [
        f"{word} {joined(list(map(repr, group)), MOST_CLASSES)}"
        for word, group in (("without", missing), ("with", new))
        if group
    ]
    return " and ".join(parts) or "they have another order"
