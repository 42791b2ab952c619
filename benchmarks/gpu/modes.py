"""torch.compile in every mode, over what changes between steps: candidates, a smaller last batch, micro-batches.

Every case runs in a process of its own, several at a time, because compiling keeps one core busy; they take turns with
the card where they are timed.

    python -m benchmarks.gpu.modes CASE_AS_JSON
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.bench import ROOT, GpuBench, config, random_batch, set_products, trainer_of, two_slots
from benchmarks.table import Row
from convnn.training.preflight import preflight

BATCH, LAST_BATCH = 64, 24
STEPS, SMALL_STEPS = 8, 2
LAST_BATCH_STEP = 4
FIRST_TOLERANCE, TOLERANCE = 1e-4, 0.05
"""Of the first and of all losses: compiled kernels sum in another order, and training amplifies it."""
PROCESSES = 8
CASES: list[tuple[str, dict[str, Any]]] = [
    ("reduce-overhead", {"layer": "ConvNN", "accumulate": 2}),
    ("reduce-overhead", {"layer": "ConvNN", "similarity_type": "Loc", "sampling_type": "spatial", "num_samples": 8}),
    ("default", {"layer": "ConvNN"}),
    ("reduce-overhead", {"layer": "Branching"}),
    ("reduce-memory", {"layer": "ConvNN_Attn"}),
    ("default", {"layer": "Branching_Attn", "use_amp": True}),
    ("reduce-overhead", {"layer": "ConvNN", "sampling_type": "random", "num_samples": 64}),
    ("reduce-overhead", {"layer": "ConvNN_Attn", "use_amp": True}),
    ("reduce-overhead", {"layer": "ConvNN", "similarity_type": "Loc", "K": 4}),
    ("max-autotune", {"layer": "ConvNN", "accumulate": 2}),
    ("max-autotune", {"layer": "Branching"}),
    ("reduce-memory", {"layer": "Conv2d"}),
]


def rows(bench: GpuBench) -> Iterator[Row | str]:
    """A row for each case, as it ends."""
    waiting = [("default", {"layer": "ConvNN"})] if bench.small else list(CASES)
    running: list[tuple[str, subprocess.Popen[str], Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "card.lock"
        while waiting or running:
            while waiting and len(running) < PROCESSES and bench.seconds_left() > 30:
                mode, options = waiting.pop(0)
                case = {"mode": mode, "options": options, "lock": str(lock), "device": str(bench.device)}
                name = " ".join([mode, *(f"{key} {value}" for key, value in options.items())])
                output = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
                command = [sys.executable, "-m", "benchmarks.gpu.modes", json.dumps(case)]
                running.append((name, subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output), output))
            for entry in list(running):
                name, process, output = entry
                is_late = bench.seconds_left() < 3
                if process.poll() is None and not is_late:
                    continue
                running.remove(entry)
                process.kill()
                process.wait()
                output.seek(0)
                yield {"torch.compile": name} | _result("no time" if is_late else output.read())
            if waiting and not running and bench.seconds_left() <= 30:
                yield f"no time for {len(waiting)} more"
                return
            time.sleep(0.2)


def _result(output: str) -> Row:
    """The values that the process printed last, or the end of what it printed."""
    lines = output.strip().splitlines() or ["printed nothing"]
    values: Row = {"outcome": "", "ms": "", "eager ms": "", "losses apart": "", "graphs": "", "ready s": ""}
    try:
        return values | json.loads(lines[-1])
    except ValueError:
        return values | {"outcome": lines[-1][:300]}


def measure(case: dict[str, Any]) -> Row:
    """Train some steps compiled and not, and compare their losses."""
    device = torch.device(case["device"])
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    bench = GpuBench(device, small=device.type == "cpu")
    batch, last_batch = (BATCH, LAST_BATCH) if device.type == "cuda" else (6, 2)
    options = {"batch_size": batch, "attention_dropout": 0, "optimizer": "sgd", "lr": 0.01, **case["options"]}
    x, y = random_batch(batch, device)
    set_products("fp32")
    start = time.monotonic()
    losses, ready_s, runs, graphs, draws = [], 0.0, [], "", ""
    sampling = options.get("sampling_type")
    for compile_options in ({"use_compiled": True, "compile_mode": case["mode"]}, {}):
        trainer = trainer_of(config(device, **options, **compile_options), device, two_slots)
        if compile_options:
            size = -(-batch // trainer.config.training.accumulate)
            report = preflight(
                trainer.state.model,
                trainer.loss_fn,
                (x[:size], y[:size]),
                trainer.amp,
                compiled_model=trainer.compiled_model,
            )
            graphs = str(report.graphs)
        values = []
        for step in range(SMALL_STEPS if bench.small else STEPS):
            torch.manual_seed(step)
            size = last_batch if step == LAST_BATCH_STEP else batch
            values.append(float(trainer.train_step(x[:size], y[:size])[0]))
        trainer.state.model.eval()
        with torch.inference_mode():
            for size in (batch, last_batch):
                trainer.compiled_model(x[:size])
        trainer.state.model.train()
        trainer.train_step(x, y)
        if compile_options and sampling == "random":
            draws = _draws(trainer.compiled_model, x)
        losses.append(values)
        runs.append(lambda trainer=trainer: trainer.train_step(x, y))
        ready_s = ready_s or time.monotonic() - start
    apart = [abs(a - b) for a, b in zip(*losses, strict=True)]
    is_equal = trainer.amp is not None or (apart[0] < FIRST_TOLERANCE and max(apart) < TOLERANCE)
    with Path(case["lock"]).open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        compiled_ms, eager_ms = (bench.milliseconds(run) for run in runs)
    return {
        "outcome": draws or ("ok" if is_equal else "differs"),
        "ms": compiled_ms,
        "eager ms": eager_ms,
        "losses apart": f"{apart[0]:.1e} to {max(apart):.1e}",
        "graphs": graphs,
        "ready s": ready_s,
    }


@torch.no_grad()
def _draws(model: nn.Module, x: Tensor) -> str:
    """Whether random candidates depend on the seed of a step, and on nothing else: they need not be the eager ones."""
    outputs = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        outputs.append(model(x).float().clone())
    is_repeated, is_new = torch.equal(outputs[0], outputs[2]), not torch.equal(outputs[0], outputs[1])
    if is_repeated and is_new:
        return "ok, candidates by seed"
    return f"candidates repeat with the seed: {is_repeated}, are others with another: {is_new}"


if __name__ == "__main__":
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "2")
    print(json.dumps(measure(json.loads(sys.argv[1]))))
