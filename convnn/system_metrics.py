"""Utilization, memory, power, temperature and clock of a GPU and of the CPUs, sampled by a thread without torch."""

from __future__ import annotations

import os
import threading
from collections import deque
from pathlib import Path
from typing import Any, Self

from convnn import hardware
from convnn.hardware import system_lines

SECONDS = 1.0  # between two samples
MOST_SAMPLES = 10  # that a mean is of: what came before, such as an evaluation, is past
CPU_TIMES = Path("/proc/stat")  # in clock ticks since the start: "cpu3 user nice system idle iowait irq softirq steal"
PROCESS_PAGES = Path("/proc/self/statm")  # size, resident, ...
CPU_CLOCKS = Path("/sys/devices/system/cpu")
SENSORS = Path("/sys/class/hwmon")
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")  # of Intel, of AMD (two drivers), of ARM


class SystemMonitor:
    """Samples the machine once a second while it is entered; `take` returns what was measured.

    Args:
        gpu_uuid: of the device that trains, as torch gives it; None for a device without NVIDIA's library.
    """

    def __init__(self, gpu_uuid: str | None = None) -> None:
        self._gpu_uuid = gpu_uuid
        self._samples: deque[dict[str, float]] = deque(maxlen=MOST_SAMPLES)
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._sample, daemon=True, name="system metrics").start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()  # and is not waited for: a driver may hang

    def take(self) -> dict[str, float]:
        """Return the mean of each metric since the last call, by its name in `metrics.SYSTEM_METRICS`."""
        values: dict[str, list[float]] = {}
        while self._samples:
            for name, value in self._samples.popleft().items():
                values.setdefault(name, []).append(value)
        return {name: round(sum(of_name) / len(of_name), 1) for name, of_name in values.items()}

    def _sample(self) -> None:
        cpu, gpu = CpuReader(), GpuReader(self._gpu_uuid)
        while not self._ended.wait(SECONDS):
            self._samples.append(cpu.read() | gpu.read())


class CpuReader:
    """Reads the metrics of the CPUs that this process may use, and its memory, as far as Linux reports them here."""

    def __init__(self) -> None:
        self._cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._clocks = [CPU_CLOCKS / f"cpu{index}" / "cpufreq" / "scaling_cur_freq" for index in self._cpus]
        self._sensor = _cpu_sensor()
        self._times = self._busy_and_total()

    def read(self) -> dict[str, float]:
        """Return the present values by name; the utilization is that since the last call."""
        values = {}
        before, self._times = self._times, self._busy_and_total()
        busy, total = self._times[0] - before[0], self._times[1] - before[1]
        if total > 0:
            values["cpu_util"] = 100 * min(1.0, max(0.0, busy / total))
        if len(pages := _numbers(PROCESS_PAGES)) > 1:
            values["rss_bytes"] = float(pages[1] * os.sysconf("SC_PAGE_SIZE"))
        if self._sensor is not None and (millidegrees := _numbers(self._sensor)):
            values["cpu_temp"] = millidegrees[0] / 1000
        if kilohertz := [clock[0] for path in self._clocks if (clock := _numbers(path))]:
            values["cpu_clock"] = sum(kilohertz) / len(kilohertz) / 1000
        return values

    def _busy_and_total(self) -> tuple[int, int]:
        """Return the time that the CPUs have computed and all their time, in clock ticks."""
        names = {f"cpu{index}" for index in self._cpus}
        busy = total = 0
        for words in map(str.split, system_lines(CPU_TIMES)):
            if words and words[0] in names and all(map(str.isdecimal, words[1:])):
                times = list(map(int, words[1:9]))  # guests, behind them, are counted as user
                total += sum(times)
                busy += sum(times) - sum(times[3:5])
        return busy, total


class GpuReader:
    """Reads the metrics of an NVIDIA GPU that its driver reports."""

    def __init__(self, uuid: str | None) -> None:
        self._nvml, self._device = (None, None) if uuid is None else hardware.nvml_device(uuid)

    def read(self) -> dict[str, float]:
        """Return the present values by name."""
        nvml: Any = self._nvml
        if self._device is None:
            return {}
        readers = {
            "gpu_util": lambda device: nvml.nvmlDeviceGetUtilizationRates(device).gpu,
            "gpu_bytes": lambda device: nvml.nvmlDeviceGetMemoryInfo(device).used,
            "gpu_power": lambda device: nvml.nvmlDeviceGetPowerUsage(device) / 1000,  # milliwatts
            "gpu_temp": lambda device: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
            "gpu_clock": lambda device: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
        }
        values = {}
        for name, reader in readers.items():
            try:
                values[name] = float(reader(self._device))
            except nvml.NVMLError:  # a part of a card, or an older one, does not report it
                continue
        return values


def _cpu_sensor() -> Path | None:
    """Return the file of the temperature of the CPU, None where there is none."""
    for folder in sorted(SENSORS.glob("hwmon*")):
        if "".join(system_lines(folder / "name")) in CPU_SENSORS:
            return folder / "temp1_input"
    return None


def _numbers(path: Path) -> list[int]:
    """Return the integers at the beginning of a file; none where it cannot be read."""
    words = " ".join(system_lines(path)).split()
    return [int(word) for word in words if word.removeprefix("-").isdecimal()]
