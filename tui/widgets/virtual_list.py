"""A list that renders only the items in sight: thousands cost no more than twenty."""

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
    """Items one below the other with a cursor on one of them. A subclass renders an item."""

    BINDINGS = bindings("up", "down", "page-up", "page-down", "first", "last", "open", footer=("open",))
    DEFAULT_CSS = "VirtualList { overflow-x: hidden; background: $background; }"
    COMPONENT_CLASSES: ClassVar[set[str]] = {"virtual-list--cursor"}

    has_titles = False  # a line above the items

    cursor = reactive(0, repaint=False)

    class Opened(Message):
        """An item was opened with enter or a double click."""

        def __init__(self, list: VirtualList[Any], item: Any) -> None:
            super().__init__()
            self.list, self.item = list, item

        @property
        def control(self) -> VirtualList[Any]:
            return self.list

    class NoEffect(Message):
        """A key had no effect, and why."""

        def __init__(self, reason: str) -> None:
            super().__init__()
            self.reason = reason

    def __init__(self, empty_text: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.items: list[Item] = []
        self.empty_text = empty_text  # what to press where there is nothing

    # -- for subclasses ---------------------------------------------------------------------------------------------

    def column_titles(self, width: int) -> Text:
        """Return the line above the items, where `has_titles`."""
        return Text()

    def render_item(self, item: Item, width: int) -> list[Text]:
        """Return the lines of an item, as many as `item_height`."""
        raise NotImplementedError

    def item_key(self, item: Item) -> object:
        """Return what identifies an item, so that the cursor stays on it when the items change."""
        return item

    @property
    def item_height(self) -> int:
        """Lines of an item."""
        return 1

    # -- items ------------------------------------------------------------------------------------------------------

    def set_items(self, items: Sequence[Item]) -> None:
        """Replace the items; the cursor stays on its item, or else in its row."""
        current = self.current
        self.items = list(items)
        row = None
        if current is not None and self.cursor > 0:
            row = self._row_of(current)
        if row is None:
            row = max(0, min(self.cursor, len(self.items) - 1))
        self.cursor = row
        self._update_size()

    def _row_of(self, item: Item) -> int | None:
        key = self.item_key(item)
        return next((row for row, candidate in enumerate(self.items) if self.item_key(candidate) == key), None)

    @property
    def current(self) -> Item | None:
        if 0 <= self.cursor < len(self.items):
            return self.items[self.cursor]
        return None

    # -- rendering --------------------------------------------------------------------------------------------------

    @property
    def _title_height(self) -> int:
        return 1 if self.items and self.has_titles else 0

    def _update_size(self) -> None:
        self.virtual_size = Size(0, len(self.items) * self.item_height + self._title_height)
        self._scroll_to_cursor()
        self.refresh()

    def on_resize(self) -> None:
        self._update_size()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        title_height = self._title_height
        if not self.items:
            return self._strip(self._empty_line(y, width), width)
        if y < title_height:
            titles = self.column_titles(width)
            titles.stylize(muted(self.app))
            return self._strip(titles, width)
        row, line_number = divmod(y - title_height + self.scroll_offset.y, self.item_height)
        if row >= len(self.items):
            return Strip.blank(width, self.rich_style)
        line = self.render_item(self.items[row], width)[line_number]
        if row == self.cursor and self.has_focus:
            self.mark_current(line, width)
        return self._strip(line, width)

    def mark_current(self, line: Text, width: int) -> None:
        """Show that the cursor is on the item of a line."""
        line.pad_right(max(0, width - line.cell_len))
        line.stylize(self.get_component_rich_style("virtual-list--cursor", partial=True))

    def _empty_line(self, y: int, width: int) -> Text:
        lines = Text(self.empty_text, "dim").wrap(self.app.console, max(10, width - 2))
        if 0 < y <= len(lines):
            return Text.assemble(" ", lines[y - 1])
        return Text()

    def _strip(self, text: Text, width: int) -> Strip:
        text.truncate(width, overflow="crop")
        text = Text(no_wrap=True).append_text(text)  # a text without spans renders without its own style
        style = self.rich_style
        return Strip(text.render(self.app.console, "")).apply_style(style).adjust_cell_length(width, style)

    # -- moving -----------------------------------------------------------------------------------------------------

    def watch_cursor(self) -> None:
        self._scroll_to_cursor()
        self.refresh()

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.refresh()

    @property
    def _page(self) -> int:
        """Lines for items."""
        return self.size.height - self._title_height

    def _scroll_to_cursor(self) -> None:
        top, bottom = self.cursor * self.item_height, (self.cursor + 1) * self.item_height
        if self._page <= 0:
            return
        if top < self.scroll_offset.y:
            self.scroll_to(y=top, animate=False, force=True)
        elif bottom > self.scroll_offset.y + self._page:
            self.scroll_to(y=bottom - self._page, animate=False, force=True)

    def action_move_row(self, rows: int) -> None:
        self.cursor = max(0, min(self.cursor + rows, len(self.items) - 1))

    def action_move_page(self, pages: int) -> None:
        self.action_move_row(pages * max(1, self._page // self.item_height))

    def action_first(self) -> None:
        self.cursor = 0

    def action_last(self) -> None:
        self.cursor = max(0, len(self.items) - 1)

    def action_open(self) -> None:
        if self.current is not None:
            self.post_message(self.Opened(self, self.current))
        else:
            self.post_message(self.NoEffect(self.empty_text))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor with one click, open with the second."""
        line = event.y - self.gutter.top - self._title_height
        row = (line + self.scroll_offset.y) // self.item_height
        if line >= 0 and 0 <= row < len(self.items):
            self.cursor = row
            if event.chain == 2:
                self.action_open()
