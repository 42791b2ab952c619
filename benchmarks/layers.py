"""Layers of VGG11 forward and backward, ours beside the plain way: time as met and with one allocator, and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from benchmarks import plain
from benchmarks.measure import How, Measured, Side, Work, take_turns
from benchmarks.table import MIB, Row
from convnn import layers
from convnn.models import architectures

IMAGE = (32, 32)
SLOTS = [(slot.in_channels, slot.out_channels, slot.side[0]) for slot in architectures.slots("vgg11", 1.0, IMAGE)]
BATCH = 64
LARGE = (64, 64, 224)  # one image of it
LARGE_ROUNDS = 3

KINDS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "ConvNN": (plain.ConvNN2d, layers.ConvNN2d),
    "ConvNNAttention": (plain.ConvNNAttention2d, layers.ConvNNAttention2d),
    "Conv2d": (nn.Conv2d, nn.Conv2d),
}
ROWS: dict[str, tuple[str, dict[str, Any], str, str]] = {  # name: kind, options, targets of time and of memory
    "ConvNN all": ("ConvNN", {}, "3.5 (1.7)", "1/5"),
    "ConvNN Loc": ("ConvNN", {"similarity_type": "Loc"}, "5", ""),
    "ConvNN random 64": ("ConvNN", {"sampling_type": "random", "num_samples": 64}, "2", ""),
    "ConvNN spatial 8": ("ConvNN", {"sampling_type": "spatial", "num_samples": 8}, "2", ""),
    "ConvNNAttention": ("ConvNNAttention", {}, "2", "1/3"),
}


def work(
    device: torch.device, ours: bool, kind: str, options: dict[str, Any], slot: tuple[int, int, int], batch: int
) -> Work:
    """A layer's forward and backward pass; the first slot of a model needs no gradient by its input."""
    before, after, side = slot
    layer = KINDS[kind][ours](before, after, **options).to(device)
    first = before == SLOTS[0][0]
    x = torch.randn(batch, before, side, side, device=device)
    x = (x if first else x.relu_()).requires_grad_(not first)
    grad = torch.randn(batch, after, side, side, device=device)

    def run() -> None:
        layer(x).backward(grad)
        x.grad = None
        layer.zero_grad(set_to_none=True)

    return Work(run, grad.nbytes + (0 if first else x.nbytes) + sum(p.nbytes for p in layer.parameters()))


def sample(kind: str, options: dict[str, Any], slot: tuple[int, int, int], batch: int, how: How) -> list[Measured]:
    """Plain as met, plain with our allocator, and ours."""
    rest = (kind, options, slot, batch)
    return take_turns([Side(work, (False, *rest), False), Side(work, (False, *rest)), Side(work, (True, *rest))], how)


def rows(how: How) -> Iterator[Row | str]:
    """A row for each kind of layer, summed over the slots, with the products alone and one large image to end with."""
    batch = BATCH // 4 if how.quick else BATCH
    for name, (kind, options, target, memory_target) in ROWS.items():
        found = [sample(kind, options, slot, batch, how) for slot in SLOTS]
        met, same, ours = (sum(each[side].seconds for each in found) for side in range(3))
        theirs, held = (max(each[side].memory for each in found) for side in (0, 2))
        worst = max(each[2].memory / max(1, each[0].memory) for each in found)
        yield {
            "layers of VGG11, forward + backward": f"{name}, batch {batch}",
            "plain ms": 1e3 * met,
            "plain ms, our allocator": 1e3 * same,
            "ours ms": 1e3 * ours,
            "ratio": met / ours,
            "same allocator": same / ours,
            "target": target,
            "plain MiB": theirs / MIB,
            "ours MiB": held / MIB,
            "memory": held / max(1, theirs),
            "worst slot": worst,
            "memory target": memory_target,
            "slots": [_told(slot, each) for slot, each in zip(SLOTS, found, strict=True)],
        }
    alone = [
        take_turns([Side(work, (True, "Conv2d", {"kernel_size": 3, "padding": 1}, slot, batch))], how)[0]
        for slot in SLOTS
    ]
    yield f"the products alone, as Conv2d over the same slots: {1e3 * sum(each.seconds for each in alone):.0f} ms"
    if how.quick:
        return
    large = How(how.device, LARGE_ROUNDS)
    ours = take_turns([Side(work, (True, "ConvNN", {}, LARGE, 1))], large)[0]
    yield (
        f"one 224x224 image, ConvNN2d 64-64, K 9, all: {ours.seconds:.1f} s, {ours.memory / MIB:.0f} MiB beyond input "
        f"and output (target: below 1 GB; plain: not run, its scores alone take 10 GB)"
    )


def _told(slot: tuple[int, int, int], found: list[Measured]) -> dict[str, Any]:
    """A slot's figures, which are saved and not shown: milliseconds, and MiB of plain and ours."""
    met, same, ours = (1e3 * each.seconds for each in found)
    before, after, side = slot
    return {
        "slot": f"{before}-{after}@{side}",
        "plain ms": met,
        "plain ms, our allocator": same,
        "ours ms": ours,
        "plain MiB": found[0].memory / MIB,
        "ours MiB": found[2].memory / MIB,
    }
