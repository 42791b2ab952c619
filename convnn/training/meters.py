"""Running sums of an epoch: kept on the device, read only when a figure is wanted; and the time they took."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from convnn.metrics import SCORES

NEVER = 2**62  # the step of a loss that was never non-finite


class Tally:
    """Sums over the images seen: losses, scores, gradient norms, and the first step whose loss was not finite."""

    def __init__(self, device: torch.device) -> None:
        wide = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        self.sums = torch.zeros(2 + len(SCORES), dtype=wide, device=device)  # loss, gradient norm, scores
        self.bad = torch.full((), NEVER, dtype=torch.int64, device=device)
        self.images = 0
        self.steps = 0

    def add(self, losses: Tensor, logits: Tensor, targets: Tensor, step: int = 0) -> None:
        """Count a (micro-)batch: losses (B,), logits (B, classes), targets (B,)."""
        scores = [score(logits, targets).sum() for score in SCORES.values()]
        loss = losses.sum().to(self.sums.dtype)
        self.sums += torch.stack([loss, torch.zeros_like(loss), *(score.to(loss.dtype) for score in scores)])
        self.bad = self.bad.minimum(torch.where(loss.isfinite(), NEVER, step))
        self.images += len(targets)

    def add_norm(self, norm: Tensor) -> None:
        """Count the gradient norm of a step; a step that fp16 scaling skips has none."""
        self.sums[1] += torch.where(norm.isfinite(), norm, 0.0).to(self.sums.dtype)
        self.steps += 1

    def first_bad(self) -> int | None:
        """The first step with a non-finite loss, None when there was none. Waits for the device."""
        step = int(self.bad.item())
        return None if step == NEVER else step

    def figures(self, split: str) -> dict[str, float]:
        """Mean loss and scores in percent, by metric name. Waits for the device."""
        loss, norm, *scores = self.sums.tolist()
        found = {f"{split}_loss": loss / self.images}
        found |= {f"{split}_{name}": 100 * s / self.images for name, s in zip(SCORES, scores, strict=True)}
        return found | ({"grad_norm": norm / self.steps} if self.steps else {})

    def state(self) -> dict[str, Any]:
        """All of it as plain numbers; `restore` takes it back exactly."""
        return {"sums": self.sums.tolist(), "bad": int(self.bad.item()), "images": self.images, "steps": self.steps}

    def restore(self, state: dict[str, Any]) -> None:
        self.sums.copy_(torch.tensor(state["sums"], dtype=torch.float64))
        self.bad.fill_(state["bad"])
        self.images, self.steps = state["images"], state["steps"]


class Stopwatch:
    """Seconds that ran while it went; it stands still until told to go."""

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None

    def seconds(self) -> float:
        return self._before + (time.perf_counter() - self._since if self._since is not None else 0.0)

    @property
    def running(self) -> bool:
        return self._since is not None

    def start_at(self, seconds: float) -> None:
        self._before, self._since = seconds, None

    def stop(self) -> None:
        self.start_at(self.seconds())

    def go(self) -> Stopwatch:
        if self._since is None:
            self._since = time.perf_counter()
        return self
