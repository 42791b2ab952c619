"""What is known of this machine without torch: its name, its devices, its CPUs, and how much memory is free."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from convnn.errors import Exit, Problem, UserError

MEMORY_INFO = Path("/proc/meminfo")
CONTROL_GROUP = Path("/sys/fs/cgroup")
PROCESS_GROUPS = Path("/proc/self/cgroup")  # of this process, a line a hierarchy: "ID:CONTROLLERS:PATH"
V1_FILES = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"  # the last one in memory.stat
V2_FILES = "memory.max", "memory.current", "inactive_file"
NVIDIA = (  # of the driver, of a container or a board that shows a device only, and of Windows' subsystem
    Path("/proc/driver/nvidia/gpus"),
    Path("/dev/nvidiactl"),
    Path("/dev/nvidia0"),
    Path("/dev/nvhost-gpu"),
    Path("/dev/dxg"),
    Path("/usr/lib/wsl/lib/libcuda.so.1"),
)
ROCM = Path("/dev/kfd")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NODE = "CONVNN_NODE"  # variable that makes a process one of another node, in place of the name of the host
MAX_NODE = 255  # characters of it


def host_name() -> str:
    """Return the name of this node, as runs and locks record it."""
    return os.environ.get(NODE, "")[:MAX_NODE] or os.uname().nodename


def boot_id() -> str:
    """Return an identifier of this node since its latest start; "" where the system has none."""
    return os.environ.get(NODE, "")[:MAX_NODE] or _kernel_boot_id()


def available_cpus() -> int:
    """Return how many CPUs this process may use: those of its affinity mask, or of its Slurm task where fewer."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get("SLURM_CPUS_PER_TASK", "")
    is_number = share.isascii() and share.isdecimal() and int(share[:9]) > 0
    return min(cpus, int(share[:9])) if is_number else cpus


@cache
def _kernel_boot_id() -> str:
    return "".join(system_lines(BOOT_ID)).strip()


def system_lines(path: Path) -> list[str]:
    """Return the lines of a file by which the system describes itself; none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []


def has_cuda() -> bool:
    """Return whether there is a device that torch would call cuda."""
    has_nvidia = any(path.exists() for path in NVIDIA) and _visible_devices() != []
    return has_nvidia or ROCM.exists()


def missing(device: str) -> Problem | None:
    """Return the problem that a device named in the configuration is not there, where that can be known."""
    no_cuda = device.startswith("cuda") and sys.platform == "linux" and not has_cuda()
    no_mps = device == "mps" and sys.platform != "darwin"
    if not (no_cuda or no_mps):
        return None
    key, message = "runtime.device", f"runtime.device is {device!r}: this machine has none"
    return Problem(message, key=key, value=device, fix="use --device auto, or cpu", change={key: "auto"})


def check_device(name: str) -> None:
    """Raise UserError where a device named in the configuration is not there, as far as that is known without torch."""
    if (problem := missing(name)) is not None:
        raise UserError(problem, Exit.DATA)


def free_memory(device: str) -> tuple[str, int | None]:
    """Return the device by name and the bytes that are free on it now, None where only torch could tell."""
    if device.startswith("cuda") or (device == "auto" and has_cuda()):
        index = int(device.partition(":")[2] or 0)
        return f"cuda:{index}", _free_cuda_memory(index)
    if device == "mps" or (device == "auto" and sys.platform == "darwin"):
        return "mps", None
    return "cpu", _free_host_memory()


def _free_host_memory() -> int | None:
    """Return the bytes that the host can spare; in a container or a job, no more than its group may still take."""
    lines = system_lines(MEMORY_INFO)
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
    if free is None:
        return None
    return min([free, *(max(0, group.limit - group.used) for group in _memory_groups())])


def host_memory() -> int:
    """Return the bytes of memory that the host has; in a container or a job, no more than its group may take."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([installed, *(group.limit for group in _memory_groups())])


# -- control groups: the share of a container, of a Slurm job, of a systemd service -----------------------------------


class MemoryGroup(NamedTuple):
    """Bytes that a control group may take and has taken, without the file cache that the kernel drops for more."""

    limit: int
    used: int


def _memory_groups() -> Iterator[MemoryGroup]:
    """Yield the limited groups among that of this process and those above it, of either version of control groups."""
    entries = [line.split(":", 2) for line in system_lines(PROCESS_GROUPS)]
    for _, controllers, path in (entry for entry in entries if len(entry) == 3):
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (CONTROL_GROUP / "memory", V1_FILES) if controllers else (CONTROL_GROUP, V2_FILES)
        folder = Path(os.path.normpath("/" + path.lstrip("/")))
        for group in (folder, *folder.parents):
            if (values := _read_group(root / group.relative_to("/"), *names)) is not None:
                yield values


