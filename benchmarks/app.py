"""Latency of the app (first frame, keys, table, chart), and the throughput of a run that trains in it.

    python -m benchmarks.app [WORD ...]     only the parts that contain a WORD: frame, import, table, chart, neighbors,
                                            key, share
    PAIRS=2 python -m benchmarks.app share  two pairs instead of ten

The app runs in a pseudo-terminal of 120x40 with every pane open. Throughput is compared over interleaved pairs of runs:
the median images/s of the epochs after the first, in the app and with `convnn run --plain`.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from convnn.charts.chart import Series, draw
from convnn.config import toml
from convnn.events import Finished
from convnn.presets import resolve
from convnn.runs import find
from convnn.runs.event_log import event_line
from tests.support.inspections import inspection
from tests.support.pictured_runs import events_of, make
from tests.support.terminal import ROOT, Program
from tui.app import ConvnnApp
from tui.screens.run.neighbors import NeighborsPane
from tui.screens.run.screen import RunScreen
from tui.screens.runs import RunsScreen

LAUNCHING = ROOT / "tests" / "support" / "launching.py"
RUNS = 1000
PAIRS = int(os.environ.get("PAIRS", "10"))
KEYS = 100
PATIENCE = 120.0  # seconds to wait for a text on the screen
SIZE = (120, 40)
THREADS = {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
DIGITS = {"data.dataset": "digits", "layer.type": "Branching", "training.batch_size": "64"}
QUICKSTART = DIGITS | {"model.width": "0.125", "training.num_epochs": "3"}
TABLE_RUNS, COLUMNS = 5000, 15
VARIED = {  # with name, status, epoch, best and seed the columns of the table
    "layer.K": ("3", "9"), "branching.ratio": ("0.25", "0.5"), "layer.similarity_type": ("Col", "Loc"),
    "layer.aggregation_type": ("Col", "Loc_Col"), "layer.magnitude_type": ("cosine", "euclidean"),
    "training.batch_size": ("64", "128"), "optimizer.lr": ("0.001", "0.0001"), "optimizer.weight_decay": ("0", "0.01"),
    "optimizer.name": ("adamw", "sgd"), "model.name": ("vgg11", "resnet18"),
}  # fmt: skip
WIDE = DIGITS | {"data.limit": "256", "training.num_epochs": "3"}  # vgg11 Branching of full width


def frame() -> Iterator[str]:
    """Seconds from the start of the process to the first frame, with 1,000 runs on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(RUNS):
            make(Path(folder), 3, name=f"20260101-{number:06d}-vgg11-ConvNN-{number:04x}", outcome="done")
        for word, name in (("convnn  home", "first frame"), ("ConvNN-03e7", "first runs in it")):
            times = []
            for _ in range(5):
                start = time.perf_counter()
                with _open("-m", "convnn", "tui", "--runs", folder) as app:
                    _until(app, word, 0)
                    times.append(time.perf_counter() - start)
            yield f"{name} with {RUNS:,} runs: median {median(times):.2f} s, worst {max(times):.2f} s of 5"


def import_() -> Iterator[str]:
    """The longest latency of a key while the training thread imports torch and builds the run."""
    longest = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder, _open(LAUNCHING, folder, *_words(QUICKSTART)) as app:
            _until(app, "loading torch", 0)
            app.press("1")  # hides the pane that the next one brings back
            latencies = []
            while not [*Path(folder).glob("*/events.jsonl")]:
                latencies.append(_latency(app, "1", "1 progress"))
            longest.append(max(latencies))
    yield f"longest latency of a key from torch's import to the first step: {_ms(longest)} in {len(longest)} starts"


