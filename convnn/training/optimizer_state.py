"""What a checkpoint holds of an optimizer and its schedule, checked before it is loaded.

The fused kernels of an optimizer read as many numbers of each state tensor as the parameter has, without a check.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from convnn.training.shared_update import in_form_of

State = dict[int, dict[str, Tensor]]

# what a schedule counts; all else of its state follows from the configuration
COUNTERS = ("last_epoch", "_step_count", "num_bad_epochs", "cooldown_counter")
LONGEST_COUNT = 10**9


def state_tensors(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """Return the names of the tensors that the optimizer keeps of each parameter."""
    if isinstance(optimizer, torch.optim.SGD):
        return ("momentum_buffer",)
    return "step", "exp_avg", "exp_avg_sq"


def checked_state(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], pooled: Collection[int]
) -> State:
    """Return the saved state by parameter index and name, each tensor laid out in memory as its parameter.

    `tensors` are named "INDEX.NAME"; those of the indices in `pooled` are of a head's weight or of its shared update.
    Raises ValueError where one is not what this optimizer keeps of the parameter.
    """
    if any(value is not None for value in numbers.values()):
        raise ValueError("the optimizer's state holds numbers where tensors belong")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    names = state_tensors(optimizer)
    state: State = {}
    for key, value in tensors.items():
        index_text, _, name = key.partition(".")
        index = int(index_text) if index_text.isascii() and index_text.isdecimal() and len(index_text) < 10 else -1
        if not 0 <= index < len(parameters) or str(index) != index_text:
            raise ValueError(f"the optimizer's state {key[:80]!r} is of no parameter: there are {len(parameters)}")
        if name not in names:
            raise ValueError(f"the optimizer's state {key[:80]!r} is none that {type(optimizer).__name__} keeps")
        if index in pooled and name != "step":
            value = in_form_of(parameters[index], value)
        state.setdefault(index, {})[name] = _laid_out(value, parameters[index], key)
    for index, values in state.items():
        if missing := [name for name in names if name not in values]:
            raise ValueError(f"the optimizer's state of parameter {index} lacks {', '.join(missing)}")
    return state


def _laid_out(value: Tensor, parameter: Tensor, key: str) -> Tensor:
    if key.endswith(".step"):
        if value.shape != () or value.dtype != torch.float32 or not 0 <= value.item() < math.inf:
            raise ValueError(f"the optimizer's state {key} is no count of steps")
        return value
    if value.shape != parameter.shape or value.dtype != parameter.dtype:
        raise ValueError(
            f"the optimizer's state {key} is {value.dtype} {tuple(value.shape)}, "
            f"its parameter is {parameter.dtype} {tuple(parameter.shape)}"
        )
    return torch.empty_like(parameter, requires_grad=False).copy_(value)


def saved_rates(groups: Any, count: int) -> list[float]:
    """Return the learning rate of each saved parameter group. Raises ValueError where there are not `count`."""
    rates = [group["lr"] for group in groups]
    if len(rates) != count or not all(is_number(rate) and rate >= 0 for rate in rates):
        raise ValueError("the optimizer's learning rates are not those of its parameter groups")
    return [float(rate) for rate in rates]


def load_counters(scheduler: LRScheduler | ReduceLROnPlateau, saved: Mapping[str, Any]) -> None:
    """Let a schedule continue from where it was saved. Raises ValueError, TypeError or KeyError where it cannot."""
    own = scheduler.state_dict()
    state: dict[str, Any] = {}
    for name in own.keys() & set(COUNTERS):
        count = saved[name]
        if type(count) is not int or not 0 <= count < LONGEST_COUNT:
            raise ValueError(f"the schedule's {name} is no count")
        state[name] = count
    if "best" in own:
        if type(saved["best"]) not in (int, float):
            raise ValueError("the schedule's best is not a number")
        state["best"] = float(saved["best"])
    if (rates := saved.get("_last_lr")) is not None:
        state["_last_lr"] = saved_rates([{"lr": rate} for rate in rates], len(scheduler.optimizer.param_groups))
    scheduler.load_state_dict(own | state)


def load_scale(scaler: torch.amp.GradScaler, saved: Mapping[str, Any]) -> None:
    """Let the loss scale of fp16 continue. Raises ValueError or KeyError where `saved` is of no scaler."""
    scale, tracker = saved["scale"], saved["_growth_tracker"]
    if not is_number(scale) or scale <= 0 or type(tracker) is not int or not 0 <= tracker < LONGEST_COUNT:
        raise ValueError("the loss scale is not a positive number")
    scaler.load_state_dict(scaler.state_dict() | {"scale": float(scale), "_growth_tracker": tracker})


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)
