"""The panes of a comparison: its tables and notes, and the curves of all runs in one chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from convnn.analysis import comparison_report
from convnn.analysis.comparison import Comparison
from convnn.charts.chart import COLORS
from convnn.metrics import metric_info, monitored
from convnn.runs.history import Axis
from convnn.tables import Table, lines
from convnn.terminal.report import comparison_series
from convnn.text import escaped, plural
from tui.keys import bindings
from tui.widgets.chart_view import ChartData, ChartView

if TYPE_CHECKING:
    from tui.app import ConvnnApp

TWO_CHARTS_WIDTH = 110  # cells from which on there is room for a second chart


class ComparedTables(VerticalScroll):
    """Options that differ, significance, and metrics; tables scroll sideways where they do not fit."""

    app: ConvnnApp
    help_title = "comparison"
    HELP = (
        "The runs are called A, B, C and compared with A: the pinned run, or the one that was marked first; p takes "
        "the next. First the options that differ and have an effect, then whether the differences of the metrics are "
        "more than noise, then metrics at the last and best epoch and at equal epochs, seconds, images and FLOPs. "
        "`convnn compare` prints the same."
    )
    BINDINGS = bindings("left", "right")
    DEFAULT_CSS = "ComparedTables { padding: 0 1; scrollbar-gutter: stable; } ComparedTables > Static { height: auto; }"

    def __init__(self) -> None:
        super().__init__(id="tables", classes="pane")
        self.border_title = "differences and significance"
        self.comparison: Comparison | None = None
        self.first_column = 0  # of those that scroll sideways
        self._can_scroll = False  # to the right

    def compose(self) -> ComposeResult:
        yield Static("reading the runs ...", markup=False)

    def show(self, comparison: Comparison) -> None:
        """Show a comparison."""
        self.comparison = comparison
        self._write()

    def show_problem(self, problem: str) -> None:
        self.comparison = None
        text_lines = [*map(escaped, problem.splitlines()), "", "Press esc to go back."]
        self.query_one(Static).update(Text("\n".join(text_lines), "dim"))

    def on_resize(self) -> None:
        self._write()

    def _write(self) -> None:
        if self.comparison is None or not self.size.width:
            return
        runs, options, *metrics = comparison_report.tables(self.comparison)
        parts = (comparison_report.caveats, comparison_report.notes, comparison_report.verdicts)
        sentences = [sentence for part in parts for sentence in part(self.comparison)]
        width = self.scrollable_content_region.width
        first = self.first_column
        blocks = [
            table_text(runs, width, first, row_colors=COLORS),
            table_text(options, width, first),
            Text("\n").join(Text(escaped(sentence)) for sentence in sentences),
            *(table_text(table, width, first) for table in metrics),
        ]
        scrolls = any(hidden_columns(table, width, 0) for table in (runs, options, *metrics))
        self.border_subtitle = "← → more columns" if scrolls else ""
        self._can_scroll = any(hidden_columns(table, width, first) for table in (runs, options, *metrics))
        self.query_one(Static).update(Text("\n\n").join(blocks))

    def action_move_column(self, columns: int) -> None:
        if not self.border_subtitle:  # all fit: the value cursor of the charts moves
            raise SkipAction
        can_move = self._can_scroll
        if columns < 0:
            can_move = self.first_column > 0
        if can_move:
            self.first_column += columns
            self._write()
        else:
            self.app.say("there are no more columns")


def hidden_columns(table: Table, width: int, first: int) -> list[str]:
    """Return the titles of the columns at the right that there is no room for."""
    return lines(scrolled(table, width, first), width)[1]


def scrolled(table: Table, width: int, first: int) -> Table:
    """Return the table without the first columns after those that name a row, but no further than to its end."""
    names = max(1, table.key_columns)
    for _ in range(first):
        if not table.rows or not lines(table, width)[1]:
            break
        columns = [*table.columns[:names], *table.columns[names + 1 :]]
        table = replace(table, columns=columns, rows=[[*row[:names], *row[names + 1 :]] for row in table.rows])
    return table


def table_text(table: Table, width: int, first: int = 0, *, row_colors: Sequence[str] = ()) -> Text:
    """A table under its title, as many columns as fit; the first word of each row in the color of the run."""
    header_and_rows, hidden = lines(scrolled(table, width, first), width)
    if not table.rows:
        header_and_rows = []
    parts = []
    if table.title:
        parts.append(Text(escaped(table.title), "bold"))
    for index, line in enumerate(header_and_rows):
        text = Text(line, "" if index else "dim")
        if index and row_colors:
            text.stylize(f"bold {row_colors[(index - 1) % len(row_colors)]}", 0, line.find(" "))
        parts.append(text)
    if hidden:
        more = f"{plural(len(hidden), 'more column')}: {escaped(', '.join(hidden))}"
        parts.append(Text(f"→ {more}", "dim"))
    return Text("\n", no_wrap=True).join(parts)


class ComparedCurves(Widget, can_focus=True):
    """The curves of all runs in one chart; where there is room, of a second metric in another."""

    help_title = "curves"
    HELP = (
        "The metric of every run, labeled at its end. Left and right move a cursor that shows every value there; m "
        "chooses the metric, x goes through epochs, steps and seconds. At most eight curves are drawn; the others are "
        "counted."
    )
    app: ConvnnApp
    DEFAULT_CSS = "ComparedCurves { layout: horizontal; }"

    def __init__(self) -> None:
        super().__init__(id="curves", classes="pane")
        self.comparison: Comparison | None = None

    def compose(self) -> ComposeResult:
        yield ChartView("reading the runs ...", letters=self.app.ascii, id="chosen")
        second = ChartView("", letters=self.app.ascii, id="beside")
        second.display = False  # until there is something to draw, and room
        yield second

    def show(self, comparison: Comparison) -> None:
        """Show the curves of a comparison. The screen's `LinkedCharts` draws them."""
        self.comparison = comparison
        metrics = self.metrics
        for chart, metric in zip(self.query(ChartView), [*metrics, None], strict=False):
            chart.display = metric is not None
            if metric is not None:
                chart.placeholder = f"no {metric} was logged yet: press m to choose another metric"
                chart.source = lambda x, metric=metric: ChartData(comparison_series(comparison, metric, x))  # type: ignore[misc]

    def show_axis(self, x: Axis) -> None:
        """Show the metrics and the x axis in the title."""
        if self.comparison is not None:
            self.border_title = Text(f"{', '.join(self.metrics)} by {x}")

    @property
    def metrics(self) -> list[str]:
        """The chosen metric and, where there is room, the loss beside an accuracy or the other way round."""
        if self.comparison is None:
            return []
        chosen = self.comparison.metric
        second = "train_loss"
        if metric_info(chosen).name == "loss":
            second = monitored(validation=False)
        logged = {name for run in self.comparison.runs for name in run.history.metrics}
        if second in logged and self.app.size.width >= TWO_CHARTS_WIDTH:
            return [chosen, second]
        return [chosen]
