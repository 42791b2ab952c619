"""Loss and scores of a model over all images of a split."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from convnn.training.build import LossFn
from convnn.training.meters import Meters
from convnn.training.process_group import ALONE, ProcessGroup

if TYPE_CHECKING:
    from convnn.data.loaders import Loader
    from convnn.training.prediction_meter import PredictionMeter


def evaluation_steps(
    model: nn.Module,
    loader: Loader,
    loss_fn: LossFn,
    device: torch.device,
    amp: torch.dtype | None,
    split: str,
    *,
    seed: int,
    group: ProcessGroup = ALONE,
    predictions: PredictionMeter | None = None,
) -> Generator[None, None, dict[str, float]]:
    """Yield after each batch and while one is waited for, so that evaluation can be interrupted.

    It returns loss and scores in percent, as SPLIT_NAME. Each process of a group evaluates its rows of every batch.
    Sums are kept in float64 over single images, so the batch size does not show beyond rounding. Random candidates are
    drawn from the seed, whatever was drawn before: the same in every epoch, and in every later evaluation.
    `predictions` gathers what the model answers.
    """
    model.eval()
    torch.manual_seed(seed)
    meters = Meters(device)
    with closing(loader.poll_epoch(0)) as batches:
        for batch in batches:
            if batch is not None and len(batch[1]):  # ready, and some image of it can be read
                x, y = batch
                with torch.inference_mode():
                    with autocast(device, amp):
                        logits = model(x)
                    meters.add(loss_fn(logits, y), logits, y)
                    if predictions is not None:
                        predictions.add(logits, y)
            elif batch is not None and predictions is not None:
                predictions.add_none()
            yield None
    if group.size > 1:
        group.proceed(meters.images)
        meters.reduce(group)
    return meters.metrics(split)


def evaluate(
    model: nn.Module,
    loader: Loader,
    loss_fn: LossFn,
    device: torch.device,
    amp: torch.dtype | None,
    split: str,
    *,
    seed: int,
    predictions: PredictionMeter | None = None,
) -> dict[str, float]:
    """Return loss and scores in percent, as SPLIT_NAME: `evaluation_steps` without interruption."""
    steps = evaluation_steps(model, loader, loss_fn, device, amp, split, seed=seed, predictions=predictions)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            metrics: dict[str, float] = end.value
            return metrics


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Return a context of mixed precision in this number format; None computes in the format of the weights."""
    return torch.autocast(device.type, dtype) if dtype else nullcontext()
