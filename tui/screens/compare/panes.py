"""A comparison of runs in panes: what there is to read, and the curves over each other."""

from __future__ import annotations

from functools import partial

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from convnn.analysis import comparison_report
from convnn.analysis.comparison import Comparison
from convnn.charts.chart import COLORS, Series
from convnn.metrics import metric_info, monitored
from convnn.runs.history import Axis
from convnn.tables import Table, lines
from convnn.text import escaped, to_ascii
from tui.widgets.chart_view import ChartData, ChartView

TWO_CHARTS_WIDTH = 110  # cells from which on there is room for a second chart


class ComparedTables(VerticalScroll):
    """What differs, what the differences are worth, and the figures."""

    help_title = "comparison"
    HELP = (
        "The runs are called A, B, C and held against A: the pinned run, else the one that was marked first; p takes "
        "the next. First the options that differ and have an effect, then whether the differences of the figures are "
        "more than noise, then figures at the last and best epoch and at equal epochs, seconds, images and FLOPs. "
        "`convnn compare` prints the same."
    )
    DEFAULT_CSS = "ComparedTables { padding: 0 1; scrollbar-gutter: stable; } ComparedTables > Static { height: auto; }"

    def __init__(self) -> None:
        super().__init__(id="tables", classes="pane")
        self.border_title = "what differs and what it is worth"
        self.comparison: Comparison | None = None

    def compose(self) -> ComposeResult:
        yield Static("reading the runs ...", markup=False)

    def show(self, comparison: Comparison) -> None:
        """Show a comparison."""
        self.comparison = comparison
        self._write()

    def show_problem(self, problem: str) -> None:
        """Say why there is nothing to compare."""
        self.comparison = None
        lines = [*map(escaped, problem.splitlines()), "", "Press esc to go back."]
        self.query_one(Static).update(Text("\n".join(lines), "dim"))

    def on_resize(self) -> None:
        self._write()

    def _write(self) -> None:
        if self.comparison is None or not self.size.width:
            return
        runs, differences, *figures = comparison_report.tables(self.comparison)
        ascii: bool = getattr(self.app, "ascii", False)
        width = self.scrollable_content_region.width
        parts = [self._table(runs, width, ascii, lettered=True), self._table(differences, width, ascii)]
        parts.append(Text("\n").join(Text(escaped(note)) for note in comparison_report.notes(self.comparison)))
        parts += [self._table(table, width, ascii) for table in figures]
        self.query_one(Static).update(Text("\n\n").join(parts))

    def _table(self, table: Table, width: int, ascii: bool, *, lettered: bool = False) -> Text:
        written, hidden = lines(table.mapped(to_ascii) if ascii else table, width)
        text = Text(no_wrap=True)
        if table.title:
            text.append((to_ascii(table.title) if ascii else table.title) + "\n" * bool(table.rows), "bold")
        for at, line in enumerate(written if table.rows else []):
            text.append("\n" * (at > 0))
            start = len(text)
            text.append(line, "" if at else "dim")
            if lettered and at:
                letter = len(line.split(" ", 1)[0])
                text.stylize(f"bold {COLORS[(at - 1) % len(COLORS)]}", start, start + letter)
        if hidden:
            text.append(f"\n{len(hidden)} columns have no room here: {', '.join(hidden)}", "dim")
        return text


class ComparedCurves(Widget, can_focus=True):
    """The curves of all runs in one chart; where there is room, of a second metric in another."""

    help_title = "curves"
    HELP = (
        "The metric of every run, labelled at its end. Left and right move a cursor that shows every value there; m "
        "chooses the metric, x goes through epochs, steps and seconds. At most eight curves are drawn; the others are "
        "counted."
    )
    DEFAULT_CSS = "ComparedCurves { layout: horizontal; }"

    def __init__(self) -> None:
        super().__init__(id="curves", classes="pane")
        self.comparison: Comparison | None = None

    def compose(self) -> ComposeResult:
        yield ChartView("reading the runs ...", id="chosen")
        second = ChartView("", id="beside")
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
                chart.source = partial(metric_data, comparison, metric)

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
        second = monitored(validation=False) if metric_info(chosen).name == "loss" else "train_loss"
        logged = {name for run in self.comparison.runs for name in run.history.metrics}
        if second in logged and self.app.size.width >= TWO_CHARTS_WIDTH:
            return [chosen, second]
        return [chosen]


def metric_data(comparison: Comparison, metric: str, x: Axis) -> ChartData:
    """The curves of a metric, one for each run that logged it."""
    labels = comparison_report.curve_labels(comparison)
    series = [
        Series(label, *run.history.series(metric, x), COLORS[index % len(COLORS)])
        for index, (label, run) in enumerate(zip(labels, comparison.runs, strict=True))
    ]
    return ChartData([curve for curve in series if curve.xs])
