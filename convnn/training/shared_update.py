"""One gradient and one AdamW state for the 49 weights of a VGG's head that take the same steps.

Where the last map of the images is one pixel, the first layer of the head reads each channel at 49 equal positions. Its
weight W (out, C, 49) acts by its sum over them, so all 49 have the same gradient G (out, C). The moments m and v of
AdamW follow from the gradients alone, and are the same in all 49, too; so is U, what a step adds beside the decay:

    W[:, :, j] <- (1 - lr * weight_decay) W[:, :, j] + U        U = -lr m / (sqrt(v) + eps), both corrected for bias

In place of W the optimizer steps an update (out, C) of zeros. The head computes with the sum of W plus the update, and
so the update's gradient is G; the step leaves U in it, as zeros have no decay. Then U is added to each of the 49, and
the update is zero again. Gradient, m and v take a 49th of their memory; a step reads W twice and writes it once.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from convnn.config.schema import RunConfig
from convnn.costs.plan import plan
from convnn.models.architectures import POOLED
from convnn.models.vgg import PooledLinear

POSITIONS = POOLED**2


class TrainedTensors:
    """What an optimizer steps: the parameters of a model, but the shared update of a head in place of its weight."""

    def __init__(self, model: nn.Module) -> None:
        shared = {head.weight: head.shared_update for head in heads(model) if head.shared_update is not None}
        self.tensors: list[Tensor] = [shared.get(parameter, parameter) for parameter in model.parameters()]
        self._shared = set(shared.values())

    def gradient_norm(self, foreach: bool | None = None) -> Tensor:
        """Return the norm of the gradients of all parameters; that of an update is the gradient of 49 weights."""
        gradients = [
            POOLED * tensor.grad if tensor in self._shared else tensor.grad  # the root of 49
            for tensor in self.tensors
            if tensor.grad is not None
        ]
        return nn.utils.get_total_norm(gradients, foreach=foreach)


def heads(model: nn.Module) -> list[PooledLinear]:
    """Return the layers of a model that read a pooled map."""
    return [module for module in model.modules() if isinstance(module, PooledLinear)]


def is_shared(config: RunConfig, image_size: tuple[int, int]) -> bool:
    """Return whether the 49 weights share an update in training on images of (H, W) pixels."""
    cost = plan(config, image_size, num_classes=1)
    return cost.trained_numbers < cost.parameters


def share_updates(model: nn.Module) -> None:
    """Give the heads of a model, which is on its device, an update for the 49 weights of a channel."""
    for head in heads(model):
        size = head.out_features, head.in_features // POSITIONS
        head.shared_update = head.weight.new_zeros(size, requires_grad=True)


def apply_after_step(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Let each step of an AdamW over the `TrainedTensors` of a model add the shared updates to the weights."""
    for head in heads(model):
        if head.shared_update is not None:
            optimizer.register_step_post_hook(partial(_apply, head, head.shared_update))


@torch.no_grad()
def _apply(head: PooledLinear, update: Tensor, optimizer: torch.optim.Optimizer, *_: Any) -> None:
    group = optimizer.param_groups[0]
    decay = group["lr"] * group["weight_decay"]
    weight, step = head.weight.unflatten(1, (-1, POSITIONS)), update[..., None]
    overflow: Tensor | None = getattr(optimizer, "found_inf", None)  # of the gradient scaler: 1 where a step is skipped
    if overflow is None:
        torch.add(step, weight, alpha=1 - decay, out=weight)
    else:
        torch.addcmul(step, weight, 1 - decay * (1 - overflow), out=weight)
    update.zero_()


def in_form_of(parameter: Tensor, state: Tensor) -> Tensor:
    """Return the optimizer's state of a head's weight in the form of what is stepped now, the weight or its update.

    (out, C * 49) becomes (out, C) by the mean, which is each of the 49 unless they were trained on larger images;
    (out, C) becomes (out, C * 49) by repeating it. Any other state is returned as it is.
    """
    if state.dim() != 2 or not state.is_floating_point():
        return state
    rows, columns = parameter.shape
    if state.shape == (rows, columns * POSITIONS):
        return state.unflatten(1, (-1, POSITIONS)).mean(2, dtype=torch.float64).to(state.dtype)
    if (rows, columns) == (state.shape[0], state.shape[1] * POSITIONS):
        return state.repeat_interleave(POSITIONS, 1)
    return state
