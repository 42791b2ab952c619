"""The learning rate range test (Smith 2017, arXiv:1506.01186): the loss while the rate rises from step to step."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import count
from typing import NamedTuple

import numpy as np
from torch import Tensor

from convnn.errors import Exit, UserError
from convnn.text import plural
from convnn.training.step_seed import seed_generators, step_seed
from convnn.training.trainer import Trainer

DIVERGED_FACTOR = 4.0  # times the lowest mean loss, as in fastai and Lightning
HALF_WINDOW = 0.05  # of the ramp: what is averaged on each side of a step
MIN_DROP = 2.0  # of the smoothed loss, in standard deviations of single losses around it


class RampStep(NamedTuple):
    """A step of the ramp: its learning rate, and the mean loss of its batch before the weights change."""

    lr: float
    loss: float


class Suggestion(NamedTuple):
    """A learning rate, or the reason why the curve suggests none."""

    lr: float | None
    reason: str | None = None


def ramp(min_lr: float, max_lr: float, steps: int) -> list[float]:
    """Return the learning rates of the steps: each is the same multiple of the one before."""
    rates: list[float] = np.geomspace(min_lr, max_lr, steps).tolist()
    return rates


def ramp_steps(trainer: Trainer, rates: Sequence[float]) -> Generator[RampStep | None]:
    """Train a step at each learning rate and yield it; None while a batch is waited for.

    It ends early, after the step that shows it, where the loss is not finite, or where its mean over the last steps is
    more than DIVERGED_FACTOR times the lowest such mean. Raises UserError where no image can be read.
    """
    trainer.preflight()
    trainer.state.model.train()
    losses: list[float] = []
    lowest = math.inf
    with closing(_batches(trainer)) as batches:
        while len(losses) < len(rates):
            batch = next(batches)
            if batch is None:
                yield None
                continue
            lr = rates[len(losses)]
            for group in trainer.state.optimizer.param_groups:
                group["lr"] = lr
            losses.append(trainer.train_step(*batch)[0].item())
            yield RampStep(lr, losses[-1])
            recent = float(np.mean(losses[-half_window(len(rates)) - 1 :]))
            lowest = min(lowest, recent)
            if not math.isfinite(losses[-1]) or recent > DIVERGED_FACTOR * lowest:
                return


def _batches(trainer: Trainer) -> Generator[tuple[Tensor, Tensor] | None]:
    """Yield training batches of epoch after epoch, each with its step's random numbers; None while one is not ready."""
    seed, loader = trainer.config.training.seed, trainer.state.train_loader
    for epoch in count(1):
        step = images = 0
        with closing(loader.poll_epoch(epoch)) as batches:
            while step < len(loader):
                seed_generators(step_seed(seed, epoch, step), trainer.device)
                batch = next(batches)
                if batch is not None:
                    step += 1
                    images += len(batch[1])
                if batch is None or len(batch[1]):
                    yield batch
        if images == 0:
            raise UserError("no training image can be read", Exit.DATA)


def half_window(steps: int) -> int:
    """Return the steps on each side of one that are averaged, in a ramp of so many."""
    return max(1, round(HALF_WINDOW * steps))


def smooth(losses: Sequence[float], steps: int) -> np.ndarray:
    """Return the mean of the losses around each step, fewer at the ends; the ramp was to have `steps`."""
    sums = np.concatenate(([0.0], np.cumsum(losses)))
    index, half = np.arange(len(losses)), half_window(steps)
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(losses))
    means: np.ndarray = (sums[last] - sums[first]) / (last - first)
    return means


def suggest(points: Sequence[RampStep], steps: int) -> Suggestion:
    """Return the learning rate at which the smoothed loss falls most steeply on a logarithmic axis.

    Smith reads the rates between which training works off the curve. Its steepest descent lies between them, and is
    what fastai and Lightning suggest. `points` have finite losses; the ramp was to have `steps`.
    """
    half = half_window(steps)
    if len(points) <= 3 * half:
        return Suggestion(None, f"the loss diverges after {plural(len(points), 'step')}: lower --min_lr")
    losses = np.array([point.loss for point in points])
    means = smooth(losses.tolist(), steps)
    lowest = int(means.argmin())
    noise = np.std((losses - means)[: lowest + 1])
    if means[0] - means[lowest] <= MIN_DROP * noise:
        return Suggestion(
            None, "the loss does not fall clearly: try more --steps, a larger --batch_size, or another --min_lr"
        )
    if lowest >= steps - half:
        return Suggestion(None, "the loss still falls at the end of the ramp: raise --max_lr")
    slopes = means[2 * half :] - means[: -2 * half]  # over equal distances
    steepest = half + int(slopes[: max(1, lowest - half)].argmin())
    if steepest <= 2 * half:  # noise may have moved it
        return Suggestion(None, "the loss falls most steeply where the ramp begins: lower --min_lr")
    return Suggestion(float(f"{points[steepest].lr:.1e}"))
