"""The learning rate over the epochs: a linear warmup, then the configured schedule, both torch's own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau

from convnn.config.schema import RunConfig
from convnn.training import build
from convnn.training.optimizer_state import load_counters


class Schedule:
    """Sets the learning rate of the optimizer; `step` is called at the end of each epoch.

    Epoch i of W warmup epochs trains at i / (W + 1) of the learning rate, and the schedule begins after them.
    """

    def __init__(self, config: RunConfig, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.main: LRScheduler | ReduceLROnPlateau | None = build.scheduler(config, optimizer)
        epochs = config.scheduler.warmup_epochs
        self.warmup = LinearLR(optimizer, start_factor=1 / (epochs + 1), total_iters=epochs) if epochs else None

    @property
    def is_warming_up(self) -> bool:
        return self.warmup is not None and self.warmup.last_epoch < self.warmup.total_iters

    def step(self, metric: float) -> None:
        """Go on to the next epoch; `metric` is what a plateau schedule monitors."""
        if self.is_warming_up:
            assert self.warmup is not None
            self.warmup.step()
            if not self.is_warming_up:
                self.restore_rates()  # a product of factors is not exactly the rate
        elif isinstance(self.main, ReduceLROnPlateau):
            self.main.step(metric)
        elif self.main is not None:
            self.main.step()

    def skip_to(self, epoch: int) -> None:
        """Bring a schedule that has not begun to an epoch; one of a plateau has no metrics to follow on the way."""
        with warnings.catch_warnings():  # torch warns of a schedule stepped before the optimizer: it is meant here
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(1, epoch):
                if self.is_warming_up or not isinstance(self.main, ReduceLROnPlateau):
                    self.step(0.0)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as state.json holds it: "warmup" only where there is one."""
        state: dict[str, Any] = {"scheduler": self.main.state_dict() if self.main else None}
        return state | ({"warmup": self.warmup.state_dict()} if self.warmup else {})

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from where it was saved. Raises ValueError, TypeError or KeyError where it cannot."""
        if self.main is not None:
            load_counters(self.main, saved["scheduler"])
        if self.warmup is not None:
            load_counters(self.warmup, saved["warmup"])

    def restore_rates(self) -> None:
        """Set the rates of the configuration, as before the first step."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
