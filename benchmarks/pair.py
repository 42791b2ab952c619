"""One epoch of VGG11 ConvNN on 5,000 CIFAR-10 images, ours and plain, from the same weights on the same batches.

Losses and gradients of the first step are compared. After the epoch, the difference of the losses can be compared with
that of plain with one thread and with all. The images are read from the default data path or from $CONVNN_DATA, which
may also hold class folders: train/CLASS/IMAGE.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import plain
from benchmarks.measure import BenchOptions, memory_status
from benchmarks.step import training_step, vgg11, vgg11_config
from benchmarks.table import MIB, Row
from convnn.training import allocator, build

IMAGES, QUICK_IMAGES = 5000, 256
BATCH = 64
CONFIG = vgg11_config("ConvNN", BATCH)
LAST_STEPS = 10  # of the epoch, whose mean loss is reported


@dataclass(frozen=True)
class EpochResult:
    """Seconds of an epoch, growth of resident memory in bytes, the first loss, and the mean of the last ones."""

    seconds: float
    memory: int
    first_loss: float
    last_loss: float


def epoch(ours: bool, threads: int, images: int, device: str) -> EpochResult:
    """Train one epoch in a fresh process."""
    if ours:
        allocator.keep_memory()
    torch.set_num_threads(threads)
    torch_device = torch.device(device)
    batches = _batches(images, torch_device)
    before = memory_status("VmRSS")
    model = _model(ours, torch_device)
    step = training_step(model, ours, CONFIG)
    losses = []
    start = time.perf_counter()
    for number, (x, y) in enumerate(batches):
        torch.manual_seed(number)
        losses.append(step(x, y))
    loss_values = torch.stack(losses).tolist()
    seconds = time.perf_counter() - start
    memory = torch.cuda.max_memory_allocated() if torch_device.type == "cuda" else memory_status("VmHWM") - before
    assert model.training
    return EpochResult(seconds, memory, loss_values[0], mean(loss_values[-LAST_STEPS:]))


@dataclass(frozen=True)
class StepDifference:
    """Relative differences of the first step."""

    loss: float  # ours and plain, in float64
    gradient: float  # ours and plain, in float64, the largest of all parameters
    loss_float32: float  # ours and plain, in float32
    loss_by_rounding: float  # plain in float32 and plain in float64


def first_step(images: int, device: str) -> StepDifference:
    """Compare the first step. In float32, rounding decides between neighbors that are almost equally near.

    The next layer compares the results, so that two float32 steps that differ in one bit end far apart.
    """
    torch_device = torch.device(device)
    x, y = next(iter(_batches(images, torch_device)))
    losses: dict[tuple[bool, torch.dtype], float] = {}
    grads: list[dict[str, Any]] = []
    for ours, dtype in product((False, True), (torch.float32, torch.float64)):
        model = _model(ours, torch_device).to(dtype)
        torch.manual_seed(0)
        loss = F.cross_entropy(model(x.to(dtype)), y)
        loss.backward()
        losses[ours, dtype] = loss.item()
        if dtype == torch.float64:
            grads.append({name: p.grad for name, p in model.named_parameters()})
    plain_grads, our_grads = grads
    gradient = max(
        ((our_grads[name] - grad).norm() / grad.norm()).item()
        for name, grad in plain_grads.items()
        if not _is_canceled(name)
    )
    return StepDifference(
        _relative_difference(losses[True, torch.float64], losses[False, torch.float64]),
        gradient,
        _relative_difference(losses[True, torch.float32], losses[False, torch.float32]),
        _relative_difference(losses[False, torch.float32], losses[False, torch.float64]),
    )


def _relative_difference(value: float, reference: float) -> float:
    return abs(value - reference) / reference


def _is_canceled(name: str) -> bool:
    """Whether a gradient is zero up to rounding: that of a bias before BatchNorm."""
    return ".conv" in name and name.endswith(".bias")


def _batches(images: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    folder = os.environ.get("CONVNN_DATA", CONFIG.data.path)
    dataset = "folder" if (Path(folder) / "train").is_dir() else "cifar10"
    change = {"dataset": dataset, "limit": images, "path": folder}
    config = CONFIG.model_copy(update={"data": CONFIG.data.model_copy(update=change)})
    train = build.data(config, device, splits=("train",)).train
    assert train is not None
    return [(x, y) for x, y in train.epoch(1)]


def _model(ours: bool, device: torch.device) -> torch.nn.Module:
    """A model with the same weights for both sides."""
    torch.manual_seed(0)
    weights = plain.vgg11(plain.ConvNN2d, 10).state_dict()
    model = vgg11(device, ours, CONFIG)
    model.load_state_dict(weights)
    return model.train()


def rows(bench: BenchOptions) -> Iterator[Row | str]:
    """The first step, then a row for each epoch."""
    images, threads = QUICK_IMAGES if bench.quick else IMAGES, torch.get_num_threads()
    first: StepDifference = _in_fresh_process(first_step, images, bench.device)
    yield (
        "first step in float64, relative difference of ours and plain: "
        f"loss {first.loss:.1e} (target 1e-5), largest gradient {first.gradient:.1e} (target 1e-4)\n"
        f"in float32, where rounding decides between neighbors: loss {first.loss_float32:.1e}; "
        f"plain in float32 and in float64: {first.loss_by_rounding:.1e}"
    )
    for name, ours, epoch_threads in (
        ("ours", True, threads),
        ("plain", False, threads),
        ("plain, 1 thread", False, 1),
    ):
        result: EpochResult = _in_fresh_process(epoch, ours, epoch_threads, images, bench.device)
        yield {
            f"one epoch of VGG11 ConvNN, {images} CIFAR-10 images": name,
            "s": result.seconds,
            "MiB": result.memory / MIB,
            "first loss": f"{result.first_loss:.6f}",
            f"mean loss of the last {LAST_STEPS} steps": f"{result.last_loss:.4f}",
        }


def _in_fresh_process(function, *arguments):  # type: ignore[no-untyped-def]
    """Return the function's result from a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
        return child.submit(function, *arguments).result()
