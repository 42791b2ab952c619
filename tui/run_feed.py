"""The list of runs, read again and again in a thread while a screen that shows it is in sight."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from textual.app import App
from textual.message import Message
from textual.screen import ModalScreen, Screen

from convnn.errors import UserError
from convnn.runs.find import list_runs
from convnn.runs.summary import Summary, summarize
from convnn.runs.summary_cache import CACHE, summaries

POLL = 1.5  # seconds between two reads, at least
SHARE = 20  # a read that took t seconds is followed by none for 20 t
NEWEST = 60  # runs that are read first where there is no cache


class RunsChanged(Message, bubble=False):
    """The runs were read again; `RunFeed.runs` is the same list object when nothing is new."""


class RunFeed:
    """The runs of a folder, newest first, and the screens that show them: those in sight get `RunsChanged`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs: list[Summary] = []
        self.complete = False  # all runs were read, not only the newest
        self.warnings: list[str] = []  # what is damaged
        self._screens: list[Screen[Any]] = []
        self._wake = asyncio.Event()

    def subscribe(self, screen: Screen[Any]) -> None:
        """Post `RunsChanged` to a screen after each read while it is in sight."""
        self._screens = [subscriber for subscriber in self._screens if subscriber.is_attached]
        self._screens.append(screen)

    def read_now(self) -> None:
        """Read again without waiting for the next poll."""
        self._wake.set()

    async def follow(self, app: App[Any]) -> None:
        """Read and post for as long as the app runs, from the first `read_now`."""
        await self._wake.wait()
        while True:
            self._wake.clear()
            start = time.monotonic()
            if self._in_sight(app) or not self.runs:
                await self._read(app)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(POLL, SHARE * (time.monotonic() - start)))

    async def _read(self, app: App[Any]) -> None:
        if not self.runs and not (self.root / CACHE).exists():  # the first read of all runs takes seconds
            self.runs = await asyncio.to_thread(_newest, self.root)
            self._post(app)
        self.runs, self.warnings = await asyncio.to_thread(_read, self.root, self.runs)
        self.complete = True
        self._post(app)

    def _post(self, app: App[Any]) -> None:
        for screen in self._in_sight(app):
            screen.post_message(RunsChanged())

    def _in_sight(self, app: App[Any]) -> list[Screen[Any]]:
        """Return the subscribers that are drawn: the topmost screen that covers all, and the dialogs over it."""
        visible: list[Screen[Any]] = []
        for screen in reversed(app.screen_stack):
            visible.append(screen)
            if not isinstance(screen, ModalScreen):
                break
        return [screen for screen in visible if screen in self._screens]


def _read(root: Path, previous: list[Summary]) -> tuple[list[Summary], list[str]]:
    """Return all runs and the warnings; the previous list where nothing is new."""
    runs, warnings = summaries(root)
    return (previous if runs == previous else runs), warnings


def _newest(root: Path) -> list[Summary]:
    """Return the newest runs, as many as a screen shows."""
    runs = []
    for run in list_runs(root)[0][:NEWEST]:
        try:
            runs.append(summarize(run))
        except (OSError, UserError):
            continue  # the read of all runs warns of what is damaged
    return runs
