"""A training step of VGG11 on images of 32 x 32: ours and the plain implementation, kernels, and memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.bench import (
    CLASSES,
    LAYERS,
    PLAIN_LAYERS,
    SIDE,
    GpuBench,
    config,
    configured_model,
    plain_model,
    random_batch,
    set_products,
    trainer_of,
)
from benchmarks.gpu.count import OperatorCounter
from benchmarks.table import Row
from convnn.costs.plan import plan
from convnn.training.graphed_pass import GraphedPass
from convnn.training.trainer import Trainer

BATCH = 256
STEPS_PER_EPOCH = 196  # of 50,000 images
PUBLISHED = {"Conv2d": 6.3, "ConvNN": 15.2, "Branching": 15.7, "Branching_Attn": 26.3}  # s/epoch on an A100
KERNELS = 14  # listed of each layer


WAYS = [("ours", "tf32"), ("ours", "bf16"), ("plain", "tf32"), ("ours", "fp32"), ("plain", "fp32")]
SMALL: dict[str, Any] = {"width": 0.125, "batch_size": 64}  # a model whose steps wait for the host


def rows(bench: GpuBench) -> Iterator[Row | str]:
    """A row for each layer and way to compute it; those of small models come after the first way."""
    for number, (implementation, kind) in enumerate(WAYS):
        if number == 1:
            for layer, way in itertools.product(LAYERS, ("ours", "ours, CUDA graph")[: 1 + bench.is_cuda]):
                yield _step_row(bench, layer, way, "tf32", "vgg11, width 1/8, batch 64", **SMALL)
        for layer in LAYERS:
            if implementation == "plain" and layer not in PLAIN_LAYERS:
                continue
            yield _step_row(bench, layer, implementation, kind, f"vgg11, batch {BATCH}", batch_size=BATCH)


def _step_row(bench: GpuBench, layer: str, implementation: str, kind: str, model: str, **options: Any) -> Row | str:
    if bench.seconds_left() < 3:
        return f"no time for {layer} {implementation} {kind}, {model}"
    result = bench.attempt(lambda: _measure_step(bench, layer, implementation, kind, options))
    if bench.is_cuda:
        torch.cuda.empty_cache()
    row: Row = {"training step": layer, "model": model, "implementation": implementation, "products": kind}
    return row | result if isinstance(result, dict) else f"{layer} {implementation} {kind}, {model}: {result}"


def _measure_step(
    bench: GpuBench, layer: str, implementation: str, kind: str, options: dict[str, Any]
) -> dict[str, Any]:
    trainer, run = step_of(bench, layer, implementation, kind, **options)
    with OperatorCounter() as counter:  # which is the first step, too
        run()
    if bench.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    ms = bench.milliseconds(run, seconds=1.5)
    if trainer.graphed_pass is not None and trainer.graphed_pass.problem is not None:
        raise RuntimeError(trainer.graphed_pass.problem)
    return {
        "ms": ms,
        "host ms": bench.host_milliseconds(run, calls=bench.size(5, 1)),
        "s/epoch": ms * STEPS_PER_EPOCH / 1e3 if options["batch_size"] == BATCH else "-",
        "published s/epoch, A100": PUBLISHED.get(layer, "-") if options["batch_size"] == BATCH else "-",
        "operators": counter.launches,
        "GB moved (counted)": sum(counter.bytes.values()) / 1e9,
        "peak GB": torch.cuda.max_memory_allocated() / 1e9 if bench.is_cuda else "-",
    }


def step_of(
    bench: GpuBench, layer: str, implementation: str = "ours", kind: str = "fp32", **options: Any
) -> tuple[Trainer, Callable[[], object]]:
    """A trainer of VGG11, and its step on one batch of random images."""
    options = {"batch_size": BATCH, **options, **({"width": 1 / 16, "batch_size": 2} if bench.small else {})}
    options |= {"use_amp": True} if kind == "bf16" else {"matmul": kind}
    settings = config(bench.device, layer=layer, **options)
    trainer = trainer_of(settings, bench.device, plain_model if implementation == "plain" else configured_model)
    set_products(kind)
    batch_size = settings.training.batch_size
    if "CUDA graph" in implementation:
        run_pass = partial(trainer._run_pass, batch_size=batch_size)
        trainer.graphed_pass = GraphedPass(run_pass, trainer.state.model, batch_size)
    x, y = random_batch(batch_size, bench.device)
    return trainer, lambda: trainer.train_step(x, y)


def _free(bench: GpuBench) -> None:
    if bench.is_cuda:
        torch.cuda.empty_cache()


def kernel_rows(bench: GpuBench) -> Iterator[Row | str]:
    """For each layer: its launches and time on the card, and the kernels that take most of it."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.is_cuda else [])]
    for layer, kind in (("ConvNN", "tf32"), ("Branching_Attn", "tf32"), ("Conv2d", "tf32"), ("ConvNN", "bf16")):
        if bench.seconds_left() < 4:
            yield f"no time for {layer}"
            continue
        _, run = step_of(bench, layer, "ours", kind)
        for _ in range(2):
            run()
        bench.synchronize()
        with profile(activities=activities) as profiled:
            run()
            bench.synchronize()
        attribute = "self_device_time_total" if bench.is_cuda else "self_cpu_time_total"
        is_of_card = {True: "CUDA", False: "CPU"}[bench.is_cuda]
        events = [
            (getattr(event, attribute) / 1e3, event.count, event.key)
            for event in profiled.key_averages()
            if event.device_type.name == is_of_card and getattr(event, attribute) > 0
        ]
        events.sort(reverse=True)
        total = sum(ms for ms, _, _ in events)
        launches = sum(count for _, count, _ in events)
        yield f"{layer} in {kind}: {launches} kernels and copies, {total:.2f} ms on the card"
        for ms, count, name in events[:KERNELS]:
            yield {"kernel": f"{name[:90]} ({layer})", "calls": count, "ms": ms, "share": f"{ms / total:.0%}"}
        _free(bench)


