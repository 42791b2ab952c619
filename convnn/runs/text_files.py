"""The text files of the original tool, written from a configuration and from a history."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from convnn.events import Epoch, Started
from convnn.runs.history import History
from convnn.text import escaped

if TYPE_CHECKING:
    from torch import nn

ARGS, MODEL, RESULTS = "args.txt", "model.txt", "train_eval_results.txt"


def args_text(
    options: Mapping[str, object],
    *,
    num_classes: int,
    img_size: tuple[int, ...],
    total_params: int,
    trainable_params: int,
) -> str:
    """Return the text of args.txt: the options by the names of their flags, then the sizes of data and model.

    `img_size` is (channels, height, width) in pixels.
    """
    sizes = {
        "num_classes": num_classes,
        "img_size": img_size,
        "total_params": total_params,
        "trainable_params": trainable_params,
    }
    return "".join(f"{name}: {_value(value)}\n" for name, value in [*options.items(), *sizes.items()])


def _value(value: object) -> str:
    if isinstance(value, tuple) and all(isinstance(word, str) for word in value):
        value = " ".join(value)
    return escaped(value)


def model_text(model: nn.Module) -> str:
    """Return the text of model.txt: the modules, then the number of parameters of each part of the model."""
    parts = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    rows = [*parts.items(), ("total", total), ("trainable", trainable)]
    width = max(len(name) for name, _ in rows)
    return f"{model}\n\nParameters\n" + "".join(f"{name:<{width}}  {count:>15,}\n" for name, count in rows)


def results_text(history: History) -> str:
    """Return the text of train_eval_results.txt for the epochs so far; times are seconds of training alone."""
    lines = []
    if history.started:
        lines.append(_complexity(history.started))
    lines += [_epoch(epoch) for epoch in history.epochs]
    if history.epochs:
        times = [epoch.metrics.get("train_s", math.nan) for epoch in history.epochs]
        lines += ["", f"Average Epoch Time: {sum(times) / len(times):.4f}s"]
    if best := history.best("test_top1"):
        lines.append(f"Max Accuracy: {best[0]:.4f}% at Epoch {best[1]}")
    return "".join(text + "\n" for text in lines)


def _complexity(started: Started) -> str:
    flops = parameters = math.nan
    if started.flops is not None:
        flops = started.flops / 1e9
    if started.trainable_parameters is not None:
        parameters = started.trainable_parameters / 1e6
    return f"Model Complexity (Profiler): GFLOPs: {flops:.8f}, Trainable Parameters: {parameters:.8f} M"


def _epoch(epoch: Epoch) -> str:
    def part(split: str) -> str:
        loss, top1, top5 = (epoch.metrics.get(f"{split}_{name}", math.nan) for name in ("loss", "top1", "top5"))
        return f"Loss: {loss:.8f} Accuracy: Top1: {top1:.4f}%, Top5: {top5:.4f}%"

    seconds = epoch.metrics.get("train_s", math.nan)
    return f"[Epoch {epoch.epoch:03d}] Time: {seconds:.4f}s | [Train] {part('train')} | [Test] {part('test')}"
