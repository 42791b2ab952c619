"""Evaluation of models: loss and scores over all images of a split, and the running statistics that they use."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from convnn.training.build import LossFn
from convnn.training.device import autocast
from convnn.training.meters import Meters
from convnn.training.process_group import ALONE, ProcessGroup
from convnn.training.step_seed import seed_generators, step_seed

if TYPE_CHECKING:
    from convnn.data.loaders import Loader
    from convnn.training.prediction_meter import PredictionMeter

T = TypeVar("T")


@dataclass(frozen=True)
class Evaluator:
    """How models are evaluated; each process of a group computes its rows of every batch.

    The methods yield after each batch and while one is waited for, so that they can be interrupted. They draw random
    numbers from the seed, whatever was drawn before: the same in every epoch, and in every later evaluation.
    """

    loss_fn: LossFn
    device: torch.device
    amp: torch.dtype | None  # as `autocast` takes it
    seed: int
    group: ProcessGroup = ALONE

    def evaluate(
        self, model: nn.Module, loader: Loader, split: str, predictions: PredictionMeter | None = None
    ) -> Generator[None, None, dict[str, float]]:
        """Return loss and scores in percent, as SPLIT_NAME; `predictions` gathers what the model answers.

        Sums are kept in float64 over single images, so the batch size does not show beyond rounding.
        """
        model.eval()
        seed_generators(self.seed, self.device)
        meters = Meters(self.device)
        with closing(loader.poll_epoch(0)) as batches:
            for batch in batches:
                if batch is not None and len(batch[1]):  # ready, and some image of it can be read
                    x, y = batch
                    with torch.inference_mode():
                        with autocast(self.device, self.amp):
                            logits = model(x)
                        meters.add(self.loss_fn(logits, y), logits, y)
                        if predictions is not None:
                            predictions.add(logits, y)
                elif batch is not None and predictions is not None:
                    predictions.add_none()
                yield None
        if self.group.size > 1:
            self.group.proceed(meters.images)
            meters.reduce(self.group)
        return meters.metrics(split)

    def recalibrate(self, model: nn.Module, loader: Loader, batches: int) -> Generator[None]:
        """Take BatchNorm's running statistics anew from training batches, and replace the model's by them in the end.

        They are the means over the first `batches` batches in an order of their own, as in
        `torch.optim.swa_utils.update_bn`, of the model as it is evaluated: without dropout. Until the end the model
        keeps its own, so that it can be saved at every yield.
        """
        norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
        momenta = {name: norm.momentum for name, norm in norms.items()}
        statistics: dict[str, Tensor] = {}
        for name, norm in norms.items():
            assert norm.running_mean is not None and norm.running_var is not None
            statistics[f"{name}.running_mean"] = torch.zeros_like(norm.running_mean)
            statistics[f"{name}.running_var"] = torch.ones_like(norm.running_var)
            statistics[f"{name}.num_batches_tracked"] = torch.zeros((), dtype=torch.long, device=self.device)
        model.eval()
        count = 0
        seed_generators(step_seed(self.seed, 0, count), self.device)
        try:
            for norm in norms.values():
                norm.train()
                norm.momentum = None  # a mean over all batches, not a moving one
            with closing(loader.poll_epoch(0)) as polled:
                for batch in polled:
                    # ready, and some image of it can be read
                    if batch is not None and self.group.set_rows(self.group.proceed(len(batch[1]))):
                        with torch.no_grad(), autocast(self.device, self.amp):
                            functional_call(model, statistics, (batch[0],))
                        count += 1
                    yield None
                    if count == batches:
                        break
                    seed_generators(step_seed(self.seed, 0, count), self.device)  # others may have drawn meanwhile
        finally:
            for name, norm in norms.items():
                norm.momentum = momenta[name]
            model.eval()
        if count:
            for name, norm in norms.items():
                norm.get_buffer("running_mean").copy_(statistics[f"{name}.running_mean"])
                norm.get_buffer("running_var").copy_(statistics[f"{name}.running_var"])


def run_through(steps: Generator[None, None, T]) -> T:
    """Return the result of steps that nothing interrupts."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
