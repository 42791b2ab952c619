"""What the queue pane of Home shows and does: the queue on the disk, and the launches that wait in this process."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from convnn.errors import UserError
from convnn.runs.run import Run
from convnn.text import plural
from tui.process.launcher import Launch
from tui.say import reporting_errors
from tui.widgets.queue_list import QueueItem, QueueList

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig
    from convnn.sweeps.queue import Entry
    from convnn.sweeps.queue_view import QueueRow, QueueState
    from tui.app import ConvnnApp

MAX_ENDED = 3  # entries that left the queue
ENDED_SECONDS = 24 * 3600.0  # that they are shown for
PAUSE_REASON = "on request"


class QueuePane:
    """Reads the queue, and changes it as a person wants; the list only shows it."""

    def __init__(self, app: ConvnnApp) -> None:
        self.app = app
        self.state: QueueState | None = None
        self._dismissed: set[str] = set()  # entries that left the queue and are not shown any more
        self._entries: dict[str, Entry] = {}  # of the queue, by the key of the item
        self._ended: dict[str, Entry] = {}  # that left it
        self._launches: dict[str, Launch] = {}

    async def read(self) -> None:
        """Read the queue in a thread; it keeps its last state where the disk cannot be read."""
        try:
            self.state = await asyncio.to_thread(self._read)
        except (UserError, OSError) as error:
            self.app.say(f"the queue cannot be read: {error}", error=True)

    def _read(self) -> QueueState:
        from convnn.sweeps.queue_view import queue_state  # not before the first frame

        return queue_state(self.app.background.queue, ended_since=time.time() - ENDED_SECONDS)

    def show(self, widget: QueueList) -> None:
        """Show what waits in this process, the entries of the queue, and those that left it lately."""
        items = self._app_items()
        if self.state is not None:
            self._entries = {row.entry.id: row.entry for row in self.state.rows}
            self._ended = {entry.id: entry for entry in self.state.ended if entry.id not in self._dismissed}
            items += [_entry_item(row, self.state) for row in self.state.rows]
            items += [
                QueueItem(entry.id, "", entry.title, entry.outcome, cause=entry.cause)
                for entry in islice(self._ended.values(), MAX_ENDED)
            ]
        widget.show(items, self._status(), is_warning=self._is_held)
        waiting = sum(item.state == "queued" for item in items)
        title = "queue"
        if waiting:
            title += f" {waiting}"
        widget.border_title = title
        widget.display = bool(items) or (self.state is not None and self.state.paused is not None)

    def _app_items(self) -> list[QueueItem]:
        launcher = self.app.launcher
        self._launches = {f"launch {id(launch)}": launch for launch in launcher.queued}
        return [
            QueueItem(key, "app", launch.title, "queued", progress="starting" if launch.starting else "")
            for key, launch in self._launches.items()
        ]

    @property
    def _is_held(self) -> bool:
        """Whether nothing starts although something waits."""
        state = self.state
        return state is not None and (state.paused is not None or (bool(state.rows) and not state.slots))

    def _status(self) -> str:
        state = self.state
        if state is None:
            return ""
        if state.paused is not None:
            return f"paused: {state.paused}  (P starts it again)"
        if not state.slots:
            if state.rows:
                return "no worker serves it: P starts one"
            return "nothing trains in the background"
        names = {row.entry.id: str(row.position) for row in state.rows}
        texts = [f"{slot.name} {_use(slot.entry_id, names)}" for slot in state.slots]
        return f"{plural(len(texts), 'slot')}:  {'   '.join(texts)}"

    def entry(self, item: QueueItem) -> Entry | None:
        """Return the entry of an item, which may have left the queue; None for a launch that waits in this process."""
        return self._entries.get(item.key) or self._ended.get(item.key)

    def config(self, item: QueueItem) -> RunConfig | None:
        """Return the configuration of an item. Raises UserError where that is damaged."""
        from convnn.config.toml import parse_run

        if (launch := self._launches.get(item.key)) is not None:
            return launch.config
        entry = self.entry(item)
        if entry is None:
            return None
        return parse_run(entry.config)

    def run_of(self, item: QueueItem) -> Run | None:
        """Return the run of an entry; None before it has a directory."""
        entry = self.entry(item)
        if entry is None:
            return None
        return self.app.background.queue.run_of(entry)

    def move(self, item: QueueItem, distance: int) -> None:
        """Move an item among its like."""
        launcher = self.app.launcher
        if (launch := self._launches.get(item.key)) is not None:
            if launch in launcher.waiting:
                launcher.move(launch, launcher.waiting.index(launch) + distance)
        elif (entry := self._entries.get(item.key)) is not None:
            with reporting_errors(self.app.say):
                self.app.background.queue.move(entry, int(item.place) + distance)

    def remove(self, item: QueueItem) -> None:
        """Take an item out; `u` brings it back."""
        if (launch := self._launches.get(item.key)) is not None:
            waiting = self.app.launcher.waiting
            index = waiting.index(launch) if launch in waiting else 0
            if self.app.launcher.drop(launch):
                self.app.deletion.add(lambda: self._restore(launch, index), f"{launch.title} is out of the queue")
            else:
                self.app.say("it has already started", error=True)
        elif (entry := self._entries.get(item.key)) is None:
            self._dismissed.add(item.key)
            self.app.deletion.add(lambda: self._show_again(item), "not shown any more")
        else:
            with reporting_errors(self.app.say):
                if self.app.background.queue.remove([entry]):
                    self.app.deletion.add(self._undo_removal, f"{item.name} is out of the queue")
                else:
                    self.app.say("it trains: enter opens it, and . there stops it", error=True)

    def retry(self, item: QueueItem) -> None:
        """Add an entry again that left the queue without being done."""
        entry = self._ended.get(item.key)
        if entry is None:
            self.app.say("it is in the queue already")
            return
        with reporting_errors(self.app.say):
            self.app.say(f"{entry.title}: {self.app.background.retry(entry)}")

    def _restore(self, launch: Launch, index: int) -> str:
        self.app.launcher.restore(launch, index)
        return launch.title

    def _show_again(self, item: QueueItem) -> str:
        self._dismissed.discard(item.key)
        return item.name

    def _undo_removal(self) -> str:
        return ", ".join(entry.name for entry in self.app.background.queue.undo())

    def toggle_pause(self) -> None:
        """Pause the queue or, where nothing starts, start its entries again."""
        queue = self.app.background.queue
        with reporting_errors(self.app.say):
            if self._is_held:
                queue.resume()
                self.app.say(self.app.background.start())
            else:
                queue.pause(PAUSE_REASON)
                self.app.say("the queue is paused: what trains goes on, nothing starts")


def _entry_item(row: QueueRow, state: QueueState) -> QueueItem:
    item = QueueItem(
        key=row.entry.id,
        place=str(row.position),
        name=row.name,
        state=row.state,
        slot=state.slot_of(row),
        options=row.options,
    )
    if row.progress is None:
        return item
    percent = ""
    if row.progress.fraction is not None:
        percent = f"{row.progress.fraction:.0%}"
    return replace(item, progress=percent, eta=row.progress.eta)


def _use(entry_id: str | None, names: dict[str, str]) -> str:
    """What a slot does: the position of the entry that it trains."""
    if entry_id is None:
        return "free"
    if entry_id not in names:
        return "ends a run"
    return f"trains {names[entry_id]}"
