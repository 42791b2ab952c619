"""Run stages in this process, until the card is lost."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator

import torch

from benchmarks import table
from benchmarks.gpu.bench import DeviceLostError, GpuBench
from benchmarks.gpu.report import Report
from benchmarks.gpu.stages import STAGES
from benchmarks.measure import BenchOptions
from benchmarks.table import Row, format_rows

LEAST_SECONDS = 5.0  # with which a stage is started
DEVICE_LOST = 70  # the exit code after which another process goes on


def run_stages(names: list[str], report: Report, device: str, small: bool, deadline: float) -> int:
    """Run the stages that have not run; return the exit code."""
    if device != "cpu":
        torch.cuda.set_device(torch.device(device).index or 0)  # on which times and memory are measured
    report.set_machine(table.machine(BenchOptions(device)) | _card(device))
    names = [name for name in names if report.outcome(name) is None]
    for index, name in enumerate(names):
        seconds_left = deadline - time.time()
        if seconds_left < LEAST_SECONDS:
            report.end(name, "no time")
            continue
        # what a stage leaves of its time, the following ones have
        share = STAGES[name].seconds / sum(STAGES[following].seconds for following in names[index:])
        seconds = min(seconds_left, max(LEAST_SECONDS, share * seconds_left))
        bench = GpuBench(torch.device(device), small, time.time() + seconds)
        report.start(name)
        print(f"\n== {name} (at most {seconds:.0f} s)", flush=True)
        start = time.monotonic()
        outcome = _run_stage(name, bench, report)
        elapsed = time.monotonic() - start
        report.end(name, outcome, elapsed)
        print(f"== {name}: {outcome} ({elapsed:.1f} s)", flush=True)
        if outcome != "done":
            try:
                bench.check_device()
            except DeviceLostError:
                return DEVICE_LOST
    return 0


def _run_stage(name: str, bench: GpuBench, report: Report) -> str:
    """Print and record the rows of a stage; return its outcome."""

    def recorded_rows() -> Iterator[Row | str]:
        for row in STAGES[name].rows(bench):
            report.add(name, row)
            yield row

    try:
        for line in format_rows(recorded_rows(), []):
            print(line, flush=True)
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        return f"failed: {type(error).__name__}: {str(error)[:300]}"
    return "done"


def _card(device: str) -> dict[str, str]:
    if not device.startswith("cuda"):
        return {}
    properties = torch.cuda.get_device_properties(device)
    return {
        "card memory": f"{properties.total_memory / 2**30:.0f} GiB",
        "multiprocessors": str(properties.multi_processor_count),
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": str(torch.version.cuda),
    }
