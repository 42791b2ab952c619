"""All runs in as many columns as asked for; the names stay while the columns go to the left and to the right."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from convnn.analysis.fields import RUN_FIELDS, Field
from convnn.metrics import format_value
from convnn.runs.status import STATUSES
from convnn.text import escaped, fit
from tui.arrangement import Line
from tui.keys import bindings
from tui.selection import Selection
from tui.theme import STATUS_COLORS
from tui.widgets.run_table import short_name
from tui.widgets.virtual_list import VirtualList

SAMPLE = 200  # rows that say how wide a column is
NARROW, WIDE = 6, 20  # cells of a column
NAME = (16, 44)  # cells of the names, at most half of the width
FIGURES = (("n", 4), ("mean", 7), ("sd", 6))  # of groups
RIGHT = ("number", "age")


class RunGrid(VirtualList[Line]):
    """Runs, or groups of them, a line each. Only the lines and columns that are seen are made."""

    help_title = "all runs"
    HELP = (
        "Every run, with the options that differ. Mark runs with space and press d to compare them; p keeps one on top "
        "and makes it what the others are held against. Left and right go through the columns. In groups, n, mean and "
        "sd are of the best figure of the runs that were trained to their end. The list follows the files."
    )
    BINDINGS = bindings("left", "right")

    def __init__(self, empty: str, selection: Selection, *, id: str | None = None) -> None:
        super().__init__(empty, id=id)
        self.selection = selection
        self.columns: list[Field] = []
        self.first = 0  # of the columns that are seen, beside the name
        self.sorted: tuple[str | None, bool] = (None, False)
        self._sizes: dict[str, int] = {}
        self._widest = NAME[0]

    def put(self, lines: Sequence[Line], columns: list[Field], sorted: tuple[str | None, bool]) -> None:
        """Show these lines in these columns."""
        self.columns = [column for column in columns if column.key != "name"]
        self.sorted, self.first = sorted, min(self.first, max(0, len(self.columns) - 1))
        sample = lines[:: max(1, len(lines) // SAMPLE)]
        runs = [line.run for line in sample if line.run] or [run for line in sample for run in line.runs[:1]]
        self._sizes = {}
        for column in self.columns:
            widest = max((cell_len(column.text(run)) for run in runs), default=0)
            widest = max(widest + 2 * (column is RUN_FIELDS["status"]), len(column.key) + 2 * (column.key == sorted[0]))
            self._sizes[column.key] = min(max(widest, NARROW), max(WIDE, len(column.key) + 2))
        names = (
            cell_len(escaped(line.node.label if line.node else line.run.name if line.run else "")) for line in sample
        )
        self._widest = min(max([NAME[0], *names]) + 4 * any(line.node for line in lines), NAME[1])
        self.show(lines)
        self._say()

    def key_of(self, item: Line) -> object:
        return item.key

    @property
    def tall(self) -> int:
        return 1

    @property
    def _top(self) -> int:
        return 1 if self.items else 0

    @property
    def _grouped(self) -> bool:
        return any(line.node for line in self.items[:1])

    def _names(self, width: int) -> int:
        return max(NAME[0], min(self._widest, width // 2))

    def seen(self, width: int) -> list[Field]:
        """The columns that there is room for."""
        room = width - 3 - self._names(width) - 1
        room -= sum(cells + 1 for _, cells in FIGURES) if self._grouped else 0
        found: list[Field] = []
        for column in self.columns[self.first :]:
            room -= self._sizes[column.key] + 1
            if room < -1 and found:
                break
            found.append(column)
        return found

    def head(self, width: int) -> Text:
        cells = self._names(width)
        line = Text("   " + f"{'name' + self._arrow('name'):<{cells}} ")
        if self._grouped:
            line.append("".join(f"{name:>{size}} " for name, size in FIGURES))
        for column in self.seen(width):
            word, size = column.key + self._arrow(column.key), self._sizes[column.key]
            line.append(f"{word:>{size}} " if column.kind in RIGHT else f"{word:<{size}} ")
        return line

    def _arrow(self, key: str) -> str:
        return "" if key != self.sorted[0] else " ▼" if self.sorted[1] else " ▲"

    def paint(self, item: Line, width: int) -> list[Text]:
        cells = self._names(width)
        line = Text()
        indent = "  " * item.depth
        if item.node is not None:
            marked = all(run.path in self.selection.marked for run in item.runs)
            line.append(" ◆ " if marked else "   ", self._colour("accent"))
            label = f"{indent}{'▾' if item.open else '▸'} {escaped(item.node.label)}"
            line.append(f"{_cut(label, cells)} ", "bold")
            mean, sd, metric = item.node.mean, item.node.sd, item.node.figure.format_as
            told = (
                str(len(item.node.values)),
                "" if mean is None else format_value(mean, metric),
                "" if sd is None else format_value(sd, metric),
            )
            line.append("".join(f"{word:>{size}} " for word, (_, size) in zip(told, FIGURES, strict=True)))
            count = len(item.runs)
            return [line.append(f"{count} run{'s' * (count > 1)}", "dim")]
        assert item.run is not None
        line.append(self.selection.glyphs(item.run.path) + " ", self._colour("accent"))
        name = escaped(item.run.name)
        line.append(_cut(indent + short_name(name, cells - len(indent)), cells) + " ")
        if self._grouped:
            line.append(" " * sum(size + 1 for _, size in FIGURES))
        for column in self.seen(width):
            size = self._sizes[column.key]
            if column is RUN_FIELDS["status"]:
                status = item.run.status
                colour = self._colour(STATUS_COLORS.get(status, "warning"))
                line.append(f"{STATUSES[status].glyph} ", f"bold {colour}").append(f"{status:<{size - 2}} ", colour)
                continue
            text = escaped(column.text(item.run))
            line.append(f"{fit(text, size):>{size}} " if column.kind in RIGHT else f"{_cut(text, size)} ")
        return [line]

    def _colour(self, name: str) -> str:
        return self.app.theme_variables.get(name, "")

    def _say(self) -> None:
        seen = self.seen(max(40, self.size.width))
        shown = f"columns {self.first + 1}-{self.first + len(seen)} of {len(self.columns)}  ← →"
        self.border_subtitle = shown if len(seen) < len(self.columns) and self.items else ""

    def on_resize(self) -> None:
        super().on_resize()
        self._say()

    def _turn(self, to: int) -> None:
        last = self.first + len(self.seen(self.size.width)) >= len(self.columns)
        if to < self.first or not last:
            self.first = max(0, to)
        self._say()
        self.refresh()

    def action_left(self) -> None:
        """Columns further to the left."""
        self._turn(self.first - 1)

    def action_right(self) -> None:
        """Columns further to the right."""
        self._turn(self.first + 1)


def _cut(text: str, cells: int) -> str:
    """The text in exactly so many cells."""
    text = fit(text, cells)
    return text + " " * (cells - cell_len(text))
