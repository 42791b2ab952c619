"""The queue pane of Home: what waits and what trains in the background, and what the slots do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.text import Text
from textual.message import Message

from convnn.runs.status import STATUSES
from convnn.terminal.report import status_tone
from convnn.text import duration, escaped, fit, padded
from tui.keys import bindings
from tui.widgets.run_name import short_name, without_time
from tui.widgets.virtual_list import VirtualList

NAME_WIDTH = (16, 44)  # cells, at least and at most
STATE_WIDTH = 22  # cells
PLACE_WIDTH = 4  # cells


@dataclass(frozen=True)
class QueueItem:
    """A line of the pane."""

    key: str  # that no other line has
    place: str  # the position, "app" for what waits in this process, "" for what has left the queue
    name: str
    state: str  # a key of STATUSES
    progress: str = ""  # "34 %"
    slot: str = ""
    eta: float | None = None  # seconds
    options: dict[str, str] = field(default_factory=dict)  # in which the entries differ
    cause: str = ""  # why it left the queue

    @property
    def state_text(self) -> str:
        return " ".join(filter(None, [STATUSES[self.state].label, self.progress, self.slot]))

    @property
    def details(self) -> str:
        """Why it left, or what tells it apart from the others and the time that it needs."""
        if self.cause:
            return self.cause
        words = [f"{name}={value}" for name, value in self.options.items()]
        if self.eta:
            words.insert(0, f"{duration(self.eta)} left")
        return "  ".join(words)


class QueueList(VirtualList[QueueItem]):
    """The entries of the queue in their order, below a line about its slots."""

    help_title = "queue"
    HELP = (
        "What trains in the background and what waits for that, in its order; `convnn queue` lists the same. What was "
        "started in this app and waits here is marked app. K and J move an entry, del takes it out and u brings it "
        "back, f6 adds one again that left the queue without being done, P pauses the queue: what trains goes on and "
        "nothing starts."
    )
    BINDINGS = bindings("earlier", "later", "enqueue", "pause-queue", footer=("earlier", "later", "pause-queue"))
    has_titles = True

    class Moved(Message):
        """An item is to be moved, by -1 or 1."""

        def __init__(self, item: QueueItem, distance: int) -> None:
            super().__init__()
            self.item, self.distance = item, distance

    class Retried(Message):
        """An item that left the queue is to be added again."""

        def __init__(self, item: QueueItem) -> None:
            super().__init__()
            self.item = item

    class PauseToggled(Message):
        """The queue is to be paused, or its entries are to be started again."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.status, self.is_warning = "", False

    def show(self, items: Sequence[QueueItem], status: str, *, is_warning: bool) -> None:
        """Show these items, and a line about the slots, or why nothing starts. The cursor stays on its item."""
        self.status, self.is_warning = status, is_warning
        current = self.current
        self.set_items(items)
        if current is not None and (row := self._row_of(current)) is not None:
            self.cursor = row

    def item_key(self, item: QueueItem) -> object:
        return item.key

    @property
    def lines(self) -> int:
        """The lines that show all of it, with the border."""
        return len(self.items) + 3

    def column_titles(self, width: int) -> Text:
        style = ""
        if self.is_warning:
            style = f"bold {self.app.theme_variables['warning']}"
        return Text(fit(f" {escaped(self.status)}", width), style)

    def render_item(self, item: QueueItem, width: int) -> list[Text]:
        color = self.app.theme_variables.get(status_tone(item.state), "")
        names = [cell_len(escaped(without_time(item.name))) for item in self.items[:100]]
        low, high = NAME_WIDTH
        name_width = max(low, min(max(names), high, width - PLACE_WIDTH - STATE_WIDTH - 4))
        line = Text(f"{item.place:>{PLACE_WIDTH}} ", "dim")
        name = short_name(escaped(without_time(item.name)), name_width)
        line.append(padded(name, name_width) + " ", "not dim")
        line.append(padded(item.state_text, STATE_WIDTH) + " ", f"not dim {color}")
        return [line.append(fit(escaped(item.details), max(1, width - line.cell_len)), "not dim")]

    def action_move_entry(self, distance: int) -> None:
        if self.current is not None:
            self.post_message(self.Moved(self.current, distance))

    def action_enqueue(self) -> None:
        if self.current is not None:
            self.post_message(self.Retried(self.current))

    def action_pause_queue(self) -> None:
        self.post_message(self.PauseToggled())
