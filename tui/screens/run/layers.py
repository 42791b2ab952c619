"""The layers pane: what each layer chooses, as curves over the epochs of one statistic at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType

from convnn.charts.chart import MAX_CURVES
from convnn.runs.history import Axis, History
from convnn.terminal.layer_report import NO_STATISTICS, STATISTICS, layer_series, recorded_statistics
from convnn.terminal.report import chart_marks
from tui.dialogs.choice import Choice
from tui.keys import bindings
from tui.screens.run.pane import Changes, Pane
from tui.widgets.chart_view import ChartData, ChartView
from tui.widgets.linked_charts import LinkedCharts

if TYPE_CHECKING:
    from tui.app import ConvnnApp


class LayersPane(Pane):
    """A curve of each layer with neighbors or branches, as many at a time as a chart can show."""

    app: ConvnnApp
    ID = "layers"
    TITLE = "layers"
    HELP = (
        "What each layer chooses on a fixed batch of evaluation images after an epoch: how far its neighbors are, how "
        "many are padding, how often the same ones are chosen, and how the branches of a layer share its work. m "
        "chooses the statistic; [ and ] show the other layers of a model that has more than a chart can show."
    )
    MIN_HEIGHT = 16
    STARTS_HIDDEN = True
    PLACEHOLDER = "waiting for the first epoch to end"
    BINDINGS: ClassVar[list[BindingType]] = bindings(
        "metric", "next-layer", "previous-layer", footer=("metric", "next-layer")
    )

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.history = History()
        self.statistic = ""  # until some are known
        self.first_layer = 0  # of those that are shown
        self.layer_count = 0  # with the statistic

    def compose(self) -> ComposeResult:
        yield ChartView(self.PLACEHOLDER, letters=self.app.ascii)

    def show(self, history: History, changes: Changes) -> None:
        self.history = history
        chart = self.query_one(ChartView)
        chart.placeholder = NO_STATISTICS if changes.has_ended else self.PLACEHOLDER
        chart.source = self._data

    def _data(self, x: Axis) -> ChartData:
        """Return the curves that there is room for, and name them in the titles. A hidden chart has no data."""
        statistics = recorded_statistics(self.history)
        if self.statistic not in statistics:
            self.statistic = next(iter(statistics), "")
        curves = layer_series(self.history, self.statistic, x)
        self.layer_count = len(curves)
        self._update_titles()
        return ChartData(curves[self.first_layer : self.first_layer + MAX_CURVES], chart_marks(self.history, x))

    def _update_titles(self) -> None:
        title = f"{self.key} {self.TITLE}"
        if self.statistic:
            title += f": {STATISTICS[self.statistic].meaning}"
        self.border_title = Text(title)
        self.border_subtitle = ""
        if self.has_other_layers:
            last = min(self.first_layer + MAX_CURVES, self.layer_count)
            self.border_subtitle = f"layers {self.first_layer + 1} to {last} of {self.layer_count}"

    @property
    def has_other_layers(self) -> bool:
        """Whether a chart cannot show all layers."""
        return self.layer_count > MAX_CURVES

    def _redraw(self) -> None:
        self.screen.query_one(LinkedCharts).redraw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer other layers where there are some."""
        if action == "change_layer":
            return self.has_other_layers
        return super().check_action(action, parameters)

    def action_metric(self) -> None:
        statistics = recorded_statistics(self.history)
        if not statistics:
            self.app.say(NO_STATISTICS)
            return
        answers = [(name, name, STATISTICS[name].meaning) for name in statistics]
        self.app.ask(Choice("statistic", "of the curves", answers, current=self.statistic), self._choose)

    def _choose(self, statistic: str) -> None:
        self.statistic, self.first_layer = statistic, 0
        self._redraw()

    def action_change_layer(self, charts: int) -> None:
        """Show the layers that come before or after, as many as a chart can show."""
        first = self.first_layer + charts * MAX_CURVES
        if 0 <= first < self.layer_count:
            self.first_layer = first
            self._redraw()
