"""Devices and their free memory without torch: a device's index is the one that torch counts by."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from convnn import hardware

UUIDS = ("GPU-aaaa1111", "GPU-aaaa2222", "GPU-bbbb3333")
FREE = (1 << 30, 2 << 30, 3 << 30)  # bytes, by NVML's index


class NVMLError(Exception):
    """The base of the library's errors."""


@pytest.fixture
def nvml(monkeypatch, tmp_path):
    """A stand-in of NVIDIA's library for a machine with three GPUs."""

    def by_index(index):
        if not 0 <= index < len(UUIDS):
            raise NVMLError
        return index

    module = ModuleType("pynvml")
    vars(module).update(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: len(UUIDS),
        nvmlDeviceGetHandleByIndex=by_index,
        nvmlDeviceGetUUID=lambda device: UUIDS[device],
        nvmlDeviceGetMemoryInfo=lambda device: SimpleNamespace(free=FREE[device]),
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(hardware, "NVIDIA", (tmp_path,))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    hardware.load_nvml.cache_clear()
    yield module
    hardware.load_nvml.cache_clear()


@pytest.mark.parametrize(
    ("visible", "free"),
    [
        (None, {0: FREE[0], 1: FREE[1], 2: FREE[2], 3: None}),
        ("2,0", {0: FREE[2], 1: FREE[0], 2: None}),
        ("GPU-bbbb3333,1", {0: FREE[2], 1: FREE[1]}),
        ("GPU-bb", {0: FREE[2]}),  # an abbreviation
        ("GPU-aaaa", {0: None}),  # of two devices
        ("1,-1,0", {0: FREE[1], 1: None}),  # CUDA ignores what follows an invalid entry
        ("", {0: None}),
        ("7", {0: None}),
    ],
)
def test_a_device_is_counted_as_torch_counts_it(nvml, monkeypatch, visible, free):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert {index: hardware.free_memory(f"cuda:{index}")[1] for index in free} == free


def test_auto_is_cuda_unless_no_device_is_visible(nvml, monkeypatch):
    assert hardware.free_memory("auto") == ("cuda:0", FREE[0])
    assert hardware.missing("cuda") is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(hardware, "ROCM", hardware.NVIDIA[0] / "none")
    monkeypatch.setattr(sys, "platform", "linux")
    assert hardware.free_memory("auto")[0] == "cpu"
    assert hardware.missing("cuda").key == "runtime.device"


def test_a_device_file_is_enough_where_the_driver_lists_no_cards(monkeypatch, tmp_path):
    """In sandboxes and on boards there is /dev/nvidiactl or /dev/nvidia0, but no directory of the driver."""
    paths = [tmp_path / path.relative_to("/") for path in hardware.NVIDIA]
    monkeypatch.setattr(hardware, "NVIDIA", paths)
    monkeypatch.setattr(hardware, "ROCM", tmp_path / "none")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not hardware.has_cuda()
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        assert hardware.has_cuda(), path
        path.unlink()


def test_a_driver_that_does_not_answer_is_no_error(nvml):
    def fail():
        raise NVMLError

    nvml.nvmlDeviceGetCount = fail
    assert hardware.visible_gpus() == []
    hardware.load_nvml.cache_clear()
    nvml.nvmlInit = fail
    assert hardware.free_memory("cuda") == ("cuda:0", None)


def test_without_the_library_nothing_is_known_of_a_card(nvml, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it raises
    assert hardware.free_memory("cuda:1") == ("cuda:1", None)
    assert hardware.visible_gpus() == []


def test_without_a_driver_the_library_is_not_imported(monkeypatch, tmp_path):
    imported = []
    monkeypatch.setattr(hardware, "NVIDIA", (tmp_path / "none",))
    monkeypatch.setattr(hardware, "import_module", imported.append)
    hardware.load_nvml.cache_clear()
    assert hardware.free_memory("cuda:1") == ("cuda:1", None)
    assert imported == []
    hardware.load_nvml.cache_clear()


def test_the_library_has_what_is_used_of_it():
    pynvml = pytest.importorskip("pynvml")
    names = ("Init", "DeviceGetCount", "DeviceGetHandleByIndex", "DeviceGetHandleByUUID", "DeviceGetUUID")
    assert all(hasattr(pynvml, f"nvml{name}") for name in (*names, "DeviceGetMemoryInfo"))
    assert issubclass(pynvml.NVMLError, Exception)


GROUPS = {  # the lines of /proc/self/cgroup, and the files of the groups
    "version 2": (
        "0::/jobs/one",
        {
            "jobs/memory.max": "900",
            "jobs/memory.current": "400",
            "jobs/memory.stat": "inactive_file 100",
            "jobs/one/memory.max": "max",
            "jobs/one/memory.current": "50",
        },
    ),
    "version 1": (
        "4:cpu:/other\n5:memory:/jobs/one",
        {
            "memory/jobs/one/memory.limit_in_bytes": "900",
            "memory/jobs/one/memory.usage_in_bytes": "400",
            "memory/jobs/one/memory.stat": "total_inactive_file 100",
            "memory/memory.limit_in_bytes": str(2**63 - 4096),
            "memory/memory.usage_in_bytes": "5000",
        },
    ),
    "version 1, in a container": (
        "5:memory:/docker/4711",
        {"memory/memory.limit_in_bytes": "900", "memory/memory.usage_in_bytes": "300"},
    ),
    "version 2, above the root of a container": (
        "0::/../../jobs",
        {"memory.max": "900", "memory.current": "300"},
    ),
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_limit_of_the_group_or_of_one_above_it_holds(monkeypatch, tmp_path, name):
    """The file cache counts as free: the kernel drops it for a process that needs memory."""
    entries, files = GROUPS[name]
    for path, text in {"cgroup": entries, **files}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text + "\n")
    monkeypatch.setattr(hardware, "CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(hardware, "PROCESS_GROUPS", tmp_path / "cgroup")
    assert hardware.free_memory("cpu") == ("cpu", 600)
    assert hardware.host_memory() == 900


def test_without_a_limit_the_memory_is_that_of_the_machine(monkeypatch, tmp_path):
    for groups in ("", "garbage\n", "0::/\n"):
        (tmp_path / "cgroup").write_text(groups)
        monkeypatch.setattr(hardware, "CONTROL_GROUP", tmp_path)
        monkeypatch.setattr(hardware, "PROCESS_GROUPS", tmp_path / "cgroup")
        assert hardware.host_memory() > 2**28


@pytest.mark.parametrize(("share", "cpus"), [(None, 4), ("2", 2), ("64", 4), ("", 4), ("0", 4), ("2 ", 4), ("²", 4)])
def test_a_slurm_task_has_its_cpus_and_no_more_than_the_affinity_mask(monkeypatch, share, cpus):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5, 7}, raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    if share is not None:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", share)
    assert hardware.available_cpus() == cpus


def test_a_process_can_stand_for_one_of_another_node(monkeypatch):
    node, boot = hardware.host_name(), hardware.boot_id()
    monkeypatch.setenv(hardware.NODE, "node7")
    assert hardware.host_name() == "node7" != node and hardware.boot_id() != boot
