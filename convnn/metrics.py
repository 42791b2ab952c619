"""What is counted over the images of an epoch: a name and a function each.

A metric takes logits (B, classes) and targets (B,) and gives the score of each image, 0 to 1, as (B,). Its mean over
the images seen is reported in percent, as train_NAME, test_NAME and, where there is a validation split, val_NAME.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Metric = Callable[["Tensor", "Tensor"], "Tensor"]


def top(k: int) -> Metric:
    """Whether the target is among the k highest logits (all of them where there are fewer classes)."""

    def score(logits: Tensor, targets: Tensor) -> Tensor:
        best = logits.topk(min(k, logits.shape[1]), dim=1).indices  # (B, k)
        return (best == targets[:, None]).any(dim=1)

    return score


METRICS: dict[str, Metric] = {"top1": top(1), "top5": top(5)}


def lower_is_better(metric: str) -> bool:
    """Whether less of the metric is better: losses, times and memory; not accuracies and speeds."""
    return metric.endswith("loss") or metric in {"train_s", "eval_s", "peak_bytes"}
