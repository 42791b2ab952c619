"""The memory estimate of `convnn summary` beside the memory that training on the CPU takes.

Each row trains five steps in a process of its own, as the trainer does. Measured is the peak resident memory of that
process minus its size after torch is imported and the images are created.

    python -m benchmarks.memory [WORD ...]      only the rows that contain every WORD
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.measure import memory_status, reset_peak_memory
from convnn.config.schema import LAYERS, RunConfig
from convnn.costs import plan

STEPS = 5
SIDE = 32
CLASSES = 10
MIB = 2**20


def rows() -> list[tuple[str, dict]]:
    """Name and configuration of each row of the table."""
    cases = []
    for model, batch in (("vgg11", 32), ("resnet18", 8)):
        for layer in LAYERS:
            cases.append((f"{model} {layer} batch {batch}", config_of(model, layer, batch)))
    for layer in ("Branching", "Branching_Attn"):
        cases.append((f"vgg11 {layer} batch 128", config_of("vgg11", layer, 128)))
    return cases


def config_of(model: str, layer: str, batch: int) -> dict:
    return {"model": {"name": model}, "layer": {"type": layer}, "training": {"batch_size": batch}}


def train(config: RunConfig) -> int:
    """Train five steps in this process; return the growth of its peak resident memory in bytes."""
    import torch

    from convnn.models import resnet, vgg
    from convnn.training import allocator, build, device
    from convnn.training.device import autocast
    from convnn.training.shared_update import TrainedTensors

    assert resnet and vgg  # imported before the first measurement, like torch
    allocator.keep_memory()
    x = torch.randn(config.training.batch_size, 3, SIDE, SIDE)
    y = torch.randint(0, CLASSES, (config.training.batch_size,))
    reset_peak_memory()
    before = memory_status("VmRSS")
    model = build.model(config, CLASSES)
    optimizer, loss_fn = build.optimizer(config, model, (SIDE, SIDE)), build.loss_fn(config)
    trained = TrainedTensors(model)
    amp = device.amp_dtype(config, x.device)
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        with autocast(x.device, amp):
            logits = model(x)
        loss_fn(logits, y).mean().backward()
        limit, norm = config.training.clip_grad_norm, trained.gradient_norm()
        torch.nn.utils.clip_grads_with_norm_(trained.tensors, limit, norm)
        optimizer.step()
    return memory_status("VmHWM") - before


def main(words: list[str]) -> None:
    print(f"{'training on the CPU':36}{'measured MiB':>14}{'estimated MiB':>15}{'ratio':>7}")
    for name, config in rows():
        if not all(word in name.split() for word in words):
            continue
        command = [sys.executable, "-m", "benchmarks.memory", "--child", json.dumps(config)]
        child = subprocess.run(command, capture_output=True, text=True, check=True)
        measured = int(child.stdout.split()[-1])
        estimated = plan.plan(RunConfig.model_validate(config), (SIDE, SIDE), CLASSES).memory_bytes
        print(f"{name:36}{measured / MIB:>14.0f}{estimated / MIB:>15.0f}{estimated / measured:>7.2f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(train(RunConfig.model_validate_json(sys.argv[2])))
    else:
        main(sys.argv[1:])
