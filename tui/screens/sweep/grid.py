"""The grid of a sweep: a line for each row, a cell for each value of the axis along the top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text
from textual.color import Color
from textual.events import Click
from textual.message import Message

from convnn.metrics import lower_is_better
from convnn.runs.status import STATUSES
from convnn.sweeps.results import GridCell, Results
from convnn.sweeps.states import INFEASIBLE, SAME
from convnn.terminal.report import status_tone
from convnn.text import escaped, padded
from tui.keys import bindings
from tui.widgets.virtual_list import VirtualList

LABEL_WIDTH, CELL_WIDTH = (3, 20), (8, 26)  # cells, at least and at most
EMPTY = "·"
BEST = "★"


class SweepRow(NamedTuple):
    """The labels of a row, and its cells; None where the sweep has none."""

    labels: tuple[str, ...]
    cells: Sequence[GridCell | None]


class SweepGrid(VirtualList[SweepRow]):
    """Cells with a value by number and color, or why there is none; the cursor is on one of them."""

    help_title = "grid"
    HELP = (
        "Every cell of the sweep: mean ± sd (n) over its seeds, greener for better values, or how far it is. Arrows go "
        "from cell to cell; the pane beside shows its curves and options. Enter opens its run."
    )
    BINDINGS = bindings("left", "right")
    has_titles = True

    class Focused(Message):
        """The cursor is on another cell."""

    def __init__(self) -> None:
        super().__init__("reading the sweep ...", id="grid")
        self.results: Results | None = None
        self.column = 0  # of the cursor
        self.first_column = 0  # the first one beside the labels

    def show(self, results: Results) -> None:
        """Show the results of a sweep; the cursor stays in its place."""
        self.results = results
        self.column = min(self.column, max(0, len(results.cols) - 1))
        self.empty_text = "The sweep has no cells."
        self.set_items([SweepRow(row, cells) for row, cells in zip(results.rows, results.grid, strict=True)])
        self._scroll_to_column()

    def item_key(self, item: SweepRow) -> object:
        return item.labels

    @property
    def cell(self) -> GridCell | None:
        if self.current is None:
            return None
        return self.current.cells[self.column]

    def watch_cursor(self) -> None:
        super().watch_cursor()
        self.post_message(self.Focused())

    def action_move_column(self, columns: int) -> None:
        if self.results is not None:
            self.column = max(0, min(self.column + columns, len(self.results.cols) - 1))
            self._scroll_to_column()
            self.refresh()
            self.post_message(self.Focused())

    def on_resize(self) -> None:
        super().on_resize()
        self._scroll_to_column()

    def on_click(self, event: Click) -> None:
        x, visible = event.x - self.gutter.left - sum(self._label_widths), self._visible_columns
        column = self.first_column + x // (self._cell_width + 1)
        if x >= 0 and column < self.first_column + visible:
            self.action_move_column(column - self.column)
        super().on_click(event)

    @property
    def _label_widths(self) -> list[int]:
        """Cells of each axis down the side, with a space behind it."""
        if self.results is None:
            return []
        columns = [[axis] for axis in self.results.row_axes]
        for row in self.results.rows[:200]:
            for column, label in zip(columns, row, strict=True):
                column.append(label)
        low, high = LABEL_WIDTH
        return [max(low, min(max(cell_len(escaped(text)) for text in column), high)) + 1 for column in columns]

    @property
    def _cell_width(self) -> int:
        if self.results is None:
            return CELL_WIDTH[0]
        texts = [cell_text(cell, is_best=False) for cell in self.results.cells[:200]]
        texts += [escaped(self.results.col_title(col)) for col in self.results.cols]
        widest = max(map(cell_len, texts), default=0)
        return max(CELL_WIDTH[0], min(widest + 2, CELL_WIDTH[1]))

    @property
    def _visible_columns(self) -> int:
        room = self.scrollable_content_region.width - sum(self._label_widths)
        return max(1, room // (self._cell_width + 1))

    def _scroll_to_column(self) -> None:
        """Bring the column of the cursor into view, and say in the border that there are others, or what matters."""
        if self.results is None:
            return
        count, total = self._visible_columns, len(self.results.cols)
        self.first_column = max(self.column - count + 1, min(self.first_column, self.column, max(0, total - count)))
        self.border_subtitle = escaped(self.results.importance_text)
        if count < total:
            last = min(total, self.first_column + count)
            self.border_subtitle = f"columns {self.first_column + 1}-{last} of {total}  ← →"

    def column_titles(self, width: int) -> Text:
        assert self.results is not None
        line = Text()
        for axis, label_width in zip(self.results.row_axes, self._label_widths, strict=True):
            line.append(padded(escaped(axis), label_width))
        cols = self.results.cols[self.first_column : self.first_column + self._visible_columns]
        for col in cols:
            line.append(padded(escaped(self.results.col_title(col)), self._cell_width + 1))
        return line

    def mark_current(self, line: Text, width: int) -> None:
        """Leave the line as it is: the cursor is on a cell, not on a row."""

    def render_item(self, item: SweepRow, width: int) -> list[Text]:
        assert self.results is not None
        line = Text()
        for label, label_width in zip(item.labels, self._label_widths, strict=True):
            line.append(padded(escaped(label), label_width), "bold")
        is_current_row = self.current is not None and item.labels == self.current.labels
        cursor = self.get_component_rich_style("virtual-list--cursor", partial=True)
        for index in range(self.first_column, min(self.first_column + self._visible_columns, len(item.cells))):
            cell = item.cells[index]
            text = cell_text(cell, is_best=self.results.is_best(cell))
            part = Text(padded(text, self._cell_width), self._style(cell))
            if is_current_row and index == self.column:
                part.stylize(cursor)
                if not self.has_focus:
                    part.stylize("underline")
            line.append_text(Text().append_text(part)).append(" ")
        return [line]

    def _style(self, cell: GridCell | None) -> str:
        """The color of a cell: between the worst and the best value, or that of its state."""
        colors = self.app.theme_variables
        if cell is None or cell.states[0].state in (INFEASIBLE, SAME):
            return "dim"
        if cell.value is None:
            return colors.get(status_tone(furthest_state(cell)), "")
        assert self.results is not None
        values = [valued.value for valued in self.results.cells if valued.value is not None]
        low, high = min(values), max(values)
        share = 1.0
        if high > low:
            share = (cell.value - low) / (high - low)
        if lower_is_better(cell.field.format_as):
            share = 1.0 - share
        worst, best = Color.parse(colors["warning"]), Color.parse(colors["success"])
        color = worst.blend(best, share).hex6
        return f"bold {color}" if self.results.is_best(cell) else color


def cell_text(cell: GridCell | None, *, is_best: bool) -> str:
    """The value of a cell, or its state as a glyph and a word."""
    if cell is None:
        return EMPTY
    if cell.value is not None:
        return f"{escaped(cell.text)} {BEST}" if is_best else escaped(cell.text)
    state = furthest_state(cell)
    glyph = ""
    if state in STATUSES:
        glyph = f"{STATUSES[state].glyph} "
    return glyph + escaped(cell.text)


def furthest_state(cell: GridCell) -> str:
    """The state of the seed that a cell without a value speaks of."""
    states = [state.state for state in cell.states if state.text == cell.reason]
    return (states or [cell.states[0].state])[0]
