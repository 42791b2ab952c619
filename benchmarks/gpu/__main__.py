"""Measure the GPU path: see the package."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

REQUIRED = {"torch": "torch", "pydantic": "pydantic", "tomli_w": "tomli-w", "numpy": "numpy"}
OPTIONAL = {  # a stage that needs them fails by itself
    "typer": "typer",
    "rich": "rich",
    "tomlkit": "tomlkit",
    "torchvision": "torchvision",
    "safetensors": "safetensors",
    "pynvml": "nvidia-ml-py",
    "triton": "triton",
}
MINUTES, MOST_MINUTES = 9.0, 9.0
GRACE_SECONDS = 15  # after the end of a stage before its process is killed
ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure the GPU path on a card.")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), metavar="DIR", help="folder of the results")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"at most (default and limit: {MOST_MINUTES:g})")
    parser.add_argument("--stages", metavar="NAME,NAME", help="only these stages, in this order")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or with --small cpu")
    parser.add_argument("--small", action="store_true", help="cases that a CPU computes, to try the script itself")
    parser.add_argument("--count", action="store_true", help="count what a training step launches; needs no GPU")
    parser.add_argument("--json", action="store_true", help="with --count: print JSON")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)  # of the child process: the deadline
    arguments = parser.parse_args()
    missing = [package for module, package in REQUIRED.items() if find_spec(module) is None]
    if missing:
        print(f"missing: {', '.join(missing)} (python -m pip install {' '.join(missing)})", file=sys.stderr)
        return 2
    if arguments.count:
        return _count(arguments.json)
    if arguments.device == "cpu" and not arguments.small:
        parser.error("--device cpu needs --small")
    from benchmarks.gpu.stages import STAGES

    names = arguments.stages.split(",") if arguments.stages else list(STAGES)
    if unknown := [name for name in names if name not in STAGES]:
        parser.error(f"no such stage: {', '.join(unknown)} (choose from {', '.join(STAGES)})")
    if arguments.until:
        from benchmarks.gpu.report import Report
        from benchmarks.gpu.worker import run_stages

        report = Report(arguments.out)
        return run_stages(names, report, arguments.device, arguments.small, arguments.until)
    return _supervise(arguments, names)


def _supervise(arguments: argparse.Namespace, names: list[str]) -> int:
    """Run the stages in a child process, and the rest in another one where a stage ends it."""
    from benchmarks.gpu.report import JSON_NAME, Report
    from benchmarks.gpu.worker import DEVICE_LOST

    optional = [package for module, package in OPTIONAL.items() if find_spec(module) is None]
    if optional:
        print(f"not installed, and only needed by some stages: {', '.join(optional)}", flush=True)
    if arguments.device != "cpu" and not _has_cuda():
        print("torch sees no CUDA device here; to try the script itself: --device cpu --small", file=sys.stderr)
        return 2
    (arguments.out / JSON_NAME).unlink(missing_ok=True)
    deadline = time.time() + 60 * min(MOST_MINUTES, arguments.minutes)
    while True:
        command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(arguments.out), "--until", str(deadline)]
        command += ["--stages", ",".join(names), "--device", arguments.device, *(["--small"] * arguments.small)]
        child = subprocess.Popen(command, cwd=Path.cwd(), env=os.environ | _environment(), start_new_session=True)
        try:
            code = child.wait(timeout=max(1.0, deadline + GRACE_SECONDS - time.time()))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            code = child.wait()
        except KeyboardInterrupt:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        report = Report(arguments.out)
        started = [name for name in names if report.outcome(name) == "started"]
        for name in started:
            report.end(name, f"failed: its process ended with code {code}")
        is_unfinished = any(report.outcome(name) is None for name in names)
        if not is_unfinished or time.time() > deadline or not (started or code == DEVICE_LOST):
            break
    print(f"\n{arguments.out / JSON_NAME}")
    outcomes = {name: report.outcome(name) for name in names}
    for name, outcome in outcomes.items():
        print(f"{name:10} {outcome}")
    return 0 if all(outcome == "done" for outcome in outcomes.values()) else 1


def _environment() -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _has_cuda() -> bool:
    """Whether torch sees a CUDA device; it is not used here, so that the child processes have it whole."""
    import torch

    return bool(torch.cuda.is_available())


def _count(as_json: bool) -> int:
    from benchmarks.gpu.count import count_layers

    counts = count_layers()
    if as_json:
        print(json.dumps(counts, indent=1))
        return 0
    print("A training step of vgg11, batch 256, on CUDA in float32, by the model's count:")
    for layer, values in counts.items():
        print(f"{layer:16}{values['operators']:6} operators {values['GB']:8.2f} GB moved {values['GFLOP']:8.1f} GFLOP")
    return 0


if __name__ == "__main__":
    sys.exit(main())
