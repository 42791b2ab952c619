"""When the kernels are used: on what devices, and after which comparison with plain torch."""

import os
import sys
import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import cache, wraps
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

CHECKED_IMAGES = 2  # at most, with which a kernel is compared with plain torch
MIN_CAPABILITY = (8, 0)  # of a card: the first with TF32 products
MAX_ROWS = 1 << 30  # of a batch: kernels count them, and those of blocks beyond the last, in int32

_disabled = set[tuple[str, torch.device]]()
_agreeing = set[tuple[str, torch.device, Hashable]]()


class Launch:
    """A function that launches one kernel, as a torch operator: on tensors without data it only makes its outputs.

    It is called without the dispatcher where nothing watches, and never traced: the operators of the layers, which are
    opaque to the compiler, call it.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], fake: Callable[..., Any], mutates: tuple[str, ...] = ()
    ) -> None:
        self.function = _on_device(function)
        operator_name = f"convnn_triton::{name}"
        schema = torch.library.infer_schema(function, mutates_args=mutates)
        torch.library.define(operator_name, schema, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.impl(operator_name, "CompositeExplicitAutograd", self.function)
        torch.library.register_fake(operator_name, fake)
        self.overload = getattr(torch.ops.convnn_triton, name).default

    def __call__(self, *args: Any) -> Any:
        is_watched = args[0].device.type == "meta" or is_in_torch_dispatch_mode()
        return self.overload(*args) if is_watched else self.function(*args)


def _on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Triton launches on the current device, which need not be that of the tensors."""

    @wraps(function)
    def launch(*args: Any) -> Any:
        device = args[0].device
        if device.type != "cuda" or device.index == torch.cuda.current_device():
            return function(*args)
        with torch.cuda.device(device):
            return function(*args)

    return launch


def dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    """Return the types that the kernels of sums compute on a device."""
    return (torch.float32,) if device.type == "cpu" else (torch.float32, torch.bfloat16, torch.float16)


@cache
def has_triton(device: torch.device) -> bool:
    """Return whether kernels can run on a device; tensors without data ("meta") take the path of a card."""
    if device == torch.device("meta"):  # without an index: a device that has one stands for plain torch on a card
        return True
    if sys.platform != "linux" or find_spec("triton") is None:
        return False
    if device.type == "cuda":
        return torch.version.hip is None and torch.cuda.get_device_capability(device) >= MIN_CAPABILITY
    return device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"


def is_usable(kernel: str, x: Tensor) -> bool:
    """Return whether a kernel may be tried on x, (B, N, C); it has not disagreed with plain torch on its device."""
    has_kernel = has_triton(x.device) and (kernel, x.device) not in _disabled
    return has_kernel and x.shape[:-1].numel() <= MAX_ROWS


def adds_in_order() -> bool:
    """Return whether kernels add in one order, as atomic additions do not."""
    return torch.are_deterministic_algorithms_enabled()


def is_correct(kernel: str, x: Tensor, specialization: Hashable, agrees: Callable[[], bool]) -> bool:
    """Return whether a kernel agrees with plain torch; it is compared once for each device and specialization.

    `agrees` computes both for the first `CHECKED_IMAGES` of the batch and waits for the result, which a captured CUDA
    graph cannot do; what has not been compared before the capture is computed by plain torch. A kernel that disagrees,
    or cannot be compiled, is not used again on the device. A lack of memory is no fault of the kernel, and is raised.
    """
    key = (kernel, x.device, specialization)
    if x.device.type == "meta" or key in _agreeing:
        return True
    if x.device.type == "cuda":
        with torch.cuda.device(x.device):
            if torch.cuda.is_current_stream_capturing():
                return False
    try:
        problem = "" if agrees() else "its results differ from those of plain torch"
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    if not problem:
        _agreeing.add(key)
        return True
    disable(kernel, x.device)
    message = f"the Triton kernel {kernel!r} is not used on {x.device}: {problem} ({specialization})"
    warnings.warn(message, RuntimeWarning, stacklevel=2)
    return False


def agree(actual: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> bool:
    """Return whether results differ by at most this share of the largest value, wherever the expected ones are finite.

    One that is not finite where it should be differs. Nothing is compared where a half type has overflowed.
    """
    for result, reference in zip(actual, expected, strict=True):
        is_finite = reference.isfinite()
        difference = torch.where(is_finite, result.float() - reference.float(), 0).abs().amax()
        largest = torch.where(is_finite, reference.float(), 0).abs().amax().clamp_min(1e-30)
        if not bool(difference <= tolerance * largest):  # false for NaN
            return False
    return True


def disable(kernel: str, device: torch.device) -> None:
    """Compute with plain torch what a kernel would compute on a device."""
    _disabled.add((kernel, device))


def enable(kernel: str, device: torch.device) -> None:
    """Undo `disable`."""
    _disabled.discard((kernel, device))