def memory_rows(bench: GpuBench) -> Iterator[Row | str]:
    """A row for each configuration: the peak of three steps beside the forecast."""
    cases: list[tuple[str, str, int, dict[str, Any]]] = [
        *(("vgg11", layer, BATCH, {}) for layer in LAYERS),
        ("vgg11", "ConvNN", BATCH, {"use_amp": True}),
        ("resnet18", "ConvNN", 64, {}),
        ("resnet18", "Branching_Attn", 64, {"use_amp": True}),
    ]
    for model, layer, batch, options in cases[:1] if bench.small else cases:
        if bench.seconds_left() < 4:
            yield f"no time for {model} {layer}"
            continue
        row: Row = {"peak of training": f"{model} {layer} batch {batch} {' '.join(options)}".strip()}
        result = bench.attempt(
            lambda model=model, layer=layer, batch=batch, options=options: _peak(bench, model, layer, batch, options)
        )
        yield row | result if isinstance(result, dict) else f"{row['peak of training']}: {result}"
        _free(bench)


def _peak(bench: GpuBench, model: str, layer: str, batch: int, options: dict[str, Any]) -> dict[str, Any]:
    small = {"width": 1 / 16} if bench.small else {}
    batch = 2 if bench.small else batch
    settings = config(bench.device, model=model, layer=layer, batch_size=batch, **options, **small)
    forecast = plan(settings, (SIDE, SIDE), CLASSES).memory_bytes
    _free(bench)
    if bench.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    trainer = trainer_of(settings, bench.device)
    x, y = random_batch(batch, bench.device)
    for _ in range(3):
        trainer.train_step(x, y)
    allocated = torch.cuda.max_memory_allocated() if bench.is_cuda else 0
    reserved = torch.cuda.max_memory_reserved() if bench.is_cuda else 0
    return {
        "allocated GB": allocated / 1e9,
        "reserved GB": reserved / 1e9,
        "forecast GB": forecast / 1e9,
        "forecast / allocated": forecast / max(1, allocated),
    }
