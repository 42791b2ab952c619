"""One epoch of VGG11 ConvNN on 5,000 CIFAR-10 images, ours and plain from the same weights on the same batches.

The losses and gradients of the first step are compared; after the epoch both losses stand beside the gap that plain
with one thread and with two shows by itself. The images are read from the folder of the default configuration, or from
$CONVNN_DATA, which may also hold them as a tree of folders: train/CLASS/IMAGE.
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
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import plain
from benchmarks.measure import How, resident
from benchmarks.step import config, stepping
from benchmarks.table import MIB, Row
from convnn.training import allocator, build

IMAGES, QUICK_IMAGES = 5000, 256
BATCH = 64
LAST = 10  # steps whose mean loss ends the epoch


@dataclass(frozen=True)
class Trained:
    """An epoch: its seconds, the resident memory it grew by, its first loss and the mean of the last ones."""

    seconds: float
    memory: int
    first: float
    last: float


def epoch(ours: bool, threads: int, images: int, device: str) -> Trained:
    """Train one epoch in this process, which has trained nothing before."""
    if ours:
        allocator.keep_memory()
    torch.set_num_threads(threads)
    on = torch.device(device)
    batches = _batches(images, on)
    before = resident("VmRSS")
    model, step = _model(ours, on)
    losses = []
    start = time.perf_counter()
    for number, (x, y) in enumerate(batches):
        torch.manual_seed(number)
        losses.append(step(x, y))
    found = torch.stack(losses).tolist()
    seconds = time.perf_counter() - start
    memory = torch.cuda.max_memory_allocated() if on.type == "cuda" else resident("VmHWM") - before
    assert model.training
    return Trained(seconds, memory, found[0], sum(found[-LAST:]) / len(found[-LAST:]))


@dataclass(frozen=True)
class Apart:
    """How far the first steps are apart: relative differences of losses, and the largest of the gradients."""

    loss: float  # ours beside plain, in float64
    gradient: float  # likewise
    rounded: float  # ours beside plain, in float32
    by_rounding: float  # plain in float32 beside plain in float64


def first_step(images: int, device: str) -> Apart:
    """Compare the first step. In float32 rounding chooses between neighbours that are nearly as near.

    Each layer sees what the one before made of that, so that two float32 steps of which one bit differs are far apart.
    """
    on = torch.device(device)
    x, y = next(iter(_batches(images, on)))
    losses: dict[tuple[bool, torch.dtype], float] = {}
    grads: list[dict[str, Any]] = []
    for ours, dtype in product((False, True), (torch.float32, torch.float64)):
        model, _ = _model(ours, on)
        model.to(dtype)
        torch.manual_seed(0)
        loss = F.cross_entropy(model(x.to(dtype)), y)
        loss.backward()
        losses[ours, dtype] = loss.item()
        if dtype == torch.float64:
            grads.append({name: p.grad for name, p in model.named_parameters()})
    exact, mine = grads
    apart = max(((mine[name] - grad).norm() / grad.norm()).item() for name, grad in exact.items() if not _hidden(name))
    return Apart(
        _relative(losses[True, torch.float64], losses[False, torch.float64]),
        apart,
        _relative(losses[True, torch.float32], losses[False, torch.float32]),
        _relative(losses[False, torch.float32], losses[False, torch.float64]),
    )


def _relative(value: float, to: float) -> float:
    return abs(value - to) / to


def _hidden(name: str) -> bool:
    """Whether a gradient is zero but for rounding: of a bias that the BatchNorm after it takes away."""
    return ".conv" in name and name.endswith(".bias")


def _batches(images: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    asked = config("ConvNN", BATCH)
    folder = os.environ.get("CONVNN_DATA", asked.data.path)
    dataset = "folder" if (Path(folder) / "train").is_dir() else "cifar10"
    change = {"dataset": dataset, "limit": images, "path": folder}
    asked = asked.model_copy(update={"data": asked.data.model_copy(update=change)})
    train = build.data(asked, device, splits=("train",)).train
    assert train is not None
    return [(x, y) for x, y in train.epoch(1)]


def _model(ours: bool, device: torch.device) -> tuple[torch.nn.Module, object]:
    """The model of either side from the same weights, and its step."""
    torch.manual_seed(0)
    weights = plain.vgg11(plain.ConvNN2d, 10).state_dict()
    model, step = stepping(device, ours, config("ConvNN", BATCH))
    model.load_state_dict(weights)
    return model.train(), step


def rows(how: How) -> Iterator[Row | str]:
    """The first step, then a row for each way to train the epoch."""
    images, threads = QUICK_IMAGES if how.quick else IMAGES, torch.get_num_threads()
    first: Apart = _apart(first_step, images, how.device)
    yield (
        f"first step in float64, ours beside plain: loss {first.loss:.1e} (target 1e-5), largest gradient "
        f"{first.gradient:.1e} (target 1e-4)\nin float32, where rounding chooses between neighbours that are nearly as "
        f"near: loss {first.rounded:.1e}; plain in float32 beside plain in float64: {first.by_rounding:.1e}"
    )
    for name, ours, using in (("ours", True, threads), ("plain", False, threads), ("plain, 1 thread", False, 1)):
        found: Trained = _apart(epoch, ours, using, images, how.device)
        yield {
            f"one epoch of VGG11 ConvNN, {images} CIFAR-10 images": name,
            "s": found.seconds,
            "MiB": found.memory / MIB,
            "first loss": f"{found.first:.6f}",
            f"mean loss of the last {LAST} steps": f"{found.last:.4f}",
        }


def _apart(function, *arguments):  # type: ignore[no-untyped-def]
    """The function's result, from a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
        return child.submit(function, *arguments).result()
