"""The app for a long time on a run that tells 10 events a second: its memory and its open files.

    python -m benchmarks.soak [MINUTES]     20 without a number

Another process holds the run's lock and appends the events. A step takes memory for as long as its run is shown, as
its point can be zoomed to; so memory is also given for each step. Ends with 1 when the app died, when it opened more
and more files, or when its memory grew by more than the steps explain.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.pictured import NAME, STEPS, make
from tests.pseudo import ROOT, Program

from convnn.events import Step
from convnn.runs import event_log
from convnn.runs.lock import lock_run
from convnn.runs.run import Run

RATE = 10  # events a second
EVERY = 30.0  # seconds between two lines
A_STEP = 4096  # bytes that a step may take
SLACK = 8 << 20  # bytes that memory may come and go by
SHOWN = """
import sys
from pathlib import Path
from convnn.runs.run import Run
from tui.app import ConvnnApp
from tui.process.launcher import Launcher
from tui.process.shutdown import run_app
from tui.screens.run.screen import RunScreen
from tui.process.terminal import Terminal

class Showing(ConvnnApp):
    def on_ready(self):
        self.push_screen(RunScreen(Run(self.root / sys.argv[2], sys.argv[2])))

root = Path(sys.argv[1])
with Terminal() as terminal:
    app = Showing(root, launcher=Launcher(root, terminal))
    sys.exit(run_app(app, app.shutdown, terminal))
"""


def tell(root: Path, seconds: float) -> None:
    """Append events to the run, as its trainer would, for so long."""
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


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def opened(pid: int) -> int:
    """Files that a process has open; not those that it opens for a moment, to read them."""
    counts = []
    for _ in range(5):
        counts.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        time.sleep(0.1)
    return min(counts)


def main(minutes: float) -> int:
    """Run the app for so long; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), 2)
        teller = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.soak", "tell", folder, str(60 * minutes)], cwd=ROOT
        )
        app = Program("-c", SHOWN, folder, NAME, size=(120, 40))
        measured: list[tuple[int, int, int]] = []  # bytes, files, events
        try:
            end = time.monotonic() + 60 * minutes
            time.sleep(min(EVERY, 20 * minutes))  # the first frames, and what they load
            while time.monotonic() < end and app.process.poll() is None:
                pid = app.process.pid
                files = opened(pid)
                lines = (Path(folder) / NAME / "events.jsonl").read_bytes().count(b"\n")
                measured.append((resident(pid), files, lines))
                print(f"{measured[-1][0] / 2**20:7.1f} MiB  {files} files  {lines} events", flush=True)
                app.output = b""
                app.press("xye")  # somebody looks at it
                time.sleep(min(EVERY, 10 * minutes))
            alive = app.process.poll() is None
        finally:
            app.close()
            teller.kill()
            teller.wait()
    (first, files, before), (last, files_at_end, after) = measured[0], measured[-1]
    print(f"grew by {(last - first) / 2**20:.1f} MiB, {(last - first) / max(1, after - before):.0f} bytes an event")
    flat = last - first <= SLACK + A_STEP * (after - before) and files_at_end <= files
    return 0 if alive and flat else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["tell"]:
        tell(Path(sys.argv[2]), float(sys.argv[3]))
    else:
        sys.exit(main(float(sys.argv[1]) if sys.argv[1:] else 20))
