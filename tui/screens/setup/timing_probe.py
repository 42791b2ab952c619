"""Times a few training steps of the configuration on stdin; run as `python -m` in a process of its own."""

from __future__ import annotations

import json
import sys
import time

from convnn.config.schema import RunConfig
from convnn.errors import UserError
from convnn.presets import resolve, store

WARM, MOST, SECONDS = 2, 20, 6.0  # steps before, steps timed at most, and for how long
FORWARD = 1 / 3  # of a training step's time is its forward pass, about


def measure(config: RunConfig) -> dict[str, object]:
    """Seconds of an epoch, evaluation included, by some steps of training."""
    import torch

    from convnn.events import Step
    from convnn.training.trainer import Trainer

    trainer = Trainer.from_config(config)
    stream = trainer.run()
    times: list[float] = []
    began = done = 0.0
    while len(times) < WARM + MOST and done < SECONDS:
        mark, global_step = time.perf_counter(), trainer.state.position.global_step
        event = next(stream)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        if (event is None or isinstance(event, Step)) and trainer.state.position.global_step == global_step + 1:
            times.append(time.perf_counter() - mark)
            began = began or mark
            done = time.perf_counter() - began
        elif times and trainer.state.position.global_step == global_step:
            break  # the epoch is over
    counted = times[WARM:] or times
    step = sum(counted) / len(counted)
    train, test = len(trainer.state.train_loader), len(trainer.state.data.test or ())
    return {"epoch_s": step * (train + FORWARD * test), "steps": len(counted), "device": str(trainer.device)}


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
