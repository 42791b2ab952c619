"""BatchNorm's running statistics, taken anew from training batches before an evaluation."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from convnn.training.evaluation import autocast
from convnn.training.process_group import ALONE, ProcessGroup
from convnn.training.step_seed import step_seed

if TYPE_CHECKING:
    from convnn.data.loaders import Loader


def recalibration_steps(
    model: nn.Module,
    loader: Loader,
    device: torch.device,
    amp: torch.dtype | None,
    *,
    batches: int,
    seed: int,
    group: ProcessGroup = ALONE,
) -> Generator[None]:
    """Yield after each batch and while one is waited for; then replace the running statistics of the model.

    They are the means over the first `batches` training batches in an order of their own, as in
    `torch.optim.swa_utils.update_bn`, of the model as it is evaluated: without dropout. Until the end the model keeps
    its own, so that it can be saved at every yield. Random numbers are drawn from the seed, the same each time.
    """
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    momenta = {name: norm.momentum for name, norm in norms.items()}
    statistics: dict[str, Tensor] = {}
    for name, norm in norms.items():
        assert norm.running_mean is not None and norm.running_var is not None
        statistics[f"{name}.running_mean"] = torch.zeros_like(norm.running_mean)
        statistics[f"{name}.running_var"] = torch.ones_like(norm.running_var)
        statistics[f"{name}.num_batches_tracked"] = torch.zeros((), dtype=torch.long, device=device)
    model.eval()
    count = 0
    torch.manual_seed(step_seed(seed, 0, count))
    try:
        for norm in norms.values():
            norm.train()
            norm.momentum = None  # a mean over all batches, not a moving one
        with closing(loader.poll_epoch(0)) as polled:
            for batch in polled:
                images = 0 if batch is None else sum(group.proceed(len(batch[1])))
                if batch is not None and images:  # ready, and some image of it can be read
                    group.rows.start, group.rows.size = 0, images
                    with torch.no_grad(), autocast(device, amp):
                        functional_call(model, statistics, (batch[0],))
                    count += 1
                yield None
                if count == batches:
                    break
                torch.manual_seed(step_seed(seed, 0, count))  # others may have drawn meanwhile
    finally:
        for name, norm in norms.items():
            norm.momentum = momenta[name]
        model.eval()
    if count:
        for name, norm in norms.items():
            norm.get_buffer("running_mean").copy_(statistics[f"{name}.running_mean"])
            norm.get_buffer("running_var").copy_(statistics[f"{name}.running_var"])
