"""How the layers' own operators are made: opaque to autograd and to the compiler, and outside autocast."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


def operator(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Register a function of tensors as a torch operator inside which autocast is off, so that it may sum exactly."""

    def register(function: Callable[..., Any]) -> Any:
        @wraps(function)
        def exactly(*args: Any) -> Any:
            with torch.autocast(args[0].device.type, enabled=False):
                return function(*args)

        return torch.library.custom_op(name, exactly, mutates_args=())

    return register
