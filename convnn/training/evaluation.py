"""Loss and scores of a model over all images of a split."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from convnn.training.build import Losses
from convnn.training.meters import Tally

if TYPE_CHECKING:
    from convnn.data.loaders import Loader


def evaluate(
    network: nn.Module,
    batches: Loader,
    losses: Losses,
    device: torch.device,
    amp: torch.dtype | None,
    split: str,
    *,
    seed: int,
) -> Generator[None, None, dict[str, float]]:
    """Loss and scores in percent, as SPLIT_NAME; yields between the batches, so that it can be stopped.

    Sums are kept in float64 over single images, so the batch size does not show beyond rounding. Random candidates are
    drawn from the seed, whatever was drawn before: the same in every epoch, and by whoever evaluates again.
    """
    network.eval()
    torch.manual_seed(seed)
    tally = Tally(device)
    for x, y in batches.epoch(0):
        with torch.inference_mode():
            with autocast(device, amp):
                logits = network(x)
            tally.add(losses(logits, y), logits, y)
        yield None
    return tally.figures(split)


def finished(steps: Generator[None, None, dict[str, float]]) -> dict[str, float]:
    """What a generator of steps returns once it has run to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            figures: dict[str, float] = end.value
            return figures


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Mixed precision in this number format; None computes as the weights are."""
    return torch.autocast(device.type, dtype) if dtype else nullcontext()
