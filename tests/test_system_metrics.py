"""Utilization, memory, power, temperature and clock: what is read of the machine, and what it is called."""

from __future__ import annotations

import sys
import time
from types import ModuleType, SimpleNamespace

import pytest

from convnn import hardware, system_metrics
from convnn.metrics import SYSTEM_METRICS
from convnn.system_metrics import CpuReader, GpuReader, SystemMonitor

UUID = "bbbb3333-4444"


class NVMLError(Exception):
    """The base of the library's errors."""


@pytest.fixture
def nvml(monkeypatch, tmp_path):
    """A stand-in of NVIDIA's library whose second card trains; the power of it is not told."""
    handles = {"GPU-aaaa": 0, f"GPU-{UUID}": 1}

    def by_uuid(uuid):
        if uuid not in handles:
            raise NVMLError
        return handles[uuid]

    def refuse(device):
        raise NVMLError

    module = ModuleType("pynvml")
    vars(module).update(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetUtilizationRates=lambda device: SimpleNamespace(gpu=(5, 97)[device], memory=40),
        nvmlDeviceGetMemoryInfo=lambda device: SimpleNamespace(used=(1 << 30, 12 << 30)[device]),
        nvmlDeviceGetPowerUsage=refuse,
        nvmlDeviceGetTemperature=lambda device, sensor: (30, 61)[device],
        nvmlDeviceGetClockInfo=lambda device, kind: (210, 1710)[device],
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(hardware, "NVIDIA", (tmp_path,))
    hardware.load_nvml.cache_clear()
    yield module
    hardware.load_nvml.cache_clear()


def test_a_card_is_read_by_its_uuid_without_what_it_does_not_tell(nvml):
    assert GpuReader(UUID).read() == {"gpu_util": 97, "gpu_bytes": 12 << 30, "gpu_temp": 61, "gpu_clock": 1710}
    assert GpuReader("unknown").read() == {}
    assert GpuReader(None).read() == {}


def test_the_library_has_what_is_used_of_it():
    pynvml = pytest.importorskip("pynvml")
    names = ("HandleByUUID", "UtilizationRates", "MemoryInfo", "PowerUsage", "Temperature", "ClockInfo")
    assert all(hasattr(pynvml, f"nvmlDeviceGet{name}") for name in names)
    assert isinstance(pynvml.NVML_TEMPERATURE_GPU, int)
    assert isinstance(pynvml.NVML_CLOCK_SM, int)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """The files of a machine with three CPUs, of which the process may use the last two."""
    files = {
        "stat": "cpu 9 9 9 9\ncpu0 500 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\ncpu2 0 0 0 0 0 0 0 0\nintr 1 2\n",
        "statm": "900 100 5 0 0 0 0\n",
        "hwmon/hwmon0/name": "nvme\n",
        "hwmon/hwmon0/temp1_input": "20000\n",
        "hwmon/hwmon1/name": "k10temp\n",
        "hwmon/hwmon1/temp1_input": "55500\n",
        "cpu/cpu1/cpufreq/scaling_cur_freq": "3000000\n",
        "cpu/cpu2/cpufreq/scaling_cur_freq": "2000000\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(system_metrics, "CPU_TIMES", tmp_path / "stat")
    monkeypatch.setattr(system_metrics, "PROCESS_PAGES", tmp_path / "statm")
    monkeypatch.setattr(system_metrics, "SENSORS", tmp_path / "hwmon")
    monkeypatch.setattr(system_metrics, "CPU_CLOCKS", tmp_path / "cpu")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {1, 2}, raising=False)
    monkeypatch.setattr("os.sysconf", lambda name: 4096)
    return tmp_path


def test_the_cpus_are_those_that_the_process_may_use(machine):
    reader = CpuReader()
    (machine / "stat").write_text("cpu0 900 0 0 0 0 0 0 0\ncpu1 30 10 10 40 10 0 0 0 7 7\ncpu2 25 0 0 70 5 0 0 0 0 0\n")
    assert reader.read() == {"cpu_util": 37.5, "rss_bytes": 409600, "cpu_temp": 55.5, "cpu_clock": 2500}
    assert "cpu_util" not in reader.read()  # no time has passed


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"cpu1\n", b"cpu1 x -\ncpu2"], ids=repr)
def test_a_file_that_is_empty_missing_or_unknown_is_no_error(machine, content):
    reader = CpuReader()
    for name in ("stat", "statm", "hwmon/hwmon1/temp1_input"):
        (machine / name).write_bytes(content)
    (machine / "cpu/cpu1/cpufreq/scaling_cur_freq").unlink()
    assert reader.read().keys() <= {"cpu_clock", "cpu_util"}


def test_a_monitor_returns_means_and_what_it_returned_once_is_past(nvml, machine, monkeypatch):
    monkeypatch.setattr(system_metrics, "SECONDS", 0.01)
    with SystemMonitor(UUID) as monitor:
        deadline = time.monotonic() + 10
        while "gpu_temp" not in (values := monitor.take()) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert values["gpu_temp"] == 61
    assert values.keys() <= SYSTEM_METRICS.keys()
    assert SystemMonitor().take() == {}
