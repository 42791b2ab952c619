"""A training step of VGG11 (forward, backward, clipping and AdamW) beside the plain implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import plain
from benchmarks.measure import BenchOptions, Contender, Work, measure_interleaved
from benchmarks.table import MIB, Row
from convnn.config.schema import RunConfig
from convnn.training import build
from convnn.training.shared_update import TrainedTensors

BATCH = 64
CLASSES = 10
SIDE = 32
TARGETS = {"ConvNN": "3", "Branching": "2.5", "Conv2d": "1.8"}
PLAIN: dict[str, Callable[[int, int], nn.Module]] = {
    "ConvNN": plain.ConvNN2d,
    "Branching": plain.Branching2d,
    "Conv2d": partial(nn.Conv2d, kernel_size=3, padding="same"),
}


def vgg11_config(layer: str, batch: int) -> RunConfig:
    """VGG11 with a layer in its slots, and defaults otherwise."""
    return RunConfig.model_validate(
        {"model": {"name": "vgg11"}, "layer": {"type": layer}, "training": {"batch_size": batch}}
    )


def vgg11(device: torch.device, ours: bool, config: RunConfig) -> nn.Module:
    """The model, ours or the plain one."""
    model = build.model(config, CLASSES) if ours else plain.vgg11(PLAIN[config.layer.type], CLASSES)
    return model.to(device)


def training_step(model: nn.Module, ours: bool, config: RunConfig) -> Callable[..., torch.Tensor]:
    """The function that trains a model on images and labels and returns the loss."""
    section = config.optimizer
    if ours:
        optimizer = build.optimizer(config, model, (SIDE, SIDE))
    else:
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=section.lr, weight_decay=section.weight_decay, foreach=False, fused=False
        )
    trained, foreach = TrainedTensors(model), None if ours else False

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        norm = trained.gradient_norm(foreach=foreach)
        nn.utils.clip_grads_with_norm_(trained.tensors, 1.0, norm, foreach=foreach)
        optimizer.step()
        return loss.detach()

    return step


def work(device: torch.device, ours: bool, layer: str, batch: int) -> Work:
    """Steps on one batch of random images."""
    config = vgg11_config(layer, batch)
    step = training_step(vgg11(device, ours, config), ours, config)
    x, y = torch.randn(batch, 3, SIDE, SIDE, device=device), torch.arange(batch, device=device) % CLASSES
    return Work(lambda: step(x, y))


def rows(bench: BenchOptions) -> Iterator[Row]:
    """A row for each layer."""
    batch = BATCH // 4 if bench.quick else BATCH
    for layer, target in TARGETS.items():
        contenders = [
            Contender(work, (False, layer, batch), keeps_memory=False),
            Contender(work, (False, layer, batch)),
            Contender(work, (True, layer, batch)),
        ]
        plain_as_shipped, plain_kept, ours = measure_interleaved(contenders, bench)
        yield {
            "training step of VGG11": f"{layer}, batch {batch}",
            "plain ms": 1e3 * plain_as_shipped.seconds,
            "plain ms, our allocator": 1e3 * plain_kept.seconds,
            "ours ms": 1e3 * ours.seconds,
            "plain / ours": plain_as_shipped.seconds / ours.seconds,
            "plain / ours, our allocator": plain_kept.seconds / ours.seconds,
            "target": target,
            "plain MiB beyond the weights": plain_as_shipped.memory / MIB,
            "ours MiB beyond the weights": ours.memory / MIB,
        }
