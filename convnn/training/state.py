"""What the rest of a run depends on: taken between two steps, put back exactly or, for a fork, as far as it fits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from convnn.config.active import active_options
from convnn.config.diff import config_diff
from convnn.errors import Exit, Problem, UserError
from convnn.metrics import Best
from convnn.text import escaped
from convnn.training import device

if TYPE_CHECKING:
    from convnn.training.trainer import Trainer

Plateau = torch.optim.lr_scheduler.ReduceLROnPlateau


@dataclass
class Position:
    """Where a run is, between two steps."""

    epoch: int = 1
    step: int = 0  # steps done in this epoch
    total: int = 0  # steps done in the run
    elapsed: float = 0.0  # seconds of the run in earlier processes


@dataclass(frozen=True)
class State:
    """What a checkpoint holds: tensors by name, and all else as plain data. No optimizer: a finished run keeps none."""

    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor] | None
    plain: Mapping[str, Any]


def taken(trainer: Trainer) -> State:
    """The state of a trainer between two steps; its tensors are the trainer's own, not copies."""
    optimizer = trainer.optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, values in optimizer["state"].items():
        for name, value in values.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"{index}.{name}"] = value
    plain = {
        "position": asdict(trainer.position) | {"elapsed": trainer.position.elapsed + trainer.whole.seconds()},
        "best": trainer.best._asdict() if trainer.best else None,
        "tally": trainer.tally.state(),
        "train_s": trainer.clock.seconds(),
        "optimizer": {"groups": optimizer["param_groups"], "numbers": numbers},
        "scheduler": trainer.scheduler.state_dict() if trainer.scheduler else None,
        "scaler": trainer.scaler.state_dict(),
        "seed": trainer.config.training.seed,
        "config": active_options(trainer.config),
        "data": _data(trainer),
        "machine": here(trainer),
        "versions": device.versions(),
    }
    return State(dict(trainer.model.state_dict()), tensors, plain)


def here(trainer: Trainer) -> dict[str, Any]:
    """What figures may depend on beside the configuration: two runs repeat each other bit for bit where it agrees."""
    threads = torch.get_num_threads() if trainer.device.type == "cpu" else None
    return {"device": device.describe(trainer.device), "threads": threads, "torch": torch.__version__}


def finite(model: nn.Module) -> bool:
    """Whether every weight and every running figure is a number. Waits for the device."""
    reals = [value for value in model.state_dict().values() if value.is_floating_point()]
    largest = [torch.linalg.vector_norm(value.float(), torch.inf) for value in reals]  # NaN is larger than all
    return bool(torch.stack(largest).isfinite().all())


def restore(trainer: Trainer, state: State, *, exactly: bool) -> None:
    """Give a freshly built trainer the state. Raises UserError where it does not fit the model or the data.

    Not `exactly` is for a fork under another configuration: it takes over weights, what the same optimizer remembers,
    and the epoch, which begins anew; the learning rate follows the new configuration.
    """
    plain = state.plain
    try:
        trainer.model.load_state_dict(state.model)
        if exactly:
            _check_data(trainer, plain["data"])
            _exactly(trainer, state)
        else:
            _as_far_as_it_fits(trainer, state)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = escaped(" ".join(lines[1:2] or lines))[:300]
        raise UserError(
            Problem(
                f"the checkpoint does not fit this configuration: {said}",
                fix="model, layer and data set must be those of the run that it is from",
            ),
            Exit.STORAGE if exactly else Exit.USAGE,
        ) from error


def _exactly(trainer: Trainer, state: State) -> None:
    plain = state.plain
    remembered = _remembered(state)
    trainer.optimizer.load_state_dict({"state": remembered, "param_groups": plain["optimizer"]["groups"]})
    if trainer.scheduler is not None:
        trainer.scheduler.load_state_dict(plain["scheduler"])
    if plain["scaler"]:
        trainer.scaler.load_state_dict(plain["scaler"])
    trainer.position = Position(**plain["position"])
    trainer.best = Best(**plain["best"]) if plain["best"] else None
    trainer.tally.restore(plain["tally"])
    trainer.clock.start_at(plain["train_s"])


def _as_far_as_it_fits(trainer: Trainer, state: State) -> None:
    plain, config = state.plain, trainer.config
    if state.optimizer is not None and plain["config"].get("optimizer.name") == config.optimizer.name:
        groups = trainer.optimizer.state_dict()["param_groups"]
        trainer.optimizer.load_state_dict({"state": _remembered(state), "param_groups": groups})
    if plain["scaler"] and trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(plain["scaler"])
    trainer.position = Position(**plain["position"])
    trainer.position.step = 0  # the order of the images may be another one
    best = plain["best"]
    if best and best["metric"] == trainer.watched:
        trainer.best = Best(**best)
    if trainer.scheduler is not None and not isinstance(trainer.scheduler, Plateau):
        with warnings.catch_warnings():  # it warns of being stepped before the optimizer: just what is meant
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(1, trainer.position.epoch):
                trainer.scheduler.step()


def _remembered(state: State) -> dict[int, dict[str, Any]]:
    """What the optimizer remembers, by parameter and name."""
    found: dict[int, dict[str, Any]] = {}
    for key, value in {**(state.optimizer or {}), **state.plain["optimizer"]["numbers"]}.items():
        index, _, name = key.partition(".")
        found.setdefault(int(index), {})[name] = value
    return found


def _data(trainer: Trainer) -> dict[str, Any]:
    """What the images were: as JSON gives it back."""
    data = trainer.data
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return {
        "classes": list(data.classes),
        "images": {name: split.num_images for name, split in splits.items() if split is not None},
        "mean": list(data.mean),
        "std": list(data.std),
    }


def same(trainer: Trainer, state: State) -> bool:
    """Whether a fork goes on as its run would have: under the same configuration, on the same images."""
    return not config_diff(state.plain["config"], trainer.config) and bool(state.plain["data"] == _data(trainer))


def _check_data(trainer: Trainer, before: Mapping[str, Any]) -> None:
    now = _data(trainer)
    differ = [name for name in now if now[name] != before[name]]
    if differ:
        name = differ[0]
        raise UserError(
            Problem(
                f"the data set is not the one that the run began with: {name} "
                f"{escaped(before[name])[:100]} then, {escaped(now[name])[:100]} now",
                key="data.path",
                value=trainer.config.data.path,
                fix="bring the images back, or add --fork to `convnn resume` to go on with those that are here",
            ),
            Exit.DATA,
        )
