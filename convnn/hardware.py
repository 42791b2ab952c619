"""What is known of this machine without torch: which devices it has, and how much memory is free on them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from convnn.errors import Problem

MEMORY_INFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")  # a container's share of the machine
NVIDIA = Path("/proc/driver/nvidia/gpus")
ROCM = Path("/dev/kfd")


def has_cuda() -> bool:
    """Whether there is a device that torch would call cuda."""
    return NVIDIA.is_dir() or ROCM.exists() or shutil.which("nvidia-smi") is not None


def missing(device: str) -> Problem | None:
    """The problem that a device asked for by name is not there, where that can be known."""
    absent = (device.startswith("cuda") and sys.platform == "linux" and not has_cuda()) or (
        device == "mps" and sys.platform != "darwin"
    )
    if not absent:
        return None
    return Problem(
        f"runtime.device is {device!r}: this machine has none",
        key="runtime.device",
        value=device,
        fix="use --device auto, or cpu",
        change={"runtime.device": "auto"},
    )


def free_memory(device: str) -> tuple[str, int | None]:
    """The device in words, and the bytes that are free on it now; None where that cannot be known without torch."""
    if device.startswith("cuda") or (device == "auto" and has_cuda()):
        index = int(device.partition(":")[2] or 0)
        return f"cuda:{index}", _cuda(index)
    if device == "mps" or (device == "auto" and sys.platform == "darwin"):
        return "mps", None
    return "cpu", _host()


def _host() -> int | None:
    """What the host has to spare; in a container, no more than its group may still take."""
    try:
        lines = MEMORY_INFO.read_text().splitlines()
    except OSError:
        return None
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
    limit, used = _number(GROUP / "memory.max"), _number(GROUP / "memory.current")
    if limit is not None and used is not None and free is not None:
        return min(free, max(0, limit - used))
    return free


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # there is no group, or "max": no limit
        return None


def _cuda(index: int) -> int | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    asked = [program, f"--id={index}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=True).stdout
        return int(told.split()[0]) << 20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def fp16_on_cpu() -> Problem:
    """Also raised when `auto` turns out to be the cpu."""
    return Problem(
        "runtime.amp_dtype is 'fp16': cpu takes bf16 only",
        key="runtime.amp_dtype",
        value="fp16",
        fix="use --amp_dtype bf16",
        change={"runtime.amp_dtype": "bf16"},
    )
