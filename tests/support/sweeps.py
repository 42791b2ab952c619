"""A sweep that was started, with cells in several states."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from support.app import NOW

from convnn.config.toml import parse_run
from convnn.events import Epoch, Event, Finished, Started
from convnn.runs.event_log import event_line
from convnn.sweeps.file import Sweep
from convnn.sweeps.queue import Entry, Queue
from convnn.sweeps.start import plan_sweep_start, start

FLAGS = {"layer.K": "1,4,300", "optimizer.lr": "1e-3,1e-4", "data.dataset": "digits", "training.seed": "0,1"}


def make_sweep(root: Path) -> None:
    """Start a sweep in a paused queue: K 1 is done, a cell of K 4 has failed, K 300 is infeasible."""
    queue = Queue(root)
    queue.pause("a test")
    start(plan_sweep_start(Sweep("grid"), root.absolute(), FLAGS))
    for entry in queue.entries()[0]:
        config = parse_run(entry.config)
        if config.layer.K == 1:
            write_run(entry, "done", 70 + 1000 * config.optimizer.lr + config.training.seed)
            queue.leave(entry, "")
        elif config.optimizer.lr == 1e-3 and config.training.seed == 0:
            write_run(entry, "failed", 20)
            queue.leave(entry, "failed: no space left on device")


def finish_sweep(root: Path) -> None:
    """Let all that waits in the queue be done."""
    queue = Queue(root)
    for entry in queue.entries()[0]:
        write_run(entry, "done", 70)
        queue.leave(entry, "")


def write_run(entry: Entry, outcome: str, top1: float) -> None:
    """Write the run of an entry, which ended with this accuracy."""
    assert entry.run_path is not None
    entry.run_path.mkdir(exist_ok=True)
    (entry.run_path / "config.toml").write_text(entry.config)
    begin = NOW - timedelta(hours=1)
    events: list[Event] = [Started(time=begin, host="here", device="cpu", epochs=2, steps_per_epoch=10)]
    for number in (1, 2):
        metrics = {"train_loss": 2 / number, "test_top1": top1 - 10 / number, "train_s": 9.0, "eval_s": 1.0}
        moment = begin + timedelta(seconds=10 * number)
        events.append(Epoch(time=moment, epoch=number, step=10 * number, metrics=metrics))
    events.append(Finished(time=begin + timedelta(seconds=60), outcome=outcome))
    (entry.run_path / "events.jsonl").write_text("".join(event_line(event) + "\n" for event in events))
