"""The part of the form that knows what a configuration costs on this machine, and whether its preset changed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from textual.screen import Screen

from convnn.config.schema import RunConfig
from convnn.errors import UserError
from tui.screens.setup import epoch_time
from tui.screens.setup.cost_panel import Cost
from tui.screens.setup.draft import Checked, Draft

if TYPE_CHECKING:
    from tui.services import ServicesApp


class Priced(Screen[None]):
    """A screen with a draft and a `Cost`: free memory, past runs and timed steps are looked for beside the keys."""

    app: ServicesApp
    draft: Draft

    def __init__(self) -> None:
        super().__init__()
        self.checked: Checked | None = None
        self.seen: bytes | None = None  # the preset's file as it was loaded
        self.edited = False  # elsewhere, since then
        self._device = "device"
        self._free: int | None = None
        self._paces: dict[RunConfig, epoch_time.Pace | None] = {}
        self._timing = False

    def say(self) -> None:
        """Say in the head how the draft is."""
        raise NotImplementedError

    def remember(self) -> None:
        """The preset's file is what was loaded."""
        self.seen, self.edited = _bytes(self.draft.preset.path if self.draft.preset else None), False

    def tell_cost(self) -> None:
        if self.checked is None or not self.query(Cost):  # it was left meanwhile
            return
        config = self.checked.config
        if config not in self._paces and not self.checked.problems:
            self.run_worker(self._past(config), group="past", exclusive=True)
        known = self._paces.get(config)
        self.query_one(Cost).tell(self.checked, self._device, self._free, known, self._timing)

    async def _past(self, config: RunConfig) -> None:
        self._paces[config] = await asyncio.to_thread(epoch_time.past, config, self.app.runs)
        self.tell_cost()

    async def look(self) -> None:
        """See how much memory is free, and whether the preset was edited elsewhere."""
        if self.checked is None or not self.is_attached:
            return
        self._device, self._free = await asyncio.to_thread(self.app.free_memory, self.checked.config.runtime.device)
        path = self.draft.preset.path if self.draft.preset else None
        self.edited = await asyncio.to_thread(_bytes, path) != self.seen
        self.tell_cost()
        self.say()

    def action_time(self) -> None:
        """Time a few real steps."""
        if self.checked is None or self.checked.problems:
            self.app.say("it can be timed when it has no problems", error=True)
        elif not self._timing:
            self.run_worker(self._time(self.checked.config), group="time")

    async def _time(self, config: RunConfig) -> None:
        self._timing = True
        self.tell_cost()
        try:
            self._paces[config] = await epoch_time.timed(config)
        except (UserError, OSError) as error:
            self.app.say(str(error), error=True)
        finally:
            self._timing = False
        self.tell_cost()


def _bytes(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError:
        return None
