"""Small runs for tests: a configuration by flag names, trained on this thread in a directory of its own."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from convnn.config import toml
from convnn.config.options import BY_FLAG
from convnn.config.schema import RunConfig
from convnn.events import Event
from convnn.presets import resolve
from convnn.runs import event_log
from convnn.runs import run as runs_run
from convnn.runs.control import ControlCommand
from convnn.runs.run import Run
from convnn.worker.signals import Command
from convnn.worker.train_run import RunResult, train_run

# a ResNet takes images of 8x8 pixels as they are: steps of milliseconds
SMALL = {
    "model": "resnet18",
    "layer": "Conv2d",
    "width": 0.0625,
    "dataset": "digits",
    "resize": 8,
    "limit": 60,
    "batch_size": 16,
    "num_epochs": 2,
    "device": "cpu",
}
# everything that draws or remembers, in a layer without a convolution beside it: mixed precision does neither
RICH = SMALL | {
    "limit": 24,
    "batch_size": 12,
    "layer": "ConvNN_Attn",
    "sampling_type": "random",
    "num_samples": 16,
    "K": 4,
    "attention_dropout": 0.2,
    "augment": True,
    "noise": 0.1,
    "accumulate": 2,
    "scheduler": "plateau",
    "val_share": 0.2,
    "early_stop": 5,
    "ema": 0.8,
    "bn_recalibrate": 2,
    "label_smoothing": 0.1,
    "warmup_epochs": 1,
}


class StopAt(deque[Command]):
    """A queue that holds a command from the given look on: in the middle of an epoch, in an evaluation, at an end."""

    def __init__(self, look: int, command: Command = ControlCommand.STOP) -> None:
        super().__init__()
        self.looks_left, self.command = look, command

    def __bool__(self) -> bool:
        self.looks_left -= 1
        if self.looks_left == 0:
            self.append(self.command)
        return len(self) > 0


def config(options: dict[str, Any] = SMALL, **more: Any) -> RunConfig:
    """A configuration by the names of flags, checked."""
    typed = {BY_FLAG[f"--{name}"].key: value for name, value in (options | more).items()}
    return resolve.resolve(None, typed).checked()


def create(root: Path, run_config: RunConfig) -> Run:
    return runs_run.create_run(
        toml.dumps(run_config, whole=True), model=run_config.model.name, layer=run_config.layer.type, root=root
    )


def train(root: Path, run_config: RunConfig, **options: Any) -> tuple[Run, RunResult]:
    run = create(root, run_config)
    return run, train_run(run, run_config, **options)


def resume(run: Run, **options: Any) -> RunResult:
    return train_run(run, run.config(), resume=True, **options)


def recorded_events(run: Run) -> list[Event]:
    events, bad, _ = event_log.EventReader().read(run.events_path)
    assert bad == []
    return events


def weights(run: Run, which: str = "last") -> dict[str, torch.Tensor]:
    step = (run.path / "checkpoints" / which).read_text().strip()
    return load_file(run.path / "checkpoints" / step / "model.safetensors")


def same_weights(a: Run, b: Run) -> bool:
    """Whether two runs ended with the same bits."""
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
