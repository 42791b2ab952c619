"""A chart as a widget: its series come from a function of the x axis and are drawn by `convnn.charts`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from convnn.charts.chart import Chart, Series, draw
from convnn.charts.layout import Range
from convnn.runs.history import Axis
from tui.widgets.chart_settings import ChartSettings


@dataclass(frozen=True)
class ChartData:
    """What a chart draws: series, and vertical marks as (x, label)."""

    series: Sequence[Series] = ()
    marks: Sequence[tuple[float, str]] = ()


DataSource = Callable[[Axis], ChartData]


def no_data(x: Axis) -> ChartData:
    """The source of a chart that has nothing to draw yet."""
    return ChartData()


class ChartView(Widget):
    """A chart that fills its container; `letters` draws curves as letters, for a terminal without braille."""

    DEFAULT_CSS = "ChartView { width: 1fr; height: 1fr; }"

    def __init__(self, placeholder: str, *, letters: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self.letters = letters
        self.placeholder = placeholder  # shown while there is no point to draw
        self.source: DataSource = no_data
        self.data = ChartData()
        self.settings = ChartSettings()
        self.full_range: Range = (0.0, 0.0)
        self.chart: Chart | None = None  # as last drawn
        self._strips: list[Strip] | None = None
        self._drawn_size = Size(0, 0)

    def load(self, x: Axis) -> None:
        self.data = self.source(x)

    @property
    def data_range(self) -> Range | None:
        """The first and the last x of the series; None without a point."""
        ends = [float(series.xs[index]) for series in self.data.series if len(series.xs) for index in (0, -1)]
        if not ends:
            return None
        return (min(ends), max(ends))

    def draw(self, settings: ChartSettings, full_range: Range) -> None:
        """Draw the data; `full_range` is the x range that the linked charts have together."""
        self.settings, self.full_range = settings, full_range
        self._strips = None
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips = None

    def render_line(self, y: int) -> Strip:
        """Return a line of the chart; strips are made at once, without the detour over Textual's own text."""
        if self._strips is None or self._drawn_size != self.size:
            self._strips, self._drawn_size = self._render_strips(), self.size
        if y < len(self._strips):
            return self._strips[y]
        return Strip.blank(self.size.width, self.rich_style)

    def _render_strips(self) -> list[Strip]:
        start, end = self.settings.window(self.full_range)
        width, height = self.size
        self.chart = draw(
            self.data.series,
            width,
            height,
            x=self.settings.x,
            log_y=self.settings.log_y,
            x_range=(start, end) if end > start else None,
            cursor=self.settings.cursor,
            marks=self.data.marks,
            smoothing=self.settings.smoothing,
            empty_text=self.placeholder,
            letters=self.letters,
        )
        base = self.rich_style
        return [Strip(_segments(line, base), width) for line in self.chart.lines]


def _segments(line: Text, base: Style) -> list[Segment]:
    """The segments of a line whose spans follow one another: five times faster than Text.render."""
    segments, end_of_last, text = [], 0, line.plain
    for start, end, style in line.spans:
        segments += [Segment(text[end_of_last:start], base), Segment(text[start:end], base + Style.parse(str(style)))]
        end_of_last = end
    segments.append(Segment(text[end_of_last:], base))
    return [segment for segment in segments if segment.text]
