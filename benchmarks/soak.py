"""Memory and open files of the app that shows a run with 10 events per second for a long time.

    python -m benchmarks.soak [MINUTES]     default: 20

Another process holds the run's lock and appends the events. Every step takes memory while its run is shown, because
the chart can be zoomed to it, so the growth is also printed per event. The exit code is 1 if the app ended, the number
of open files grew, or memory grew by more than the steps explain.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from convnn.events import Step
from convnn.runs import event_log
from convnn.runs.lock import lock_run
from convnn.runs.run import Run
from tests.support.pictured_runs import NAME, STEPS, make
from tests.support.terminal import ROOT, Program

RATE = 10  # events per second
INTERVAL = 30.0  # seconds between two measurements
STEP_BYTES = 4096  # that a step may take
TOLERANCE_BYTES = 8 << 20  # by which memory may vary


def append_events(root: Path, seconds: float) -> None:
    """Append events to the run for so many seconds, as its trainer would."""
    run, end = Run(root / NAME, NAME), time.monotonic() + seconds
    step = run.history().step
    with lock_run(run.path):
        while time.monotonic() < end:
            step += 1
            fields = {"lr": 1e-3, "grad_norm": 1.0 + step % 7 / 10, "images_per_s": 1200.0}
            event_log.append_event(
                run.events_path, Step(epoch=1 + step // STEPS, step=step, loss=1 + step % 13 / 20, **fields)
            )
            time.sleep(1 / RATE)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> int:
    """The number of files that a process keeps open, without those that it opens briefly to read them."""
    counts = []
    for _ in range(5):
        counts.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        time.sleep(0.1)
    return min(counts)


def main(minutes: float) -> int:
    """Run the app for so many minutes; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), 2)
        writer = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.soak", "append-events", folder, str(60 * minutes)], cwd=ROOT
        )
        app = Program("-m", "convnn", "tui", "--runs", folder, size=(120, 40))
        measured: list[tuple[int, int, int]] = []  # bytes, files, events
        try:
            app.until(lambda: "vgg11-Branching" in app.text, "the run in the list of Home")
            app.press("\r")
            app.until(lambda: "1 progress" in app.text, "the screen of the run")
            end = time.monotonic() + 60 * minutes
            time.sleep(min(INTERVAL, 20 * minutes))  # the first frames load modules
            while time.monotonic() < end and app.process.poll() is None:
                pid = app.process.pid
                files = open_files(pid)
                lines = (Path(folder) / NAME / "events.jsonl").read_bytes().count(b"\n")
                measured.append((resident_bytes(pid), files, lines))
                print(f"{measured[-1][0] / 2**20:7.1f} MiB  {files} files  {lines} events", flush=True)
                app.output = b""
                app.press("xye")  # change the chart, as a person would
                time.sleep(min(INTERVAL, 10 * minutes))
            alive = app.process.poll() is None
        finally:
            app.close()
            writer.kill()
            writer.wait()
    (first_bytes, first_files, first_events), (last_bytes, last_files, last_events) = measured[0], measured[-1]
    growth, events = last_bytes - first_bytes, last_events - first_events
    print(f"grew by {growth / 2**20:.1f} MiB, {growth / max(1, events):.0f} bytes/event")
    is_bounded = growth <= TOLERANCE_BYTES + STEP_BYTES * events and last_files <= first_files
    return 0 if alive and is_bounded else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["append-events"]:
        append_events(Path(sys.argv[2]), float(sys.argv[3]))
    else:
        sys.exit(main(float(sys.argv[1]) if sys.argv[1:] else 20))
