"""Runs made for tests: a directory, and the events a test gives."""

from __future__ import annotations

from pathlib import Path

from convnn.events import Epoch, Event
from convnn.runs import run as runs_run
from convnn.runs.event_log import append_event
from convnn.runs.run import Run

CONFIG = '[model]\nname = "vgg11"\n\n[data]\nresize = "none"\n\n[scheduler]\nname = "none"\n'


def new(root: Path, *events: Event, **options) -> Run:
    run = runs_run.create_run(CONFIG, model="vgg11", layer="ConvNN", root=root, **options)
    for event in events:
        append_event(run.events_path, event)
    return run


def epoch(number: int, top1: float) -> Epoch:
    return Epoch(epoch=number, step=number, metrics={"test_top1": top1, "test_loss": 100 - top1})
