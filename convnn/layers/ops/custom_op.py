"""How the layers' own operators are made: opaque to autograd and to the compiler, and outside autocast.

By the parts of torch.library rather than its `custom_op`: the first call of an operator made by that imports the
compiler, for over a second of the start of every run, most of which compile nothing.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


class Operator:
    """A torch operator "namespace::name" of a function that changes none of its arguments."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function, self.has_gradient = name, function, False
        schema = torch.library.infer_schema(function, mutates_args=())
        torch.library.define(name, schema, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.impl(name, "CompositeExplicitAutograd", function)
        namespace, _, own = name.partition("::")
        self.overload = getattr(getattr(torch.ops, namespace), own).default

    def __call__(self, *args: Any) -> Any:
        watched = torch.compiler.is_compiling() or is_in_torch_dispatch_mode()
        if watched or (self.has_gradient and torch.is_grad_enabled()):
            return self.overload(*args)
        return self.function(*args)  # the same without the dispatcher, which costs as much as several small operators

    def register_fake(self, shapes: Callable[..., Any]) -> None:
        """Say what comes out of tensors that carry no data, for the compiler."""
        torch.library.register_fake(self.name, shapes)

    def register_autograd(self, backward: Callable[..., Any], save: Callable[..., None]) -> None:
        """Give it a gradient, which itself has none."""
        self.has_gradient = True
        torch.library.register_autograd(self.name, once_differentiable(backward), setup_context=save)


def operator(name: str) -> Callable[[Callable[..., Any]], Operator]:
    """Make a function of tensors an operator inside which autocast is off, so that it may sum exactly."""

    def register(function: Callable[..., Any]) -> Operator:
        @wraps(function)
        def exactly(*args: Any) -> Any:
            device = args[0].device.type
            if not torch.is_autocast_enabled(device):  # entering the context costs as much as several small operators
                return function(*args)
            with torch.autocast(device, enabled=False):
                return function(*args)

        return Operator(name, exactly)

    return register
