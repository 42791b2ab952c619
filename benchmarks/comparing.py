"""Seconds to import, list, filter, compare, tabulate and plot generated runs, and a tree of real ones.

Commands are timed as processes of their own, start-up included: the best of three, warm.

    python benchmarks/comparing.py [TREE]      TREE holds result directories of the original tool
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONVNN = [sys.executable, "-c", "from convnn.cli import main; main()"]
ARGUMENTS = """model: vgg11
layer: Branching
K: {K}
kernel_size: 3
padding: 1
sampling_type: all
num_samples: -1
sample_padding: 0
attention_dropout: 0.1
shuffle_pattern: NA
shuffle_scale: 0
magnitude_type: cosine
similarity_type: Col
aggregation_type: Col
lambda_param: 0.5
branch_ratio: {ratio}
dataset: cifar10
resize: None
augment: False
noise: 0.0
data_path: ./Data
use_compiled: False
compile_mode: default
batch_size: 256
num_epochs: {epochs}
use_amp: False
clip_grad_norm: 1.0
criterion: CrossEntropy
optimizer: adamw
momentum: 0.9
weight_decay: 0.01
lr: 0.0001
lr_step: 20
lr_gamma: 0.1
scheduler: none
device: cuda
seed: {seed}
num_classes: 10
img_size: (3, 32, 32)
"""
COMMANDS = {
    "list": ["runs"],
    "filter": ["runs", "K>=9 best>80 status=done name~br0500 has:lambda_param,K"],
    "repeats": ["runs", "--group", "repeats"],
    "table": ["table", "--rows", "K", "--cols", "branch_ratio", "--where", "layer=Branching K<=4"],
    "compare 3": ["compare", "@1", "@2", "@3"],
}


def generate(folder: Path, count: int, epochs: int) -> None:
    """Write result directories of the original tool: 12 values of K, 9 ratios, and as many seeds as needed."""
    rng = random.Random(1)
    for number in range(count):
        K, ratio, seed = 1 + number % 12, (number % 9) / 8, number // 36
        path = folder / f"K{K}_br{ratio * 1000:04.0f}_s{seed}_{number}"
        path.mkdir(parents=True)
        (path / "args.txt").write_text(ARGUMENTS.format(K=K, ratio=ratio, epochs=epochs, seed=seed))
        lines = []
        for epoch in range(1, epochs + 1):
            top1 = 80 - 40 * 0.9**epoch + rng.gauss(0, 0.4)
            lines.append(
                f"[Epoch {epoch:03d}] Time: {rng.gauss(16, 0.1):.4f}s "
                f"| [Train] Loss: {1.6 * 0.97**epoch:.8f} Accuracy: Top1: {top1 + 9:.4f}%, Top5: 99.9960% "
                f"| [Test] Loss: {1 + rng.random():.8f} Accuracy: Top1: {top1:.4f}%, Top5: 98.3105%\n"
            )
        (path / "train_eval_results.txt").write_text("".join(lines))


def command_seconds(arguments: list[str], root: Path, repeats: int = 3) -> float:
    """Seconds of a command, the best of `repeats`."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(
            [*CONVNN, *arguments],
            env={**os.environ, "CONVNN_RUNS": str(root)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        times.append(time.perf_counter() - start)
    return min(times)


def measure(name: str, tree: Path, root: Path) -> None:
    """Import a tree, then print the seconds of each command."""
    print(f"{name}: import {command_seconds(['import', str(tree)], root, 1):.2f} s", end="", flush=True)
    print(f" · first list {command_seconds(['runs'], root, 1):.2f} s", end="", flush=True)
    for command, arguments in COMMANDS.items():
        print(f" · {command} {command_seconds(arguments, root):.2f} s", end="", flush=True)
    print()


def measure_plot(folder: Path) -> None:
    """Print the seconds of a figure of 54 runs of 150 epochs, and of one over an option."""
    root, figure = folder / "runs54", str(folder / "figure.svg")
    generate(folder / "old54", 54, 150)
    command_seconds(["import", str(folder / "old54")], root, 1)
    for name, axis in (("curves", "epoch"), ("over an option", "branch_ratio")):
        words = ["plot", "has:K status=done", "--metric", "test_top1", "--x", axis, "--out", figure, "--overwrite"]
        print(f"plot of 54 runs, {name}: {command_seconds(words, root):.2f} s")


def main(trees: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="convnn-bench-"))
    try:
        print(f"start-up alone: {command_seconds(['--version'], folder):.2f} s")
        measure_plot(folder)
        for tree in trees:
            measure(tree, Path(tree), folder / "imported")
        for count, epochs in ((1_000, 150), (10_000, 20)):
            generate(folder / f"old{count}", count, epochs)
            measure(f"{count:,} runs of {epochs} epochs", folder / f"old{count}", folder / f"runs{count}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
