"""Measure every claim about speed and memory here, or those that are named.

python -m benchmarks [NAME ...] [--quick] [--rounds N] [--device cuda] [--save FILE] [--compare FILE]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import cells, epoch, growth, inputs, layers, pair, step, table
from benchmarks.measure import How

PARTS = {
    "layers": layers.rows,
    "step": step.rows,
    "inputs": inputs.rows,
    "epoch": epoch.rows,
    "growth": growth.rows,
    "cells": cells.rows,
}
APART = {"memory": [], "comparing": [], "app": []}  # programs of their own, with what they are told
QUICK = {"memory": ["vgg11"], "app": ["frame", "chart"]}
ASKED = {"pair": pair.rows}  # minutes long, so only when it is named
ROUNDS, QUICK_ROUNDS = 7, 3


def main() -> None:
    names = [*PARTS, *APART, *ASKED]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="a first look, in under three minutes")
    parser.add_argument("--rounds", type=int, help=f"rounds of which the median is taken, {ROUNDS} by default")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="show them beside those of an earlier file")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in names]:
        parser.error(f"there is no {', '.join(unknown)}; there is {', '.join(names)}")
    how = How(asked.device, asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS), asked.quick)
    on = table.machine(how)
    print(", ".join(f"{key} {value}" for key, value in on.items()), flush=True)
    kept: list[table.Row] = []
    for name in asked.names or [*PARTS, *APART]:
        if name in APART:
            _program(name, QUICK.get(name) if asked.quick else APART[name], asked.quick)
            continue
        for line in table.printed((PARTS | ASKED)[name](how), kept):
            print(line, flush=True)
    if asked.save:
        table.save(asked.save, on, kept)
    if asked.compare:
        for line in table.printed(table.compared(asked.compare, kept), []):
            print(line)


def _program(name: str, words: list[str] | None, quick: bool) -> None:
    """Run a benchmark that prints its own figures; a first look leaves out those that have none."""
    if words is None:
        return
    print(f"\n{name}:", flush=True)
    environment = os.environ | {"PAIRS": os.environ.get("PAIRS", "2" if quick else "3")}
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *words], env=environment, check=True)


if __name__ == "__main__":
    main()
