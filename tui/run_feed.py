"""A screen that follows the runs of a folder: new and growing ones show up by themselves."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from textual.screen import ModalScreen, Screen

from convnn.errors import UserError
from convnn.runs.find import list_runs
from convnn.runs.index import CACHE, summaries
from convnn.runs.summary import Summary, summarise

if TYPE_CHECKING:
    from tui.app import ConvnnApp

POLL = 1.5  # seconds between two looks at the files, at least
SHARE = 20  # a look that took t seconds is followed by none for 20 t
WINDOW = 60


class Following(Screen[None]):
    """Looks at the files again and again, in a thread, while it is the screen that is seen."""

    app: ConvnnApp

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.warnings: list[str] = []
        self.look_now = asyncio.Event()

    def show(self) -> None:
        """Show what was read."""
        raise NotImplementedError

    async def look_beside(self) -> None:
        """Read what the screen shows beside the runs."""

    def on_mount(self) -> None:
        self.run_worker(self._follow(), name="follow the runs")

    def on_screen_resume(self) -> None:
        self.look_now.set()

    @property
    def in_sight(self) -> bool:
        """Whether any of it is seen. (`is_current` also holds right below a screen that covers all of it.)"""
        stack = self.app.screen_stack
        return self in stack and all(isinstance(above, ModalScreen) for above in stack[stack.index(self) + 1 :])

    async def _follow(self) -> None:
        wait = POLL
        if self.app.complete:  # by another screen: reading would hold up the first frame
            await asyncio.sleep(POLL / 3)
        while True:
            if self.in_sight or not self.app.runs:
                began = time.monotonic()
                await self.look_beside()
                if not self.app.runs and not (self.root / CACHE).exists():
                    self.app.runs = await asyncio.to_thread(_newest, self.root)  # all of them take seconds at first
                    self.show()
                self.app.runs, self.warnings = await asyncio.to_thread(_read, self.root, self.app.runs)
                self.app.complete = True
                self.show()
                wait = max(POLL, SHARE * (time.monotonic() - began))
            self.look_now.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.look_now.wait(), wait)


def _read(root: Path, old: list[Summary]) -> tuple[list[Summary], list[str]]:
    """All runs and the warnings; the same list as before where nothing is new."""
    found, warnings = summaries(root)
    return (old if found == old else found), warnings


def _newest(root: Path) -> list[Summary]:
    """The newest runs, as many as a screen shows."""
    found = []
    for run in list_runs(root)[0][:WINDOW]:
        try:
            found.append(summarise(run))
        except (OSError, UserError):
            continue  # the look at all of them says what is damaged
    return found
