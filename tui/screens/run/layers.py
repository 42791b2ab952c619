"""The layers pane: what each layer chooses, as curves over the epochs of one statistic at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType

from convnn.charts.chart import MAX_CURVES, Series
from convnn.runs.history import Axis, History
from convnn.terminal.layer_report import NO_STATISTICS, STATISTICS, layer_series, recorded_statistics
from convnn.terminal.report import chart_marks
from tui.dialogs.choice import Choice
from tui.keys import bindings
from tui.screens.run.pane import Changes, Pane
from tui.widgets.chart_view import ChartData, ChartView
from tui.widgets.linked_charts import LinkedCharts

if TYPE_CHECKING:
    from tui.services import ServicesApp


class LayersPane(Pane):
    """A curve of each layer with neighbors or branches, as many at a time as a chart can show."""

    app: ServicesApp
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
        self.statistic = ""  # until some are known
        self.first_layer = 0  # of those that are shown
        self._history: History | None = None

    def compose(self) -> ComposeResult:
        yield ChartView(self.PLACEHOLDER, letters=self.app.ascii)

    def show(self, history: History, changes: Changes) -> None:
        self._history = history
        statistics = recorded_statistics(history)
        if self.statistic not in statistics:
            self.statistic = statistics[0] if statistics else ""
        chart = self.query_one(ChartView)
        chart.placeholder = NO_STATISTICS if changes.has_ended else self.PLACEHOLDER
        chart.source = self._data
        self._update_titles()

    def _data(self, x: Axis) -> ChartData:
        if self._history is None:
            return ChartData()
        curves = self._curves(x)[self.first_layer : self.first_layer + MAX_CURVES]
        return ChartData(curves, chart_marks(self._history, x))

    def _curves(self, x: Axis = "epoch") -> list[Series]:
        return layer_series(self._history, self.statistic, x) if self._history is not None else []

    def _update_titles(self) -> None:
        meaning = f": {STATISTICS[self.statistic].meaning}" if self.statistic else ""
        self.border_title = Text(f"{self.key} {self.TITLE}{meaning}")
        total = len(self._curves())
        last = min(self.first_layer + MAX_CURVES, total)
        self.border_subtitle = f"layers {self.first_layer + 1} to {last} of {total}" if total > MAX_CURVES else ""

    def _redraw(self) -> None:
        self._update_titles()
        self.screen.query_one(LinkedCharts).redraw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer other layers where a chart cannot show all of them."""
        if action in ("next_layer", "previous_layer"):
            return len(self._curves()) > MAX_CURVES
        return super().check_action(action, parameters)

    def action_metric(self) -> None:
        """Choose the statistic."""
        statistics = recorded_statistics(self._history) if self._history is not None else []
        if not statistics:
            self.app.say(NO_STATISTICS)
            return
        answers = [(name, name, STATISTICS[name].meaning) for name in statistics]
        self.app.push_screen(Choice("statistic", "of the curves", answers, current=self.statistic), self._choose)

    def _choose(self, statistic: str | None) -> None:
        if statistic is not None:
            self.statistic, self.first_layer = statistic, 0
            self._redraw()

    def action_next_layer(self) -> None:
        self._turn(MAX_CURVES)

    def action_previous_layer(self) -> None:
        self._turn(-MAX_CURVES)

    def _turn(self, layers: int) -> None:
        """Show the layers that come before or after."""
        first = self.first_layer + layers
        if 0 <= first < len(self._curves()):
            self.first_layer = first
            self._redraw()
