"""Layers in the slots of VGG11, forward and backward, beside the plain implementation: time and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from benchmarks import plain
from benchmarks.measure import BenchOptions, Contender, Measurement, Work, measure_interleaved
from benchmarks.table import MIB, Row
from convnn import layers
from convnn.models import architectures

IMAGE = (32, 32)
SLOTS = [(slot.in_channels, slot.out_channels, slot.side[0]) for slot in architectures.slots("vgg11", 1.0, IMAGE)]
BATCH = 64
LARGE_SLOT = (64, 64, 224)  # measured with one image
LARGE_ROUNDS = 3

KINDS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {  # plain, ours
    "ConvNN": (plain.ConvNN2d, layers.ConvNN2d),
    "ConvNNAttention": (plain.ConvNNAttention2d, layers.ConvNNAttention2d),
    "Conv2d": (nn.Conv2d, nn.Conv2d),
}


@dataclass(frozen=True)
class Case:
    """A row of the table: a layer, and its targets as "plain / ours" time and "ours / plain" memory."""

    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    target: str = "2"
    memory_target: str = ""


CASES = {
    "ConvNN all": Case("ConvNN", target="3.5 (1.7)", memory_target="1/5"),
    "ConvNN Loc": Case("ConvNN", {"similarity_type": "Loc"}, target="5"),
    "ConvNN random 64": Case("ConvNN", {"sampling_type": "random", "num_samples": 64}),
    "ConvNN spatial 8": Case("ConvNN", {"sampling_type": "spatial", "num_samples": 8}),
    "ConvNNAttention": Case("ConvNNAttention", memory_target="1/3"),
}


def work(
    device: torch.device, ours: bool, kind: str, options: dict[str, Any], slot: tuple[int, int, int], batch: int
) -> Work:
    """A layer's forward and backward pass; the first slot of a model needs no gradient by its input."""
    in_channels, out_channels, side = slot
    layer = KINDS[kind][ours](in_channels, out_channels, **options).to(device)
    is_first = in_channels == SLOTS[0][0]
    x = torch.randn(batch, in_channels, side, side, device=device)
    if not is_first:
        x = x.relu_().requires_grad_()
    grad = torch.randn(batch, out_channels, side, side, device=device)

    def run() -> None:
        layer(x).backward(grad)
        x.grad = None
        layer.zero_grad(set_to_none=True)

    output_bytes = grad.nbytes + sum(p.nbytes for p in layer.parameters())
    return Work(run, output_bytes if is_first else output_bytes + x.nbytes)


def measure_slot(case: Case, slot: tuple[int, int, int], batch: int, bench: BenchOptions) -> list[Measurement]:
    """Measure plain as torch ships it, plain with convnn's allocator settings, and ours."""
    arguments = (case.kind, case.options, slot, batch)
    contenders = [
        Contender(work, (False, *arguments), keeps_memory=False),
        Contender(work, (False, *arguments)),
        Contender(work, (True, *arguments)),
    ]
    return measure_interleaved(contenders, bench)


def rows(bench: BenchOptions) -> Iterator[Row | str]:
    """A row for each case, summed over the slots; then Conv2d alone, and one large image."""
    batch = BATCH // 4 if bench.quick else BATCH
    for name, case in CASES.items():
        slots = [measure_slot(case, slot, batch, bench) for slot in SLOTS]
        plain_s, plain_kept_s, ours_s = (sum(slot[index].seconds for slot in slots) for index in range(3))
        plain_memory, ours_memory = (max(slot[index].memory for slot in slots) for index in (0, 2))
        yield {
            "layers of VGG11, forward + backward": f"{name}, batch {batch}",
            "plain ms": 1e3 * plain_s,
            "plain ms, our allocator": 1e3 * plain_kept_s,
            "ours ms": 1e3 * ours_s,
            "plain / ours": plain_s / ours_s,
            "plain / ours, our allocator": plain_kept_s / ours_s,
            "target": case.target,
            "plain MiB": plain_memory / MIB,
            "ours MiB": ours_memory / MIB,
            "ours / plain": ours_memory / max(1, plain_memory),
            "largest ours / plain of a slot": max(slot[2].memory / max(1, slot[0].memory) for slot in slots),
            "memory target": case.memory_target,
            "slots": [_slot_row(slot, measured) for slot, measured in zip(SLOTS, slots, strict=True)],
        }
    conv_options = {"kernel_size": 3, "padding": 1}
    conv = [
        measure_interleaved([Contender(work, (True, "Conv2d", conv_options, slot, batch))], bench)[0] for slot in SLOTS
    ]
    yield f"Conv2d in the same slots, for comparison: {1e3 * sum(slot.seconds for slot in conv):.0f} ms"
    if bench.quick:
        return
    large_bench = BenchOptions(bench.device, LARGE_ROUNDS)
    large = measure_interleaved([Contender(work, (True, "ConvNN", {}, LARGE_SLOT, 1))], large_bench)[0]
    yield (
        f"one 224x224 image, ConvNN2d 64-64, K 9, all: {large.seconds:.1f} s, {large.memory / MIB:.0f} MiB beyond "
        "input and output (target: below 1 GB; plain is not run: its scores alone take 10 GB)"
    )


def _slot_row(slot: tuple[int, int, int], measured: list[Measurement]) -> dict[str, Any]:
    """The results of a slot, which are saved but not printed."""
    plain_ms, plain_kept_ms, ours_ms = (1e3 * measurement.seconds for measurement in measured)
    in_channels, out_channels, side = slot
    return {
        "slot": f"{in_channels}-{out_channels}@{side}",
        "plain ms": plain_ms,
        "plain ms, our allocator": plain_kept_ms,
        "ours ms": ours_ms,
        "plain MiB": measured[0].memory / MIB,
        "ours MiB": measured[2].memory / MIB,
    }
