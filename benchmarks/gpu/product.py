"""The command itself on the digits: an epoch, mixed precision, exact resume, and what --deterministic refuses.

The commands run side by side, so their speeds are not the card's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.bench import ROOT, GpuBench
from benchmarks.table import Row

PRESET = """
[layer]
type = "{layer}"
[model]
width = {width}
[data]
dataset = "digits"
limit = {limit}
[training]
num_epochs = 2
batch_size = 64
[runtime]
device = "{device}"
deterministic = true
"""


def commands(bench: GpuBench, folder: Path) -> dict[str, list[str]]:
    """Words of the commands, by what they show."""
    device, width, limit = str(bench.device), bench.size(8, 1) / 32, bench.size(1000, 64)
    small = ["--device", device, "--dataset", "digits", "--width", str(width), "--batch_size", "64"]
    small += ["--limit", str(limit), "--num_epochs", str(bench.size(3, 1)), "--plain"]
    for layer in ("Branching", "Branching_Attn"):
        text = PRESET.format(layer=layer, width=width, limit=limit, device=device)
        (folder / f"{layer}.toml").write_text(text)
    result = {"3 epochs of digits": ["run", "--layer", "Branching", *small]}
    if bench.small:
        return result
    return result | {
        "verify-resume, deterministic, Branching": ["verify-resume", str(folder / "Branching.toml")],
        "verify-resume, deterministic, Branching_Attn": ["verify-resume", str(folder / "Branching_Attn.toml")],
        "deterministic, images of 64": [*result["3 epochs of digits"], "--deterministic", "--resize", "64"],
        "deterministic, images of 96": [*result["3 epochs of digits"], "--deterministic", "--resize", "96"],
        "mixed precision": [*result["3 epochs of digits"], "--use_amp"],
        "mixed precision, fp16": [*result["3 epochs of digits"], "--use_amp", "--amp_dtype", "fp16"],
        "reduce-overhead": [*result["3 epochs of digits"], "--use_compiled", "--compile_mode", "reduce-overhead"],
        "random candidates, augmented": [
            *("run", "--layer", "ConvNN", "--sampling_type", "random", "--num_samples", "64", "--augment"),
            *("--accumulate", "2", "--val_share", "0.1", *small),
        ],
    }


def rows(bench: GpuBench) -> Iterator[Row | str]:
    """A row for each command, as it ends."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.monotonic()
        running: dict[str, subprocess.Popen[str]] = {}
        outputs: dict[str, Any] = {}
        for number, (title, words) in enumerate(commands(bench, folder).items()):
            environment = os.environ | {"CONVNN_RUNS": str(folder / f"runs-{number}"), "PYTHONPATH": _python_path()}
            outputs[title] = (folder / f"{number}.txt").open("w+")
            running[title] = subprocess.Popen(
                [sys.executable, "-m", "convnn", *words],
                cwd=folder,
                env=environment,
                stdout=outputs[title],
                stderr=subprocess.STDOUT,
                text=True,
            )
        runs = {title: folder / f"runs-{number}" for number, title in enumerate(running)}
        while running:
            for title, process in list(running.items()):
                is_late = bench.seconds_left() < 2
                if process.poll() is None and not is_late:
                    continue
                process.kill()
                code = process.wait()
                del running[title]
                outputs[title].seek(0)
                lines = outputs[title].read().strip().splitlines() or [""]
                yield {
                    "convnn": title,
                    "exit code": "no time" if is_late else code,
                    "s": time.monotonic() - start,
                    "s of the last epoch": _last_epoch(runs[title]).get("train_s", "-"),
                    "last line": " / ".join(lines[-2:] if code else lines[-1:])[-300:],
                }
            time.sleep(0.1)


def _python_path() -> str:
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _last_epoch(runs: Path) -> dict[str, float]:
    """Metrics of the last epoch of the run in a folder of runs."""
    lines = [line for path in runs.glob("*/events.jsonl") for line in path.read_text().splitlines()]
    epochs = [event for event in map(json.loads, lines) if event.get("event") == "Epoch"]
    return epochs[-1].get("metrics", {}) if epochs else {}
