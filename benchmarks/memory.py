"""How far the memory estimate is from what training on the CPU takes.

Each row trains five steps in a process of its own, as the trainer does. Measured is the highest resident memory of
that process less its size once torch is imported and the images are there. Shown in MiB.

    python benchmarks/memory.py [WORD ...]      only the rows that contain every WORD
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from convnn.config.schema import LAYERS, RunConfig
from convnn.costs import plan

STEPS = 5
SIDE = 32
CLASSES = 10
MIB = 2**20


def rows() -> list[tuple[str, dict]]:
    """A name and a configuration for each row of the table."""
    found = []
    for model, batch in (("vgg11", 32), ("resnet18", 8)):
        for layer in LAYERS:
            found.append((f"{model} {layer} batch {batch}", configured(model, layer, batch)))
    for layer in ("Branching", "Branching_Attn"):
        found.append((f"vgg11 {layer} batch 128", configured("vgg11", layer, 128)))
    return found


def configured(model: str, layer: str, batch: int) -> dict:
    return {"model": {"name": model}, "layer": {"type": layer}, "training": {"batch_size": batch}}


def train(config: RunConfig) -> int:
    """Train five steps in this process; returns how many bytes its resident memory grew at most."""
    import torch

    from convnn.models import resnet, vgg
    from convnn.training import allocator, build, device
    from convnn.training.evaluation import autocast

    assert resnet and vgg  # imported before the first measurement, as torch is
    allocator.keep_memory()
    x = torch.randn(config.training.batch_size, 3, SIDE, SIDE)
    y = torch.randint(0, CLASSES, (config.training.batch_size,))
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest size so far
    before = resident("VmRSS")
    model = build.model(config, CLASSES)
    optimizer, loss_fn = build.optimizer(config, model), build.loss_fn(config)
    amp = device.amp_dtype(config, x.device)
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        with autocast(x.device, amp):
            logits = model(x)
        loss_fn(logits, y).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.training.clip_grad_norm)
        optimizer.step()
    return resident("VmHWM") - before


def resident(field: str) -> int:
    """Bytes of this process's memory by a field of /proc/self/status."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024


def main(words: list[str]) -> None:
    print(f"{'row':36}{'measured':>10}{'estimated':>11}{'ratio':>7}")
    for name, config in rows():
        if not all(word in name.split() for word in words):
            continue
        command = [sys.executable, __file__, "--child", json.dumps(config)]
        child = subprocess.run(command, capture_output=True, text=True, check=True)
        measured = int(child.stdout.split()[-1])
        estimated = plan.plan(RunConfig.model_validate(config), (SIDE, SIDE), CLASSES).memory_bytes
        print(f"{name:36}{measured / MIB:>10.0f}{estimated / MIB:>11.0f}{estimated / measured:>7.2f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(train(RunConfig.model_validate_json(sys.argv[2])))
    else:
        main(sys.argv[1:])