def _read_group(folder: Path, limit_file: str, used_file: str, cache_field: str) -> MemoryGroup | None:
    limit, used = _read_number(folder / limit_file), _read_number(folder / used_file)
    if limit is None or used is None:
        return None
    fields = [line.split() for line in system_lines(folder / "memory.stat")]
    cache = next((int(words[1]) for words in fields if words[:1] == [cache_field]), 0)
    return MemoryGroup(limit, max(0, used - cache))


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is no group, or "max": no limit
        return None


def fp16_on_cpu() -> Problem:
    """Return the problem of fp16 on the cpu, which the rules find and, where `auto` turns out to be the cpu, a run."""
    key, message = "runtime.amp_dtype", "runtime.amp_dtype is 'fp16': cpu supports bf16 only"
    return Problem(message, key=key, value="fp16", fix="use --amp_dtype bf16", change={key: "bf16"})


def too_many_processes(processes: int, device: str, gpus: int | None) -> Problem | None:
    """Return the problem that a run has no device for each of its processes; `gpus` is None where it is not known."""
    if processes == 1 or device == "cpu":
        return None
    if device == "mps":
        message = f"runtime.processes is {processes}: mps is one device for one process"
    elif device.startswith("cuda:"):
        message = f"runtime.processes is {processes}, but runtime.device names one GPU: {device!r}"
        key, fix = "runtime.device", "use --device cuda: each process takes a GPU"
        return Problem(message, key=key, value=device, fix=fix, change={key: "cuda"})
    elif gpus is not None and processes > gpus:
        message = f"runtime.processes is {processes}: each takes a GPU; the number of GPUs here is {gpus}"
    else:
        return None
    count = max(1, gpus or 1) if device == "cuda" else 1
    fix = f"use --processes {count}, or --device cpu"
    return Problem(message, key="runtime.processes", value=processes, fix=fix, change={"runtime.processes": count})


# -- NVIDIA's management library --------------------------------------------------------------------------------------


def _free_cuda_memory(index: int) -> int | None:
    """Return the free bytes of what torch calls cuda:INDEX; None without such a device or its driver."""
    nvml = load_nvml()
    if nvml is None:
        return None
    try:
        device = _nvml_device(nvml, index)
        return None if device is None else int(nvml.nvmlDeviceGetMemoryInfo(device).free)
    except nvml.NVMLError:
        return None


def visible_gpus() -> list[str]:
    """Return the GPUs that a process started here may use, each as CUDA_VISIBLE_DEVICES takes it."""
    visible = _visible_devices()
    if visible is not None:
        return visible if has_cuda() else []
    nvml = load_nvml()
    if nvml is None:
        return []
    try:
        return [str(index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return []


def gpu_in_use(name: str) -> bool:
    """Return whether a process computes on a GPU that is called by index or UUID; False where that is unknown."""
    nvml = load_nvml()
    if nvml is None:
        return False
    try:
        device = _nvml_device_called(nvml, name)
        return device is not None and bool(nvml.nvmlDeviceGetComputeRunningProcesses(device))
    except nvml.NVMLError:
        return False


@cache
def load_nvml() -> Any | None:
    """Return the initialized module `pynvml`, None without it or NVIDIA's driver."""
    if not any(path.exists() for path in NVIDIA):
        return None  # importing it takes a tenth of a second
    try:
        nvml = import_module("pynvml")
    except ImportError:  # in a checkout that is not installed
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def _nvml_device(nvml: Any, index: int) -> Any | None:
    """Return NVML's handle of cuda:INDEX; it counts as CUDA does with CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    visible = _visible_devices()
    if visible is None:
        return nvml.nvmlDeviceGetHandleByIndex(index)
    return _nvml_device_called(nvml, visible[index]) if index < len(visible) else None


def _nvml_device_called(nvml: Any, name: str) -> Any | None:
    """Return NVML's handle of a device by its index, its UUID or the beginning of that."""
    if name.isdecimal():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    if name.startswith("MIG-"):
        return nvml.nvmlDeviceGetHandleByUUID(name)
    devices = [nvml.nvmlDeviceGetHandleByIndex(row) for row in range(nvml.nvmlDeviceGetCount())]
    matches = [device for device in devices if nvml.nvmlDeviceGetUUID(device).startswith(name)]  # as CUDA does
    return matches[0] if len(matches) == 1 else None


def nvml_device(uuid: str) -> tuple[Any | None, Any | None]:
    """Return the module `pynvml` and its handle of the GPU, or part of a GPU, that torch calls by this UUID."""
    nvml = load_nvml()
    for prefix in ("GPU-", "MIG-"):
        if nvml is not None:
            try:
                return nvml, nvml.nvmlDeviceGetHandleByUUID(prefix + uuid)
            except nvml.NVMLError:
                continue
    return None, None


def _visible_devices() -> list[str] | None:
    """Return the entries of CUDA_VISIBLE_DEVICES up to the first negative one, as CUDA does; None if it is unset."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    names = []
    for name in (part.strip() for part in value.split(",")):
        if not name or name.startswith("-"):
            break
        names.append(name)
    return names
