"""A list that draws only the rows one sees: thousands cost no more than twenty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from rich.text import Text
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.keys import bindings
from tui.theme import muted

Item = TypeVar("Item")


class VirtualList(ScrollView, Generic[Item], can_focus=True):
    """Items one below the other with a cursor on one of them. A subclass says how an item looks."""

    BINDINGS = bindings("up", "down", "page-up", "page-down", "first", "last", "open", footer=("open",))
    DEFAULT_CSS = "VirtualList { overflow-x: hidden; background: $background; }"
    COMPONENT_CLASSES: ClassVar[set[str]] = {"virtual-list--cursor"}

    cursor = reactive(0, repaint=False)

    class Opened(Message):
        """An item was chosen."""

        def __init__(self, rows: VirtualList[Any], item: Any) -> None:
            super().__init__()
            self.rows, self.item = rows, item

        @property
        def control(self) -> VirtualList[Any]:
            return self.rows

    def __init__(self, empty: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.items: list[Item] = []
        self.empty = empty  # what to press where there is nothing

    # -- for subclasses ---------------------------------------------------------------------------------------------

    def head(self, width: int) -> Text | None:
        """The line above the items, if there is one."""
        return None

    def paint(self, item: Item, width: int) -> list[Text]:
        """An item as lines, as many as `tall` says."""
        raise NotImplementedError

    def key_of(self, item: Item) -> object:
        """What tells an item from the others, so that the cursor stays on it."""
        return item

    @property
    def tall(self) -> int:
        """Lines of an item."""
        return 1

    # -- told -------------------------------------------------------------------------------------------------------

    def show(self, items: Sequence[Item]) -> None:
        """Show these items; the cursor stays on its item, or else at its place."""
        here = self.current
        self.items = list(items)
        keys = [self.key_of(item) for item in self.items] if here is not None and self.cursor > 0 else []
        if here is not None and self.key_of(here) in keys:
            self.cursor = keys.index(self.key_of(here))
        else:
            self.cursor = max(0, min(self.cursor, len(self.items) - 1))
        self._fit()

    @property
    def current(self) -> Item | None:
        """The item under the cursor."""
        return self.items[self.cursor] if 0 <= self.cursor < len(self.items) else None

    # -- drawing ----------------------------------------------------------------------------------------------------

    @property
    def _top(self) -> int:
        return 0 if self.head(40) is None or not self.items else 1

    def _fit(self) -> None:
        self.virtual_size = Size(0, len(self.items) * self.tall + self._top)
        self._follow()
        self.refresh()

    def on_resize(self) -> None:
        self._fit()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        if not self.items:
            return self._line(self._said(y, width), width)
        if self._top and y == 0:
            head = self.head(width) or Text()
            head.stylize(muted(self.app))
            return self._line(head, width)
        at, part = divmod(y - self._top + self.scroll_offset.y, self.tall)
        if not 0 <= at < len(self.items):
            return Strip.blank(width, self.rich_style)
        line = self.paint(self.items[at], width)[part]
        if at == self.cursor:
            line.pad_right(max(0, width - line.cell_len))
            if self.has_focus:
                line.stylize(self.get_component_rich_style("virtual-list--cursor", partial=True))
        return self._line(line, width)

    def _said(self, y: int, width: int) -> Text:
        if not self.empty:
            return Text()
        lines = Text(self.empty, "dim").wrap(self.app.console, max(10, width - 2))
        return Text.assemble(" ", lines[y - 1]) if 0 < y <= len(lines) else Text()

    def _line(self, text: Text, width: int) -> Strip:
        text.truncate(width, overflow="crop")
        text = Text(no_wrap=True).append_text(text)  # a text without spans renders without its own style
        style = self.rich_style
        return Strip(text.render(self.app.console, "")).apply_style(style).adjust_cell_length(width, style)

    # -- moving -----------------------------------------------------------------------------------------------------

    def watch_cursor(self) -> None:
        self._follow()
        self.refresh()

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.refresh()

    def _follow(self) -> None:
        """Scroll so that the cursor is seen."""
        room = self.size.height - self._top
        first, last = self.cursor * self.tall, (self.cursor + 1) * self.tall
        if room <= 0:
            return
        if first < self.scroll_offset.y:
            self.scroll_to(y=first, animate=False, force=True)
        elif last > self.scroll_offset.y + room:
            self.scroll_to(y=last - room, animate=False, force=True)

    def _move(self, by: int) -> None:
        self.cursor = max(0, min(self.cursor + by, len(self.items) - 1))

    def action_up(self) -> None:
        self._move(-1)

    def action_down(self) -> None:
        self._move(1)

    def action_page_up(self) -> None:
        self._move(-max(1, (self.size.height - self._top) // self.tall))

    def action_page_down(self) -> None:
        self._move(max(1, (self.size.height - self._top) // self.tall))

    def action_first(self) -> None:
        self.cursor = 0

    def action_last(self) -> None:
        self.cursor = max(0, len(self.items) - 1)

    def action_open(self) -> None:
        if self.current is not None:
            self.post_message(self.Opened(self, self.current))

    def on_click(self, event: events.Click) -> None:
        """One click puts the cursor there, a second one opens."""
        at = (event.y - self.gutter.top - self._top + self.scroll_offset.y) // self.tall
        if event.y - self.gutter.top >= self._top and 0 <= at < len(self.items):
            again = event.chain == 2
            self.cursor = at
            if again:
                self.action_open()
