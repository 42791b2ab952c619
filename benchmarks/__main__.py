"""Measure every claim about speed and memory, or the parts that are named.

python -m benchmarks [NAME ...] [--quick] [--rounds N] [--device cuda] [--save FILE] [--compare FILE]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import cells, epoch, evaluation, growth, inputs, layers, pair, step, table
from benchmarks.measure import BenchOptions

PARTS = {
    "layers": layers.rows,
    "step": step.rows,
    "inputs": inputs.rows,
    "epoch": epoch.rows,
    "evaluation": evaluation.rows,
    "growth": growth.rows,
    "cells": cells.rows,
}
PROGRAMS = ("memory", "comparing", "sweeps", "app")  # modules that print their own tables
QUICK_ARGUMENTS = {"memory": ["vgg11"], "app": ["frame", "chart"]}  # a quick run leaves out the other programs
ON_REQUEST = {"pair": pair.rows}  # takes minutes: only when it is named
ROUNDS, QUICK_ROUNDS = 7, 3


def main() -> None:
    names = [*PARTS, *PROGRAMS, *ON_REQUEST]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"parts to run, of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="smaller batches and fewer rounds: under three minutes")
    parser.add_argument("--rounds", type=int, help=f"rounds to take the median of (default: {ROUNDS})")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="compare the results with a saved file")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in names]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)} (choose from {', '.join(names)})")
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    bench = BenchOptions(arguments.device, rounds, arguments.quick)
    machine = table.machine(bench)
    print(", ".join(f"{key} {value}" for key, value in machine.items()), flush=True)
    results: list[table.Row] = []
    for name in arguments.names or [*PARTS, *PROGRAMS]:
        if name in PROGRAMS:
            _run_program(name, arguments.quick)
            continue
        for line in table.format_rows((PARTS | ON_REQUEST)[name](bench), results):
            print(line, flush=True)
    if arguments.save:
        table.save(arguments.save, machine, results)
    if arguments.compare:
        for line in table.format_rows(table.compare(arguments.compare, results), []):
            print(line)


def _run_program(name: str, quick: bool) -> None:
    """Run a benchmark that prints its own table."""
    if quick and name not in QUICK_ARGUMENTS:
        return
    words = QUICK_ARGUMENTS[name] if quick else []
    print(f"\n{name}:", flush=True)
    environment = os.environ | {"PAIRS": os.environ.get("PAIRS", "2" if quick else "3")}
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *words], env=environment, check=True)


if __name__ == "__main__":
    main()
