"""What is tried before the first step: that compilation happens, and whether bf16 pays on this cpu.

Nothing of it stays: buffers are put back, gradients dropped, and every step seeds its own random numbers.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from convnn.errors import Exit, Problem, UserError
from convnn.text import escaped

if TYPE_CHECKING:
    from convnn.training.trainer import Trainer

TRIED = 8  # images in each of them: bf16 is emulated on many a cpu, and float32 may not fit where it was asked for
TRIES = 3  # timed steps of each kind, taking turns


@dataclass
class Tried:
    """What was found: graphs and graph breaks of the compiled model, and what a person should know."""

    graphs: dict[str, int] | None = None
    notes: list[str] = field(default_factory=list)


def try_out(trainer: Trainer, *, measure: bool = True) -> Tried:
    """Try compilation and, to `measure` what it gains, mixed precision, where they were asked for.

    Raises UserError when nothing was compiled.
    """
    found = Tried()
    compiled = trainer.config.runtime.compile
    measure = measure and trainer.amp is not None and trainer.device.type == "cpu"
    if not compiled and not measure:
        return found
    before = {name: value.clone() for name, value in trainer.model.named_buffers()}
    try:
        if compiled:
            found.graphs = _graphs(trainer)
        if measure:
            found.notes.append(_bf16_gain(trainer))
    finally:
        for name, value in trainer.model.named_buffers():
            value.copy_(before[name])
        trainer.optimizer.zero_grad(set_to_none=True)
    return found


def _pass(trainer: Trainer, network: nn.Module, x: Tensor, y: Tensor, dtype: torch.dtype | None) -> None:
    context: AbstractContextManager[Any] = torch.autocast(trainer.device.type, dtype) if dtype else nullcontext()
    with context:
        logits = network(x)
    trainer.losses(logits, y).mean().backward()


def _batch(trainer: Trainer) -> tuple[Tensor, Tensor]:
    """Noise in the shape of a micro-batch: (B, C, H, W) and (B,)."""
    size = min(trainer.config.training.batch_size, trainer.train.num_images)
    size = -(-size // trainer.config.training.accumulate)
    x = torch.randn(size, 3, *trainer.data.image_size, device=trainer.device)
    return x, torch.arange(size, device=trainer.device) % len(trainer.data.classes)


def _graphs(trainer: Trainer) -> dict[str, int]:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    trainer.model.train()
    try:
        _pass(trainer, trainer.network, *_batch(trainer), trainer.amp)
    except torch._dynamo.exc.TorchDynamoException as error:
        raise UserError(
            Problem(
                f"torch.compile failed: {escaped(str(error).splitlines()[0])[:300]}",
                key="runtime.compile",
                value=True,
                fix="use --no_use_compiled; on cpu torch.compile needs a C++ compiler",
                change={"runtime.compile": False},
            ),
            Exit.FAILED,
        ) from error
    graphs, breaks = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
    if graphs == 0:
        raise UserError(
            Problem(
                "torch.compile was asked for and compiled nothing",
                key="runtime.compile",
                value=True,
                fix="use --no_use_compiled",
                change={"runtime.compile": False},
            ),
            Exit.FAILED,
        )
    return {"graphs": graphs, "breaks": breaks}


def _bf16_gain(trainer: Trainer) -> str:
    """One sentence: how much faster or slower a step in bf16 is than one in float32, on this cpu."""
    x, y = (part[:TRIED] for part in _batch(trainer))
    trainer.model.train()
    times: dict[torch.dtype | None, list[float]] = {None: [], trainer.amp: []}
    for turn in range(TRIES + 1):
        for dtype in times:
            start = time.perf_counter()
            _pass(trainer, trainer.model, x, y, dtype)
            if turn:  # the first of each kind warms up
                times[dtype].append(time.perf_counter() - start)
    ratio = median(times[None]) / median(times[trainer.amp])
    verdict = "faster" if ratio >= 1 else "slower: --no_use_amp would be quicker"
    return f"bf16 on this cpu: a step runs at {ratio:.2f}x the speed of float32, {verdict}"