def table() -> Iterator[str]:
    """Latency of the table of all runs: its first rows, from the data and from its key, and the next page."""
    with tempfile.TemporaryDirectory() as folder:
        _write_runs(Path(folder))
        seconds = asyncio.run(_seconds_from_data(Path(folder)))
        yield f"first rows of {TABLE_RUNS:,} runs x {COLUMNS} columns after the data is read: median {_ms([seconds])}"
        with _open("-m", "convnn", "tui", "--runs", folder) as app:
            _until(app, f"runs {TABLE_RUNS:,}", 0)
            first, pages = [], []
            for _ in range(5):
                time.sleep(1)
                first.append(_seconds_until(app, "t", f"{TABLE_RUNS - 1:04x}"))
                pages += [_seconds_until(app, "\x1b[6~", "vgg11-") for _ in range(KEYS // 5)]
                _seconds_until(app, "\x1b", "presets")  # back to Home
        pages.sort()
        latencies = f"median {_ms([median(first)])}, worst {_ms([max(first)])}"
        yield f"first rows of {TABLE_RUNS:,} runs x {COLUMNS} columns after the key: {latencies}"
        yield f"page-down: median {_ms([median(pages)])}, p95 {_ms([pages[int(0.95 * len(pages))]])}"


async def _seconds_from_data(root: Path) -> float:
    """Median seconds from the summaries to the rows on the screen, in this process."""
    times = []
    app = ConvnnApp(root)
    async with app.run_test(size=SIZE) as pilot:
        while not (app.run_feed.complete and len(app.runs) == TABLE_RUNS):
            await pilot.pause(0.1)
        await pilot.press("t")
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, RunsScreen)
        display, displayed = app._display, asyncio.Event()
        app._display = lambda *arguments: (display(*arguments), displayed.set())  # type: ignore[method-assign]
        for _ in range(11):
            await pilot.pause(0.2)
            displayed.clear()
            app.run_feed.runs, screen.arrangement = list(app.runs), None  # as if they had just been read
            start = time.perf_counter()
            screen.on_runs_changed()
            await displayed.wait()
            times.append(time.perf_counter() - start)
    return median(times)


def _write_runs(root: Path) -> None:
    """Write runs that differ in enough options to fill the table's columns."""
    rng = random.Random(1)
    events = "".join(event_line(event) + "\n" for event in [*events_of(1), Finished(outcome="done")])
    configs = []
    for _ in range(100):
        options = {name: rng.choice(choices) for name, choices in VARIED.items()}
        configs.append(toml.dumps(resolve.resolve(None, {"layer.type": "Branching"} | options).config, whole=True))
    for number in range(TABLE_RUNS):
        run = root / f"20260101-{number:06d}-vgg11-Branching-{number:04x}"
        run.mkdir()
        (run / "config.toml").write_text(configs[number % 100].replace("seed = 0", f"seed = {number // 100}"))
        (run / "events.jsonl").write_text(events)


def _seconds_until(app: Program, letter: str, word: str, pause: float = 0.1) -> float:
    """Seconds from a key, after a pause, until the word is on the screen."""
    time.sleep(pause)
    offset, start = len(app.output), time.perf_counter()
    app.press(letter)
    while word.encode() not in app.output[offset:]:
        if time.perf_counter() - start > 5:
            raise RuntimeError(f"no answer to {letter!r}")
        time.sleep(0.0005)
    return time.perf_counter() - start


def chart() -> Iterator[str]:
    """Time to redraw 8 curves of 100,000 points."""
    import numpy as np

    x = np.arange(100_000.0)
    series = [
        Series(f"run {n}", x, np.sin(x / 9000 + n) + np.random.default_rng(n).normal(0, 0.1, len(x))) for n in range(8)
    ]
    times = []
    for cursor in range(50):
        start = time.perf_counter()
        draw(series, 120, 30, x="step", cursor=1000.0 * cursor)
        times.append(time.perf_counter() - start)
    yield f"redraw of 8 curves of 100,000 points: median {1000 * median(times):.1f} ms"


def neighbors() -> Iterator[str]:
    """Time to look up and draw the neighbors of the next query of a layer with a large map, beside a second one."""
    for side, size in ((32, (80, 24)), (224, (200, 60))):
        times = sorted(asyncio.run(_query_times(side, size)))
        figures = f"median {_ms([median(times)])}, worst {_ms(times[-1:])}"
        yield f"the next query of a {side}x{side} map at {size[0]}x{size[1]}: {figures}"


async def _query_times(side: int, size: tuple[int, int]) -> list[float]:
    """Seconds of moves of the query, each drawn to the last cell."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        app = ConvnnApp(Path(folder))
        async with app.run_test(size=size) as pilot:
            await app.push_screen(RunScreen(make(Path(folder), outcome="done")))
            await pilot.press("8")
            await pilot.pause(0.5)
            pane = app.screen.query_one(NeighborsPane)
            pane.present(inspection(side=side), inspection("last", 30, shift=1, side=side))
            for number in range(KEYS):
                start = time.perf_counter()
                (pane.action_right, pane.action_left)[number % 2]()
                times.append(time.perf_counter() - start)
    return times


def key() -> Iterator[str]:
    """Latency of a key that redraws every curve while a run trains."""
    for name, config in (("quickstart", QUICKSTART), ("vgg11 Branching", WIDE)):
        config = config | {"training.num_epochs": "1000"}
        with tempfile.TemporaryDirectory() as folder, _open(LAUNCHING, folder, *_words(config)) as app:
            _until(app, "step ", 0)
            while not (runs := find.list_runs(Path(folder))[0]) or not runs[0].history().steps:
                time.sleep(0.1)
            latencies = sorted(_latency(app, "y", "log y") for _ in range(KEYS))
        yield f"a key while {name} trains: median {_ms([median(latencies)])}, p95 {_ms([latencies[int(0.95 * KEYS)]])}"


def share() -> Iterator[str]:
    """Throughput of training in the app, as a share of that without it."""
    for name, config in (("quickstart", QUICKSTART), ("vgg11 Branching", WIDE)):
        ratios = []
        for _ in range(PAIRS):
            headless, in_app = _headless_speed(config), _app_speed(config)
            ratios.append(in_app / headless)
            print(f"    {name}: {headless:.1f} images/s headless, {in_app:.1f} images/s in the app", flush=True)
        extremes = f"{min(ratios):.1%} to {max(ratios):.1%}"
        yield f"throughput in the app, {name}: {median(ratios):.1%} of headless (median of {PAIRS} pairs, {extremes})"


PARTS = {
    "frame": frame,
    "import": import_,
    "table": table,
    "chart": chart,
    "neighbors": neighbors,
    "key": key,
    "share": share,
}


@contextmanager
def _open(*words: str | Path) -> Iterator[Program]:
    app = Program(*words, size=SIZE, **THREADS)
    try:
        yield app
    finally:
        app.close()


def _until(app: Program, word: str, start: int) -> None:
    end = time.perf_counter() + PATIENCE
    while word.encode() not in app.output[start:] and word not in app.text:
        if time.perf_counter() > end:
            raise RuntimeError(f"the app did not show {word!r}")
        time.sleep(0.002)


def _latency(app: Program, letter: str, word: str) -> float:
    """Seconds from a key until the word is on the screen; the same key then removes it."""
    latency = _seconds_until(app, letter, word, pause=0.02)
    app.press(letter)
    time.sleep(0.15)
    return latency


def _headless_speed(config: dict[str, str]) -> float:
    from convnn.config.options import BY_KEY

    flags = [part for key, value in config.items() for part in (BY_KEY[key].flag, value)]
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "convnn", "run", *flags, "--runs", folder, "--plain"]
        subprocess.run(words, cwd=ROOT, env=os.environ | THREADS, check=True, capture_output=True)
        return _speed(Path(folder))


def _app_speed(config: dict[str, str]) -> float:
    with tempfile.TemporaryDirectory() as folder, _open(LAUNCHING, folder, *_words(config)) as app:
        while not any(b'"Finished"' in path.read_bytes() for path in Path(folder).glob("*/events.jsonl")):
            if app.process.poll() is not None:
                raise RuntimeError(f"the app ended: {app.text[-500:]}")
            time.sleep(1)  # without reading runs, which would take time from a core that trains
        return _speed(Path(folder))


def _speed(root: Path) -> float:
    """Median images/s of the epochs after the first, which is the warm-up."""
    return median(find.list_runs(root)[0][0].history().series("images_per_s")[1][1:])


def _words(config: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in config.items()]


def _ms(seconds: list[float]) -> str:
    return ", ".join(f"{1000 * value:.0f} ms" for value in seconds)


def main(words: list[str]) -> None:
    """Measure the parts whose names contain a word, and print their results."""
    for name, part in PARTS.items():
        if not words or any(re.search(word, name) for word in words):
            for line in part():
                print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
