"""The machine a run trains on: its settings, and what there is to say of it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

from convnn import allocator, hardware
from convnn.config import RunConfig


@cache
def _default_threads() -> int:
    return torch.get_num_threads()


def settle(config: RunConfig, device: torch.device) -> None:
    """Threads, determinism and allocator, before anything of the run is built; each is set anew for every run."""
    allocator.keep_memory()
    torch.set_num_threads(config.runtime.threads or _default_threads())
    deterministic = config.runtime.deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses to be deterministic
    if deterministic != torch.are_deterministic_algorithms_enabled():  # even to say no again imports the compiler
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """The most memory held so far: of the device, or on cpu of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux


def memory(device: torch.device) -> int:
    """Bytes of memory that the device has or, on cpu and mps, the machine."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return have if limit == resource.RLIM_INFINITY else min(have, limit)


def free(device: torch.device) -> int | None:
    """Bytes that this process may still take of the device's memory; None where nobody tells."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return hardware.free_memory(device.type)[1]


def describe(device: torch.device) -> str:
    """The device in words: "cpu (model name)", "cuda:0 (NVIDIA A100)"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({_processor()})" if device.type == "cpu" else str(device)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def versions() -> dict[str, str]:
    """The versions that numbers may depend on."""
    return {"convnn": metadata.version("convnn"), "torch": torch.__version__}


@cache
def git_commit() -> str | None:
    """The commit of the current directory, with "+" when it has changes; None outside a repository."""
    try:
        found = subprocess.run(
            ["git", "-c", "core.fsmonitor=", "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
