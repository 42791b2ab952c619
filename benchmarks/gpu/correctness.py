"""Whether the card computes what the CPU does: every layer in float64 and float32, mixed precision, and no waiting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.bench import LAYERS, SIDE, GpuBench, config, random_batch, relative_error, set_products, trainer_of
from benchmarks.table import Row
from convnn import layers
from convnn.training.device import autocast

SAMPLINGS: tuple[dict[str, Any], ...] = (
    {},
    {"sampling_type": "random", "num_samples": 40},  # more than K of them within the map
    {"sampling_type": "spatial", "num_samples": 4},
)
SHUFFLES: tuple[dict[str, Any], ...] = ({}, {"shuffle_pattern": "BA", "shuffle_scale": 2})
IN_CHANNELS, OUT_CHANNELS, SIDES, IMAGES = 4, 6, (12, 8), 3
TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-4}
"""Of relative errors: in float32 the sums of the backward pass are rounded thousands of times."""
FAILURES = 12  # listed for each type
EVERY = 23  # configuration in a small run
HALF_TOLERANCE = {torch.bfloat16: 0.05, torch.float16: 0.02}


@dataclass(frozen=True)
class Case:
    """A layer with options."""

    layer_class: type[nn.Module]
    dims: int
    options: dict[str, Any]

    def make(self) -> nn.Module:
        return self.layer_class(IN_CHANNELS, OUT_CHANNELS, **self.options)

    @property
    def has_ties(self) -> bool:
        """Whether positions of the padding that differ in their coordinates may score alike: any may be chosen.

        With Loc_Col similarity those in mirrored directions are as far, up to rounding.
        """
        return self.options["aggregation_type"] == "Loc_Col"


def cases() -> Iterator[Case]:
    """Every layer with every combination of its options."""
    for dims, sampling, metric, aggregation, shuffle in itertools.product(
        (1, 2), SAMPLINGS, ("cosine", "euclidean"), ("Col", "Loc_Col"), SHUFFLES
    ):
        convnn = layers.ConvNN1d if dims == 1 else layers.ConvNN2d
        attention = layers.ConvNNAttention1d if dims == 1 else layers.ConvNNAttention2d
        common = {"magnitude_type": metric, "aggregation_type": aggregation, **sampling, **shuffle}
        for similarity, K in itertools.product(("Loc", "Col", "Loc_Col"), (3**dims, 4, 1)):
            if dims == 2 or not shuffle or sampling.get("num_samples", 99) >= K:
                yield Case(convnn, dims, {"K": K, "similarity_type": similarity, **common})
        for K in (4, 1):
            yield Case(attention, dims, {"K": K, "attention_dropout": 0.0, **common})


def correct_rows(bench: GpuBench) -> Iterator[Row | str]:
    """A row for each number type: every layer's output and gradients beside those of float64 on the CPU."""
    set_products("fp32")
    errors: dict[torch.dtype, list[tuple[float, Case]]] = {torch.float64: [], torch.float32: []}
    failures: list[str] = []
    for number, case in enumerate(itertools.islice(cases(), 0, None, EVERY if bench.small else 1)):
        if bench.seconds_left() < 2:
            break
        torch.manual_seed(number)
        reference = case.make().double().eval()
        x = torch.randn(IMAGES, IN_CHANNELS, *SIDES[: case.dims], dtype=torch.float64)
        if case.has_ties:
            x = x + 4  # no padding is then among the nearest
        expected = outputs_and_gradients(reference, x)
        for dtype, results in errors.items():
            layer = case.make().to(bench.device, dtype).eval()
            layer.load_state_dict(reference.state_dict())
            arguments = (layer, x.to(bench.device, dtype))
            actual = bench.attempt(lambda arguments=arguments: outputs_and_gradients(*arguments))
            name = f"{case.layer_class.__name__} {case.options} in {dtype}"
            if isinstance(actual, str):
                failures.append(f"{name}: {actual}")
                continue
            error = max(relative_error(*pair) for pair in zip(actual, expected, strict=True))
            results.append((error, case))
            if not error < TOLERANCES[dtype]:
                failures.append(f"{name}: relative error {error:.1e}")
    for dtype, results in errors.items():
        yield {
            "every layer beside float64 on the CPU": str(dtype).removeprefix("torch."),
            "configurations": len(results),
            "largest relative error": f"{max((error for error, _ in results), default=float('nan')):.1e}",
            "outside the tolerance": sum(not error < TOLERANCES[dtype] for error, _ in results),
        }
    yield from failures[:FAILURES]


