"""Times a few training steps of the configuration on stdin; run as `python -m` in a process of its own."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from convnn.config.schema import RunConfig
from convnn.errors import UserError
from convnn.presets import resolve, store

if TYPE_CHECKING:
    from convnn.training.trainer import Trainer

WARM_UP_STEPS, MAX_STEPS, MAX_SECONDS = 2, 20, 6.0
FORWARD_SHARE = 1 / 3  # of the time of a training step, roughly


def measure(config: RunConfig) -> dict[str, object]:
    """Estimate the seconds of an epoch, evaluation included, from some training steps."""
    from convnn.training.trainer import Trainer
    from convnn.worker.followers import process_group

    with tempfile.TemporaryDirectory(prefix="convnn-") as folder, process_group(config, Path(folder)) as (group, _):
        return _measure(Trainer.from_config(config, group=group))


def _measure(trainer: Trainer) -> dict[str, object]:
    import torch

    from convnn.events import Step
    from convnn.training.graphed_pass import STEPS_BEFORE_REPLAY

    state = trainer.state
    warm_up = WARM_UP_STEPS if trainer.graphed_pass is None else STEPS_BEFORE_REPLAY
    stream = trainer.run()
    times: list[float] = []
    first_start = total = 0.0
    start = time.perf_counter()
    while len(times) < warm_up + MAX_STEPS and total < MAX_SECONDS:
        step = state.position.global_step
        event = next(stream)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        if (event is None or isinstance(event, Step)) and state.position.global_step == step + 1:
            times.append(time.perf_counter() - start)
            first_start = first_start or start
            total = time.perf_counter() - first_start
            start = time.perf_counter()
        elif state.position.step == len(state.train_loader):
            break  # the epoch is over; before, a batch is waited for, which is a part of the next step
    steady = times[warm_up:] or times
    step_time = sum(steady) / len(steady)
    train, test = len(state.train_loader), len(state.data.test or ())
    epoch_time = step_time * (train + FORWARD_SHARE * test)
    return {"epoch_s": epoch_time, "steps": len(steady), "device": str(trainer.device)}


def main() -> int:
    """Read the configuration, print one line of JSON."""
    try:
        config = resolve.resolve(store.parse(sys.stdin.read())).checked()
        print(json.dumps(measure(config)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
