"""What this machine knows about the cost of a configuration: the free memory, and the time of an epoch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from convnn.config.schema import RunConfig
from convnn.runs.summary import Summary
from tui.screens.setup.epoch_time import EpochTime, from_past_runs, from_timed_steps


class CostWatch:
    """The free memory and the epoch times; its coroutines measure them off the event loop and keep the results."""

    def __init__(self, free_memory: Callable[[str], tuple[str, int | None]]) -> None:
        self.device: str | None = None  # the name of the device, once it is known
        self.free_bytes: int | None = None
        self.is_timing = False
        self._free_memory = free_memory
        self._epoch_times: dict[RunConfig, EpochTime | None] = {}

    def epoch_time(self, config: RunConfig) -> EpochTime | None:
        """The time of an epoch, as far as it is known."""
        return self._epoch_times.get(config)

    async def read_memory(self, device: str) -> None:
        """Read the free memory of a device."""
        self.device, self.free_bytes = await asyncio.to_thread(self._free_memory, device)

    async def search_past_runs(self, config: RunConfig, runs: Sequence[Summary]) -> None:
        """Look for the time of an epoch in past runs, once for each configuration."""
        if config not in self._epoch_times:
            self._epoch_times[config] = await asyncio.to_thread(from_past_runs, config, runs)

    async def time_steps(self, config: RunConfig) -> None:
        """Time a few real steps. Raises UserError or OSError if that is not possible."""
        self.is_timing = True
        try:
            self._epoch_times[config] = await from_timed_steps(config)
        finally:
            self.is_timing = False
