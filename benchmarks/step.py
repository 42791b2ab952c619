"""A whole training step of VGG11, ours beside the plain way: forward, backward, clipping and AdamW."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import plain
from benchmarks.measure import How, Side, Work, take_turns
from benchmarks.table import MIB, Row
from convnn.config.schema import RunConfig
from convnn.training import build

BATCH = 64
CLASSES = 10
TARGETS = {"ConvNN": "3", "Branching": "2.5", "Conv2d": "1.8"}
PLAIN: dict[str, Callable[[int, int], nn.Module]] = {
    "ConvNN": plain.ConvNN2d,
    "Branching": plain.Branching2d,
    "Conv2d": partial(nn.Conv2d, kernel_size=3, padding="same"),
}


def config(layer: str, batch: int) -> RunConfig:
    """VGG11 with a layer in its slots and the defaults otherwise."""
    return RunConfig.model_validate(
        {"model": {"name": "vgg11"}, "layer": {"type": layer}, "training": {"batch_size": batch}}
    )


def stepping(device: torch.device, ours: bool, asked: RunConfig) -> tuple[nn.Module, Callable[..., torch.Tensor]]:
    """A model, and a step of it on images and labels that returns the loss."""
    model = build.model(asked, CLASSES) if ours else plain.vgg11(PLAIN[asked.layer.type], CLASSES)
    model.to(device)
    section = asked.optimizer
    if ours:
        optimizer = build.optimizer(asked, model)
    else:
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=section.lr, weight_decay=section.weight_decay, foreach=False, fused=False
        )
    foreach = None if ours else False

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=foreach)
        optimizer.step()
        return loss.detach()

    return model, step


def work(device: torch.device, ours: bool, layer: str, batch: int) -> Work:
    """Steps on one batch of noise."""
    _, step = stepping(device, ours, config(layer, batch))
    x, y = torch.randn(batch, 3, 32, 32, device=device), torch.arange(batch, device=device) % CLASSES
    return Work(lambda: step(x, y))


def rows(how: How) -> Iterator[Row]:
    """A row for each layer."""
    batch = BATCH // 4 if how.quick else BATCH
    for layer, target in TARGETS.items():
        rest = (layer, batch)
        sides = [Side(work, (False, *rest), False), Side(work, (False, *rest)), Side(work, (True, *rest))]
        met, same, ours = take_turns(sides, how)
        yield {
            "training step of VGG11": f"{layer}, batch {batch}",
            "plain ms": 1e3 * met.seconds,
            "plain ms, our allocator": 1e3 * same.seconds,
            "ours ms": 1e3 * ours.seconds,
            "ratio": met.seconds / ours.seconds,
            "same allocator": same.seconds / ours.seconds,
            "target": target,
            "plain MiB beyond the weights": met.memory / MIB,
            "ours MiB beyond the weights": ours.memory / MIB,
        }
