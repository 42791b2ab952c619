"""A trained model out of its run directory: built from the run's configuration, weights from a verified checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from convnn.config.schema import RunConfig
from convnn.errors import Exit, Problem, UserError
from convnn.events import Started
from convnn.runs.find import find_run
from convnn.runs.history import History
from convnn.runs.run import Run, runs_root
from convnn.training import build
from convnn.worker import checkpoint


@dataclass(frozen=True)
class TrainedRun:
    """A run whose model may be used: `load_run("@last").model()`."""

    run: Run

    @property
    def config(self) -> RunConfig:
        """What was asked for."""
        return self.run.config()

    @property
    def history(self) -> History:
        """What happened: `history.epochs`, `history.series("test_top1")`, `history.best()`."""
        return self.run.history()

    @property
    def started(self) -> Started:
        """What the run began with: classes, normalisation, image size. Raises UserError when it never began."""
        started = self.run.history(steps=False).started
        if started is None:
            raise UserError(f"{self.run.name} never started: it has no model", Exit.NO_RUN)
        return started

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and standard deviation per channel that images were normalised with."""
        told = self.started.normalisation
        return (told["mean"], told["std"]) if told and {"mean", "std"} <= told.keys() else None

    def model(self, which: str = "best", device: str | torch.device = "cpu") -> nn.Module:
        """The model with the weights of the checkpoint `best` or `last`, in evaluation mode.

        It takes normalised images (B, 3, H, W) and gives logits (B, classes). Raises UserError when the checkpoint is
        missing, damaged, or of another model, naming the difference.
        """
        weights = checkpoint.chosen(self.run.path, which).model
        classes = self.started.num_classes
        if classes is None:
            raise UserError(f"{self.run.name} does not say how many classes it has")
        network = build.model(self.config, classes)
        _fits(network, weights, self.run)
        network.load_state_dict(weights)
        return network.to(device).eval()


def load_run(ref: str | Path, runs: str | Path | None = None) -> TrainedRun:
    """A run by path, part of its name, "@last" or "@best:test_top1"; `runs` is where runs lie, else as for commands.

    Raises UserError when there is no such run.
    """
    reference = f"{ref}/" if isinstance(ref, Path) else ref
    return TrainedRun(find_run(reference, runs_root(Path(runs) if runs else None)))


def _fits(network: nn.Module, weights: dict[str, torch.Tensor], run: Run) -> None:
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if wanted == found:
        return
    names = sorted(wanted.keys() | found.keys())
    differ = [name for name in names if wanted.get(name) != found.get(name)]
    told = [f"{n} is {found.get(n, 'missing')}, the model has {wanted.get(n, 'none')}" for n in differ[:5]]
    more = f"; and {len(differ) - 5} more" if len(differ) > 5 else ""
    raise UserError(
        Problem(
            f"the checkpoint of {run.name} does not fit its configuration: " + "; ".join(told) + more,
            fix="was config.toml changed by hand?",
        ),
        Exit.STORAGE,
    )
