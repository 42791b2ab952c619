"""Custom operators of the layers: opaque to autograd and to torch.compile, and outside autocast.

They are made from the parts of `torch.library` and not with `torch.library.custom_op`: the first call of an operator
made with that imports the compiler, which adds more than a second to the start of every run.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, Generic, TypeVar

import torch
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

T = TypeVar("T")
OPERATORS: dict[Any, "Operator"] = {}
"""Our operators by the overload that torch dispatches."""
GRAPH_MODULES = ("torch._inductor.cudagraph_trees", "torch._inductor.compile_fx")  # imported before graphs are prepared
CPU_ENTRIES = 64  # of a cache, by which an operator on maps of many sizes is limited


class Operator:
    """A torch operator "namespace::name" made of a function that mutates none of its arguments."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function, self.has_gradient = name, function, False
        self.kernel = _without_new_entries(function)  # for the dispatcher
        schema = torch.library.infer_schema(function, mutates_args=())
        torch.library.define(name, schema, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.impl(name, "CompositeExplicitAutograd", self.kernel)
        namespace, _, own_name = name.partition("::")
        self.overload = getattr(getattr(torch.ops, namespace), own_name).default
        OPERATORS[self.overload] = self

    def __call__(self, *args: Any) -> Any:
        is_traced = torch.compiler.is_compiling() or is_in_torch_dispatch_mode()
        if is_traced or (self.has_gradient and torch.is_grad_enabled()):
            return self.overload(*args)
        return self.function(*args)  # without the dispatcher, which costs as much as several small operators

    def register_fake(self, function: Callable[..., Any]) -> None:
        """Register the function that returns empty outputs of the right shape, for the compiler."""
        torch.library.register_fake(self.name, function)

    def register_autograd(self, backward: Callable[..., Any], setup_context: Callable[..., None]) -> None:
        """Register the backward pass, which cannot be differentiated again."""
        self.has_gradient = True
        torch.library.register_autograd(self.name, once_differentiable(backward), setup_context=setup_context)


class DeviceCache(Generic[T]):
    """Decorator that keeps the results of a function, which hold tensors, by its hashable arguments.

    A compiled graph calls operators through the dispatcher, perhaps while a CUDA graph is captured or prepared. What is
    made then lies in memory which the graph reuses, so such a call adds nothing to the caches of a GPU once torch has
    loaded what captures graphs. What they hold is never dropped, because a captured graph reads it at its address.
    """

    adds = True  # of this process, in which one thread does all work of torch

    def __init__(self, make: Callable[..., T]) -> None:
        self.make, self.results = make, dict[tuple[Any, ...], T]()

    def __call__(self, device: torch.device, *arguments: Any) -> T:
        key = (device, *arguments)
        if (result := self.results.get(key)) is None:
            result = self.make(*key)
            if device.type == "cpu":
                cpu_keys = [entry for entry in self.results if entry[0].type == "cpu"]
                for entry in cpu_keys[: max(0, len(cpu_keys) + 1 - CPU_ENTRIES)]:
                    del self.results[entry]
            if device.type == "cpu" or DeviceCache.adds:
                self.results[key] = result
        return result


def _without_new_entries(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any) -> Any:
        before, DeviceCache.adds = DeviceCache.adds, DeviceCache.adds and not _may_capture()
        try:
            return function(*args)
        finally:
            DeviceCache.adds = before

    return call


def _may_capture() -> bool:
    """Return whether operators may run as part of a CUDA graph."""
    if any(name in sys.modules for name in GRAPH_MODULES):
        return True
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def is_autocast_enabled(device_type: str) -> bool:
    """Return whether autocast is enabled for a type of device; it never is for "meta", tensors without data."""
    return device_type != "meta" and torch.is_autocast_enabled(device_type)


def operator(name: str) -> Callable[[Callable[..., Any]], Operator]:
    """Decorator that makes a function of tensors an operator in which autocast is off, so that sums stay exact."""

    def register(function: Callable[..., Any]) -> Operator:
        @wraps(function)
        def without_autocast(*args: Any) -> Any:
            device = args[0].device.type
            if not is_autocast_enabled(device):  # entering the context costs as much as several small operators
                return function(*args)
            with torch.autocast(device, enabled=False):
                return function(*args)

        return Operator(name, without_autocast)

    return register
