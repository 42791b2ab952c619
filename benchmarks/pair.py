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
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import plain
from benchmarks.measure import How, resident
from benchmarks.step import config, stepping
from benchmarks.table import MIB, Row
from convnn import allocator, build

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


def first_step(images: int, device: str) -> tuple[float, float]:
    """The relative difference of the first step's losses, and the largest of its gradients, each by its norm."""
    on = torch.device(device)
    x, y = next(iter(_batches(images, on)))
    losses, grads = [], []
    for ours in (False, True):
        model, _ = _model(ours, on)
        torch.manual_seed(0)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        losses.append(loss.item())
        grads.append({name: p.grad for name, p in model.named_parameters()})
    apart = max(((grads[1][name] - g).norm() / g.norm()).item() for name, g in grads[0].items() if not _hidden(name))
    return abs(losses[1] - losses[0]) / losses[0], apart


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
    loss, grad = _apart(first_step, images, how.device)
    yield f"first step, ours beside plain: loss {loss:.1e} (target 1e-5), largest gradient {grad:.1e} (target 1e-4)"
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
