"""Checks before the first step: that torch.compile compiles, and whether bf16 pays on this CPU.

They leave no trace: buffers are restored, gradients dropped, and every training step seeds its own random numbers.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from convnn.errors import Exit, UserError
from convnn.training.build import LossFn
from convnn.training.device import autocast
from convnn.training.shared_update import TrainedTensors

AMP_IMAGES = 8  # per timed step: bf16 is emulated on many CPUs, and float32 may not fit where bf16 was chosen
AMP_ROUNDS = 3  # timed steps of each kind, alternating


@dataclass(frozen=True)
class PreflightReport:
    """Graphs and graph breaks of the compiled model, and what a person should know."""

    graphs: dict[str, int] | None = None
    notes: tuple[str, ...] = ()


def preflight(
    model: nn.Module,
    loss_fn: LossFn,
    batch: tuple[Tensor, Tensor],
    amp: torch.dtype | None,
    *,
    compiled_model: nn.Module | None = None,
    parallel_model: nn.Module | None = None,
    time_amp: bool = False,
) -> PreflightReport:
    """Compile the model, if a compiled one is given, and time mixed precision, both on a batch (B, C, H, W), (B,).

    `parallel_model` sums gradients over several processes; it includes the compiled one. It takes a pass in any case:
    after its first one, DistributedDataParallel lays out its buckets anew, and where there are three processes or more,
    the layout decides the order of a sum. So a resumed run sums as an undisturbed one.
    Raises UserError when nothing was compiled.
    """
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    graphs = None
    notes: tuple[str, ...] = ()
    model.train()
    try:
        if compiled_model is not None:
            _fill_caches(model, batch[0], amp)
            graphs = _compile(parallel_model or compiled_model, loss_fn, batch, amp)
        elif parallel_model is not None:
            _forward_backward(parallel_model, loss_fn, batch, amp)
        if time_amp and amp is not None:
            notes = (_amp_speed(model, loss_fn, batch, amp),)
    finally:
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
        for tensor in TrainedTensors(model).tensors:
            tensor.grad = None
    return PreflightReport(graphs, notes)


def _forward_backward(model: nn.Module, loss_fn: LossFn, batch: tuple[Tensor, Tensor], amp: torch.dtype | None) -> None:
    x, y = batch
    with autocast(x.device, amp):
        logits = model(x)
    loss_fn(logits, y).mean().backward()


@torch.no_grad()
def _fill_caches(model: nn.Module, x: Tensor, amp: torch.dtype | None) -> None:
    """Run an image through the uncompiled model, whose layers then keep what depends on the map's size alone.

    Within a compiled graph they keep nothing: see `DeviceCache`.
    """
    model.eval()
    with autocast(x.device, amp):
        model(x[:1])
    model.train()


def _compile(
    compiled_model: nn.Module, loss_fn: LossFn, batch: tuple[Tensor, Tensor], amp: torch.dtype | None
) -> dict[str, int]:
    from torch._dynamo.utils import counters

    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a CUDA toolkit without a card
    torch._dynamo.reset()
    counters.clear()
    try:
        _forward_backward(compiled_model, loss_fn, batch, amp)
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).splitlines()[0][:300]
        fix = "use --no_use_compiled; on cpu torch.compile needs a C++ compiler"
        raise _compile_error(f"torch.compile failed: {reason}", fix) from error
    graphs, breaks = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
    if graphs == 0:
        raise _compile_error("torch.compile compiled nothing", "use --no_use_compiled")
    return {"graphs": graphs, "breaks": breaks}


def _compile_error(message: str, fix: str) -> UserError:
    change = {"runtime.compile": False}
    return UserError(message, Exit.FAILED, key="runtime.compile", value=True, fix=fix, change=change)


def _amp_speed(model: nn.Module, loss_fn: LossFn, batch: tuple[Tensor, Tensor], amp: torch.dtype) -> str:
    """Return a sentence that compares the speed of a step in mixed precision with that of one in float32."""
    x, y = batch
    part = x[:AMP_IMAGES], y[:AMP_IMAGES]
    times: dict[torch.dtype | None, list[float]] = {None: [], amp: []}
    for round_ in range(AMP_ROUNDS + 1):
        for dtype in times:
            start = time.perf_counter()
            _forward_backward(model, loss_fn, part, dtype)
            if round_:  # the first of each kind warms up
                times[dtype].append(time.perf_counter() - start)
    ratio = median(times[None]) / median(times[amp])
    advice = "faster" if ratio >= 1 else "slower: use --no_use_amp"
    return f"bf16 on this cpu: a step runs at {ratio:.2f}x the speed of float32, {advice}"
