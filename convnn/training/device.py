"""The device a run trains on: which there are, what they can do, and their memory."""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from convnn import hardware, slurm_job
from convnn.config.schema import RunConfig
from convnn.costs.memory_fit import is_out_of_memory
from convnn.errors import Exit, UserError
from convnn.hardware import fp16_on_cpu, too_many_processes
from convnn.training import allocator

# what cuBLAS needs to be deterministic; it is read once a process, which may train other runs before such a one
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def select_device(config: RunConfig) -> torch.device:
    """Return the configured device; `auto` takes cuda, then mps, then cpu. Raises UserError when it is missing."""
    name = config.runtime.device
    present = available_devices()
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if kind in present)
    if name not in present:
        key, message = "runtime.device", f"runtime.device is {name!r}: this machine has {', '.join(present)}"
        fix = "use --device auto, or one of these"
        raise UserError(message, Exit.DATA, key=key, value=name, fix=fix, change={key: "auto"})
    if config.runtime.amp and config.runtime.amp_dtype == "fp16" and name == "cpu":
        raise UserError(fp16_on_cpu())
    gpus = torch.cuda.device_count() if slurm_job.current_step() is None else None  # of one of several nodes
    if problem := too_many_processes(config.runtime.processes, name, gpus):
        raise UserError(problem, Exit.DATA)
    return torch.device(name)


def available_devices() -> list[str]:
    """Return the devices of this machine by name, as `runtime.device` takes them."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def amp_dtype(config: RunConfig, device: torch.device) -> torch.dtype | None:
    """Return the number format of autocast, None without AMP; `auto` is bf16 unless the device only emulates it."""
    if not config.runtime.amp:
        return None
    if config.runtime.amp_dtype != "auto":
        return torch.bfloat16 if config.runtime.amp_dtype == "bf16" else torch.float16
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):  # emulated before Ampere
        return torch.float16
    return torch.bfloat16


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Return a context of mixed precision in this number format; None computes in the format of the weights."""
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


def float32_products(config: RunConfig, device: torch.device) -> Literal["tf32", "fp32"]:
    """Return how products of float32 are computed: in TF32 where it is not declined and the card has it."""
    has_tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere and later
    return "tf32" if has_tf32 and config.runtime.matmul != "fp32" else "fp32"


def lay_out(model: nn.Module, config: RunConfig, device: torch.device) -> None:
    """Lay out the weights of a model, which is on its device, as they are trained and evaluated."""
    if prefers_channels_last(config, device):
        model.to(memory_format=torch.channels_last)


def prefers_channels_last(config: RunConfig, device: torch.device) -> bool:
    """Return whether weights of convolutions lie channels last, so that their outputs do: as those of our layers.

    Tensor cores compute in that layout; the convolutions of cuDNN in full float32 are faster in the other one.
    """
    uses_tensor_cores = config.runtime.amp or float32_products(config, device) == "tf32"
    return device.type == "cuda" and uses_tensor_cores


def set_float32_products(kind: Literal["tf32", "fp32"]) -> None:
    """Compute products of matrices (cuBLAS) and convolutions (cuDNN) alike: torch's own defaults differ."""
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    cudnn: Any = torch.backends.cudnn  # whose parts have no types
    cudnn.allow_tf32 = kind == "tf32"
    for operator in (cudnn.conv, cudnn.rnn):  # which may follow a setting for all
        operator.fp32_precision = "tf32" if kind == "tf32" else "ieee"


@cache
def _torch_threads() -> int:
    return torch.get_num_threads()


def default_threads() -> int:
    """Return the number of threads that torch takes, or of CPUs that this process may use where those are fewer."""
    return min(_torch_threads(), hardware.available_cpus())


def configure_torch(config: RunConfig, device: torch.device) -> None:
    """Set threads, allocator, device, determinism and products for the process, before anything of a run is built."""
    allocator.keep_memory()
    if device.type == "cuda" and config.runtime.processes == 1:  # of several processes each chooses when it joins
        torch.cuda.set_device(device.index or 0)  # else some calls would take memory of the first card as well
    threads = config.runtime.threads or default_threads()
    torch.set_num_threads(max(1, threads // config.runtime.processes))
    deterministic = config.runtime.deterministic
    if deterministic != torch.are_deterministic_algorithms_enabled():  # setting it imports the compiler
        torch.use_deterministic_algorithms(deterministic)
    settings: Any = torch.utils.deterministic  # whose attributes have no types
    settings.fill_uninitialized_memory = False  # each buffer of scores would be filled before it is written
    torch.backends.cudnn.deterministic = deterministic
    set_float32_products(float32_products(config, device))


def clones(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the same device or, where it has no room for them, in the memory of the host."""
    try:
        return {name: value.detach().clone() for name, value in tensors.items()}
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}


def host_copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous copies in the memory of the host, complete when this returns.

    From a CUDA device they are queued together, into pinned memory. Raises RuntimeError where that cannot be had.
    """
    copies, devices = {}, set()
    for name, value in tensors.items():
        is_cuda = value.device.type == "cuda"
        copies[name] = torch.empty(value.shape, dtype=value.dtype, pin_memory=is_cuda)
        copies[name].copy_(value.detach(), non_blocking=is_cuda)
        if is_cuda:
            devices.add(value.device)
    for device in devices:
        torch.cuda.synchronize(device)
    return copies


class PeakMemory:
    """The peak memory of a run: what a device or, on cpu, this process takes beyond what it has when this is made.

    That is made when the data is open and the model is not yet built, so that the peak is what `costs` estimates.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        gc.collect()  # what is left of an earlier run in this process
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu":
            allocator.release_memory()
            _reset_peak()
        self._before = self._highest = self._allocated()

    def exclude(self, size: int) -> None:
        """Count anew, without so many bytes that this process had when this was made and has freed since."""
        if self.device.type == "cpu":
            _reset_peak()
            self._before -= size

    def update(self) -> None:
        """Note what is allocated now on a device that keeps no peak of its own; called with each recorded step."""
        if self.device.type == "mps":
            self._highest = max(self._highest, self._allocated())

    def bytes(self) -> int:
        """Return the peak so far; on mps, the highest at a recorded step."""
        self.update()
        peak = self._highest
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
        elif self.device.type == "cpu":
            peak = _process_status("VmHWM") or _highest_resident()
        return max(0, peak - self._before)

    def _allocated(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        if self.device.type == "mps":
            return torch.mps.driver_allocated_memory()
        return _process_status("VmRSS") or _highest_resident()


def _reset_peak() -> None:
    """Let the peak of this process begin anew; where the system cannot, an earlier peak may hide a lower one."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # see proc(5)


def _process_status(name: str) -> int | None:
    """Return a size from /proc/self/status in bytes; None where there is no such file."""
    lines = hardware.system_lines(Path("/proc/self/status"))
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


def _highest_resident() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux


def total_memory(device: torch.device) -> int:
    """Return the bytes of memory that the device has or, on cpu and mps, the machine or this job."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    host = hardware.host_memory()
    return host if limit == resource.RLIM_INFINITY else min(host, limit)


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that this process may still take of the device's memory, None where that is unknown."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    return hardware.free_memory(device.type)[1]


def gpu_uuid(device: torch.device) -> str | None:
    """Return the UUID of an NVIDIA GPU, None for another device."""
    if device.type != "cuda" or torch.version.cuda is None:
        return None
    return str(torch.cuda.get_device_properties(device).uuid)


def describe(device: torch.device) -> str:
    """Return the device with its model: "cpu (model name)", "cuda:0 (NVIDIA A100)"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({_processor()})" if device.type == "cpu" else str(device)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"