def outputs_and_gradients(layer: nn.Module, x: Tensor, amp: torch.dtype | None = None) -> list[Tensor]:
    """The output, and the gradients by the input and by all parameters."""
    layer.zero_grad(set_to_none=True)
    leaf = x.clone().requires_grad_()
    torch.manual_seed(3)
    with autocast(x.device, amp):
        out = layer(leaf)
    (out.float() if amp else out).square().mean().backward()
    assert leaf.grad is not None
    return [out, leaf.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


def amp_rows(bench: GpuBench) -> Iterator[Row | str]:
    """A row for each layer and half type: errors beside float32; then steps with a scale that overflows at first."""
    set_products("fp32")
    for layer_class, dtype in itertools.product(
        (layers.ConvNN2d, layers.ConvNNAttention2d),
        (torch.bfloat16, torch.float16) if bench.is_cuda else (torch.bfloat16,),
    ):
        torch.manual_seed(0)
        layer = layer_class(16, 32).to(bench.device).eval()
        x = torch.randn(4, 16, 16, 16, device=bench.device)
        expected = outputs_and_gradients(layer, x)
        actual = bench.attempt(lambda args=(layer, x, dtype): outputs_and_gradients(*args))
        row: Row = {"mixed precision": layer_class.__name__, "type": str(dtype).removeprefix("torch.")}
        if isinstance(actual, str):
            yield row | {"output": actual, "gradient by x": "", "gradient by weights": ""}
            continue
        out, by_x, *by_weights = (relative_error(*pair) for pair in zip(actual, expected, strict=True))
        yield row | {
            "output": f"{out:.1e}",
            "gradient by x": f"{by_x:.1e}",
            "gradient by weights": f"{max(by_weights):.1e}",
        }
    if bench.is_cuda:
        yield str(bench.attempt(lambda: _scaled_steps(bench)))


def _scaled_steps(bench: GpuBench) -> str:
    """Steps of a model in float16 with a scale that overflows at first."""
    settings = config(bench.device, layer="Branching", batch_size=16, width=0.125, use_amp=True, amp_dtype="fp16")
    trainer = trainer_of(settings, bench.device)
    trainer.state.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
    x, y = random_batch(16, bench.device)
    is_finite = [math.isfinite(trainer.train_step(x, y)[1]) for _ in range(40)]
    skipped = is_finite.count(False)
    weights_are_finite = all(bool(p.isfinite().all()) for p in trainer.state.model.parameters())
    return (
        f"float16: the scaler went from 2^40 to 2^{math.log2(trainer.state.scaler.get_scale()):g} in the first "
        f"{[*is_finite, True].index(True)} steps; {skipped} of {len(is_finite)} were skipped; "
        f"weights finite: {weights_are_finite}"
    )


def sync_rows(bench: GpuBench) -> Iterator[Row | str]:
    """A row for each layer and sampling: the line of a training step that waits for the card, if any."""
    batch, width = bench.size(32, 2), bench.size(1, 1) / 16
    for layer, sampling in itertools.product(LAYERS, SAMPLINGS):
        if layer == "Conv2d" and sampling:
            continue
        row = {"waiting for the card in a step": layer, "sampling": sampling.get("sampling_type", "all")}
        for name, options in (("float32", {}), ("fp16", {"use_amp": True, "amp_dtype": "fp16"})):
            if not bench.is_cuda and options:
                continue
            settings = config(bench.device, layer=layer, batch_size=batch, width=width, **sampling, **options)
            row[name] = bench.attempt(lambda settings=settings: _step_without_waiting(bench, settings, batch))
        yield row


def _step_without_waiting(bench: GpuBench, settings: Any, batch: int) -> str:
    trainer = trainer_of(settings, bench.device)
    x, y = random_batch(batch, bench.device, SIDE)
    trainer.train_step(x, y)
    if bench.is_cuda:
        torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.train_step(x, y)
    finally:
        if bench.is_cuda:
            torch.cuda.set_sync_debug_mode("default")
    return "none"
