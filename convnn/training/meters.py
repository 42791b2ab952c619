"""Running sums of an epoch, kept on the device and read only when a metric is reported; and a stopwatch."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from convnn.metrics import SCORES
from convnn.training.process_group import ProcessGroup

NEVER = 2**62  # the first non-finite step of an epoch without one


class Meters:
    """Sums over images: losses, scores, gradient norms, and the first step whose loss was not finite."""

    def __init__(self, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        self.sums = torch.zeros(2 + len(SCORES), dtype=dtype, device=device)  # loss, gradient norm, scores
        self.nonfinite_step = torch.full((), NEVER, dtype=torch.int64, device=device)
        self.images = 0
        self.steps = 0

    def add(self, losses: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Count a (micro-)batch: losses (B,), logits (B, classes), targets (B,)."""
        self.add_sums(self.batch_sums(losses, logits, targets), len(targets), step=0)

    def batch_sums(self, losses: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss and scores of a (micro-)batch. (B,), (B, classes), (B,) -> (1 + scores,)"""
        scores = torch.stack([score(logits, targets) for score in SCORES.values()])  # (scores, B)
        return torch.cat((losses.sum()[None].to(self.sums.dtype), scores.sum(1, dtype=self.sums.dtype)))

    def add_sums(self, sums: Tensor, images: int, step: int) -> None:
        """Count a (micro-)batch of so many images by its `batch_sums`."""
        self.sums[0].add_(sums[0])
        self.sums[2:].add_(sums[1:])
        self.nonfinite_step = self.nonfinite_step.minimum(torch.where(sums[0].isfinite(), NEVER, step))
        self.images += images

    def add_norm(self, norm: Tensor) -> None:
        """Count the gradient norm of a step; a step that fp16 scaling skips has none."""
        self.sums[1].add_(norm.nan_to_num(0.0, 0.0, 0.0))
        self.steps += 1

    def reduce(self, group: ProcessGroup) -> None:
        """Take what the meters of all processes have counted together."""
        totals = group.sum(torch.cat((self.sums, self.sums.new_tensor([self.images]))))
        self.sums, self.images = totals[:-1], int(totals[-1])

    def first_nonfinite_step(self) -> int | None:
        """Return the first step with a non-finite loss, None without one. Syncs with the device."""
        step = int(self.nonfinite_step.item())
        return None if step == NEVER else step

    def metrics(self, split: str) -> dict[str, float]:
        """Return mean loss and scores in percent, by metric name. Syncs with the device."""
        loss, norm, *scores = self.sums.tolist()
        metrics = {f"{split}_loss": loss / self.images}
        for name, score in zip(SCORES, scores, strict=True):
            metrics[f"{split}_{name}"] = 100 * score / self.images
        if self.steps:
            metrics["grad_norm"] = norm / self.steps
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return the sums as plain numbers, which `load_state_dict` takes back exactly."""
        step = int(self.nonfinite_step.item())
        # keys of state.json, whose format is frozen
        return {"sums": self.sums.tolist(), "bad": step, "images": self.images, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the sums over. Raises ValueError, TypeError or RuntimeError where they are none of these meters."""
        sums = torch.tensor(state["sums"], dtype=torch.float64)
        counts = state["bad"], state["images"], state["steps"]
        if sums.shape != self.sums.shape or any(type(count) is not int or not 0 <= count <= NEVER for count in counts):
            raise ValueError("the sums of the epoch are not those of loss, gradient norm and scores")
        self.sums.copy_(sums)
        self.nonfinite_step.fill_(state["bad"])
        self.images, self.steps = state["images"], state["steps"]


class Stopwatch:
    """Seconds that pass between `start` and `stop`, summed."""

    def __init__(self) -> None:
        self._before = 0.0
        self._started: float | None = None

    def seconds(self) -> float:
        if self._started is None:
            return self._before
        return self._before + time.perf_counter() - self._started

    @property
    def running(self) -> bool:
        return self._started is not None

    def start(self) -> Stopwatch:
        if self._started is None:
            self._started = time.perf_counter()
        return self

    def stop(self) -> None:
        self.set(self.seconds())

    def set(self, seconds: float) -> None:
        """Stand still at this time."""
        self._before, self._started = seconds, None


class DataLoadingShare:
    """The share of the training time that passes within its `with` blocks, which wait for batches."""

    def __init__(self, training: Stopwatch) -> None:
        self._training = training
        self._before = training.seconds()  # of training at the last event
        self._loading = Stopwatch()

    def __enter__(self) -> None:
        self._loading.start()

    def __exit__(self, *error: object) -> None:
        self._loading.stop()

    def take(self) -> float:
        """Return the share since the last call, in percent."""
        before, self._before = self._before, self._training.seconds()
        share = self._loading.seconds() / max(self._before - before, 1e-9)
        self._loading.set(0.0)
        return 100 * min(1.0, share)
