"""The grid of runs: their names stay in place while the other columns scroll sideways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.message import Message

from convnn.analysis.fields import Field
from convnn.analysis.repeats import sd_text
from convnn.metrics import format_value
from convnn.runs.summary import Summary
from convnn.terminal.report import status_tone
from convnn.text import escaped, fit, padded, plural
from tui.arrangement import GridRow, GroupNode
from tui.keys import bindings
from tui.selection import MARK, Selection
from tui.widgets.run_name import short_name, without_time
from tui.widgets.virtual_list import VirtualList

SAMPLE_SIZE = 200  # rows that the widths of columns are made from
COLUMN_WIDTH = (4, 20)  # cells, at least and, while others need the room, at most
WIDEST_COLUMN = 60  # cells, where there is room
NAME_WIDTH = (16, 44)  # cells that names get before the columns do, at least and at most
GROUP_COLUMNS = (("n", 4), ("mean", 7), ("sd", 6))  # names and widths
GROUP_COLUMNS_WIDTH = sum(width + 1 for _, width in GROUP_COLUMNS)
RIGHT_ALIGNED = ("number", "age")
GLYPHS_WIDTH = 3  # pin, mark and a space


class Layout(NamedTuple):
    """How the cells of a line are divided."""

    name_width: int
    columns: list[Field]  # that fit beside the name
    widths: dict[str, int]  # by key


class RunGrid(VirtualList[GridRow]):
    """Runs, or groups of them, a line each."""

    help_title = "runs"
    HELP = (
        "The runs of the runs folder, newest first; the list follows the files. Mark runs with space and press d to "
        "compare them. Best is the monitored metric at its best epoch. Groups show its n, mean and sd "
        "over the runs that were trained to their end."
    )
    BINDINGS = bindings("left", "right")
    has_titles = True

    class TitleClicked(Message):
        """The title of a column was clicked."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, empty_text: str, selection: Selection, *, id: str | None = None) -> None:
        super().__init__(empty_text, id=id)
        self.selection = selection
        self.columns: list[Field] = []
        self.first_column = 0  # the first one beside the name
        self.sort: tuple[str | None, bool] = (None, False)  # key, descending
        self._widths: dict[str, int] = {}
        self._full_widths: dict[str, int] = {}  # that no value is cut in, up to WIDEST_COLUMN
        self._name_widths = (0, 0)  # the widest name, without and with its time
        self._layouts: dict[int, Layout] = {}  # by the width of the grid

    def show_rows(
        self, rows: Sequence[GridRow], columns: Sequence[Field], sort: tuple[str | None, bool] = (None, False)
    ) -> None:
        """Show these rows in these columns; an arrow stands at the column they are sorted by."""
        self.columns = [column for column in columns if column.key != "name"]
        self.sort, self.first_column = sort, min(self.first_column, max(0, len(self.columns) - 1))
        sample = rows[:: max(1, len(rows) // SAMPLE_SIZE)]
        runs = [row.runs[0] for row in sample if row.runs]
        self._full_widths = {column.key: self._width_of(column, runs) for column in self.columns}
        self._widths = {
            column.key: max(self._title_width(column), min(self._full_widths[column.key], COLUMN_WIDTH[1]))
            for column in self.columns
        }
        long_labels = sorted(rows, key=lambda row: len(_label(row)))[-SAMPLE_SIZE:]
        self._name_widths = (
            max((_label_width(row, without_time(_label(row))) for row in long_labels), default=0),
            max((_label_width(row, _label(row)) for row in long_labels), default=0),
        )
        self.set_items(rows)
        self._layouts.clear()
        self._show_scroll_position()

    def _width_of(self, column: Field, runs: Sequence[Summary]) -> int:
        texts = (run.status_label if column.kind == "status" else column.effective_text(run) for run in runs)
        values = max((cell_len(escaped(text)) for text in texts), default=0)
        return max(COLUMN_WIDTH[0], self._title_width(column), min(values, WIDEST_COLUMN))

    def _title_width(self, column: Field) -> int:
        return cell_len(column.key + self._arrow(column.key))

    @property
    def current_run(self) -> Summary | None:
        """The run under the cursor, or the first run of the group there."""
        if self.current and self.current.runs:
            return self.current.runs[0]
        return None

    def item_key(self, item: GridRow) -> object:
        return item.key

    # -- marking ----------------------------------------------------------------------------------------------------

    def toggle_mark(self) -> None:
        """Mark the run under the cursor and go to the next one, or mark all runs of a group."""
        row = self.current
        if row is None:
            return
        self.selection.toggle_mark(run.path for run in row.runs)
        if row.run is not None:
            self.action_move_row(1)
        self.refresh()

    def unmark_all(self) -> None:
        if not self.selection.marked:
            self.post_message(self.NoEffect("no run is marked"))
        self.selection.unmark_all()
        self.refresh()

    # -- columns ----------------------------------------------------------------------------------------------------

    @property
    def _has_groups(self) -> bool:
        return bool(self.items) and self.items[0].node is not None

    def _layout(self, width: int) -> Layout:
        """Return how `width` cells are divided; what is left over goes to columns whose values would be cut."""
        if width not in self._layouts:
            room = width - GLYPHS_WIDTH
            if self._has_groups:
                room -= GROUP_COLUMNS_WIDTH
            name_width = self._name_width(room)
            room -= name_width + 1
            columns = self._fitting_columns(room)
            widths = {column.key: self._widths[column.key] for column in columns}
            room -= sum(widths.values()) + len(widths)
            for key in widths:
                extra = max(0, min(room, self._full_widths[key] - widths[key]))
                widths[key] += extra
                room -= extra
            self._layouts[width] = Layout(name_width, columns, widths)
        return self._layouts[width]

    def _name_width(self, room: int) -> int:
        """Return the cells for names: with their times where the columns leave room for all of them."""
        low, high = NAME_WIDTH
        short, long = self._name_widths
        name_width = max(low, min(short, high, room // 2))
        spare = room - name_width - 1
        for column in self.columns:
            if self._widths[column.key] > spare:
                break
            spare -= self._widths[column.key] + 1
        if long <= name_width + spare:
            return long
        return max(name_width, min(short, name_width + spare))

    def _fitting_columns(self, room: int) -> list[Field]:
        fitting: list[Field] = []
        for column in self.columns[self.first_column :]:
            if self._widths[column.key] > room and fitting:
                break
            room -= self._widths[column.key] + 1
            fitting.append(column)
        return fitting

    def visible_columns(self, width: int) -> list[Field]:
        """Return the columns that are shown in `width` cells."""
        return self._layout(width).columns

    def _show_scroll_position(self) -> None:
        count = len(self.visible_columns(max(40, self.size.width)))
        self.border_subtitle = ""
        if self.items and count < len(self.columns):
            last = self.first_column + count
            self.border_subtitle = f"columns {self.first_column + 1}-{last} of {len(self.columns)}  ← →"

    def on_resize(self) -> None:
        super().on_resize()
        self._show_scroll_position()

    def action_move_column(self, columns: int) -> None:
        hidden = self.first_column
        if columns > 0:
            hidden = len(self.columns) - self.first_column - len(self.visible_columns(self.size.width))
        if hidden <= 0:
            reason = "there are no more columns" if self.border_subtitle else "every column is in sight"
            self.post_message(self.NoEffect(reason))
            return
        self.first_column += columns
        self._layouts.clear()
        self._show_scroll_position()
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        key = self._title_at(event.x - self.gutter.left)
        if key is not None and self.items and event.y == self.gutter.top:
            self.post_message(self.TitleClicked(key))

    def _title_at(self, x: int) -> str | None:
        """Return the key of the column at a cell of the line of titles."""
        layout = self._layout(self.scrollable_content_region.width)
        end = GLYPHS_WIDTH + layout.name_width + 1
        if x < end:
            return "name"
        if self._has_groups:
            end += GROUP_COLUMNS_WIDTH
            if x < end:
                return None
        for key, width in layout.widths.items():
            end += width + 1
            if x < end:
                return key
        return None

    # -- rendering --------------------------------------------------------------------------------------------------

    def column_titles(self, width: int) -> Text:
        layout = self._layout(width)
        line = Text(" " * GLYPHS_WIDTH + _left("name" + self._arrow("name"), layout.name_width))
        if self._has_groups:
            line.append("".join(_right(name, column_width) for name, column_width in GROUP_COLUMNS))
        for column in layout.columns:
            line.append(_cell(column, column.key + self._arrow(column.key), layout.widths[column.key]))
        return line

    def _arrow(self, key: str) -> str:
        sort_key, descending = self.sort
        if key != sort_key:
            return ""
        return " ▼" if descending else " ▲"

    def render_item(self, item: GridRow, width: int) -> list[Text]:
        layout = self._layout(width)
        if item.node is not None:
            return [self._group_line(item, item.node, layout.name_width)]
        assert item.run is not None
        return [self._run_line(item, item.run, layout)]

    def _group_line(self, row: GridRow, group: GroupNode, name_width: int) -> Text:
        is_marked = all(run.path in self.selection.marked for run in group.runs)
        mark = MARK if is_marked else " "
        line = Text().append(f" {mark} ", self._color("accent"))
        arrow = "▾" if row.is_expanded else "▸"
        line.append(_left(f"{'  ' * row.depth}{arrow} {escaped(group.label)}", name_width), "bold")
        for text, (_, column_width) in zip(_statistics(group), GROUP_COLUMNS, strict=True):
            line.append(_right(text, column_width))
        _, averaged_over = group.mean
        count = plural(len(group.runs), "run")
        if averaged_over:
            count += f", mean over {averaged_over}"
        return line.append(count, "dim")

    def _run_line(self, row: GridRow, run: Summary, layout: Layout) -> Text:
        name_width = layout.name_width
        line = Text().append(self.selection.glyphs(run.path) + " ", self._color("accent"))
        indent = "  " * row.depth
        name = escaped(run.name)
        if name_width < self._name_widths[1]:
            name = without_time(name)  # as all of them
        line.append(_left(indent + short_name(name, name_width - len(indent)), name_width))
        if self._has_groups:
            line.append(" " * GROUP_COLUMNS_WIDTH)
        for column in layout.columns:
            if column.kind == "status":
                color = self._color(status_tone(run.status))
                glyph, _, words = run.status_label.partition(" ")
                line.append(f"{glyph} ", f"bold {color}")
                line.append(_left(escaped(words), layout.widths[column.key] - 2), color)
            else:
                line.append(_cell(column, escaped(column.effective_text(run)), layout.widths[column.key]))
        return line

    def _color(self, name: str) -> str:
        return self.app.theme_variables.get(name, "")


def _statistics(group: GroupNode) -> list[str]:
    (estimate, _), metric = group.mean, group.metric.format_as
    if estimate is None:
        return ["0", "", ""]
    return [str(estimate.n), format_value(estimate.mean, metric), sd_text(estimate, metric)]


def _label(row: GridRow) -> str:
    if row.node is not None:
        return escaped(row.node.label)
    if not row.run:
        return ""
    return escaped(row.run.name)


def _label_width(row: GridRow, label: str) -> int:
    """Cells of a label with its indent and, of a group, its arrow."""
    width = cell_len(label) + 2 * row.depth
    if row.node:
        width += 2
    return width


def _cell(column: Field, text: str, width: int) -> str:
    align = _right if column.kind in RIGHT_ALIGNED else _left
    return align(text, width)


def _left(text: str, width: int) -> str:
    """Return the text at the left of `width` cells, and a space."""
    return padded(text, width) + " "


def _right(text: str, width: int) -> str:
    """Return the text at the right of `width` cells, and a space."""
    text = fit(text, width)
    return " " * (width - cell_len(text)) + text + " "
