"""What the live view and `convnn show` draw: panes of curves, names beside values, and the report of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from convnn.charts.chart import Chart, Series, draw
from convnn.runs.history import History
from convnn.runs.status import status_label
from convnn.terminal import report
from convnn.terminal.report import OptionValue, Tone
from convnn.text import duration, fit, one_line

if TYPE_CHECKING:
    from convnn.analysis.comparison import Comparison

STYLES: dict[Tone, str] = {
    "primary": "cyan",
    "success": "green",
    "warning": "yellow",
    "error": "red",
    "bold": "bold",
    "dim": "dim",
    "": "",
}
STEP_CURVE_UNTIL = 5  # epochs: from then on a point an epoch shows enough of the loss
NARROWEST_PANE = 38  # columns of one pane beside another


def status_text(status: str, host: str | None = None) -> Text:
    """Return a status as glyph and word, in its color, and the other node that trains the run."""
    return Text(one_line(status_label(status, host)), f"bold {STYLES[report.status_tone(status)]}")


@dataclass
class CurvePanes:
    """Loss and accuracy of a run in at most `height` lines: side by side, or stacked where that is too narrow.

    Where there is room for a third pane, it is the utilization of the devices.
    """

    history: History
    height: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, self.height
        if width < NARROWEST_PANE * 2 and height >= 20:
            upper = height - height // 2
            yield from framed("loss", self._loss(width - 2, upper - 2, options), width)
            yield from framed("accuracy, %", self._accuracy(width - 2, height - upper - 2, options), width)
            return
        panes = [("loss", self._loss), ("accuracy, %", self._accuracy)]
        if self.history.system and width >= NARROWEST_PANE * 3:
            panes.append(("utilization, %", self._utilization))
        widths = [width * (index + 1) // len(panes) - width * index // len(panes) for index in range(len(panes))]
        height = min(height, max(18, widths[0] // 2))  # higher than wide, curves are hard to read
        columns = [
            framed(title, chart(pane_width - 2, height - 2, options), pane_width)
            for (title, chart), pane_width in zip(panes, widths, strict=True)
        ]
        for lines in zip(*columns, strict=True):
            yield Text.assemble(*lines, no_wrap=True)

    def _loss(self, width: int, height: int, options: ConsoleOptions) -> Chart:
        """Draw the loss of each split by epoch, in a young run also that of the steps."""
        curves = report.split_series(self.history, "loss")
        if len(self.history.epochs) < STEP_CURVE_UNTIL:
            xs, ys = self.history.series("loss", live=True)
            if xs:
                curves.append(Series("step", xs, ys, report.SERIES_COLORS["step"], is_background=True))
        return self._chart(curves, width, height, "waiting for the first step", options)

    def _accuracy(self, width: int, height: int, options: ConsoleOptions) -> Chart:
        curves = report.split_series(self.history, "top1")
        return self._chart(curves, width, height, "waiting for the first epoch to end", options)

    def _utilization(self, width: int, height: int, options: ConsoleOptions) -> Chart:
        curves = report.system_series("%", self.history.series)
        return self._chart(curves, width, height, "", options)

    def _chart(self, curves: list[Series], width: int, height: int, empty: str, options: ConsoleOptions) -> Chart:
        marks = report.chart_marks(self.history)
        return draw(curves, width, height, x="epoch", marks=marks, letters=options.ascii_only, empty_text=empty)


@dataclass
class ComparisonCurves:
    """The compared metric of all runs over each other, labeled with their letters, under its name."""

    comparison: Comparison
    width: int
    height: int = 14

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        metric = self.comparison.metric
        series = report.comparison_series(self.comparison, metric)
        empty = f"no epoch with {metric} yet"
        chart = draw(series, self.width, self.height, letters=options.ascii_only, empty_text=empty)
        yield Text(f"{metric} by epoch", "bold")
        for line in chart.lines:
            yield Text.assemble(line, no_wrap=True)


def framed(title: str, chart: Chart, width: int) -> list[Text]:
    """Return the lines of a chart in a box of that width, its title in the upper edge."""
    top = Text.assemble(("╭─ ", "dim"), (title, "bold"), (f" {'─' * (width - len(title) - 5)}╮", "dim"))
    side = Text("│", "dim")
    rows = [Text.assemble(side, line, side, no_wrap=True) for line in chart.lines]
    return [top, *rows, Text(f"╰{'─' * (width - 2)}╯", "dim")]


def pair_lines(pairs: Iterable[tuple[str, str]], width: int, most: int | None = None) -> list[Text]:
    """Return names and values in lines of at most that width, as many pairs a line as fit; at most `most` lines."""
    lines, used = [Text(no_wrap=True)], 0
    for name, value in pairs:
        name, value = one_line(name), one_line(value)
        size = len(name) + 1 + Text(value).cell_len
        if used and used + 3 + size > width:
            if len(lines) == most:
                continue  # a shorter pair may still fit
            lines.append(Text(no_wrap=True))
            used = 0
        if used:
            lines[-1].append("   ")
            used += 3
        lines[-1].append(f"{name} ", "dim").append(fit(value, width - len(name) - 1))
        used += size
    return lines


@dataclass
class RunReport:
    """What `convnn show` prints of a run: status, metrics, curves, and the configuration by section.

    Of the configuration only what differs from the defaults, unless `everything`. `origin` is the content of
    `imported.json` for a run that was not trained here.
    """

    name: str
    status: str
    config: Mapping[str, Mapping[str, Any]]
    history: History
    origin: Mapping[str, Any] = field(default_factory=dict)
    everything: bool = False
    chart_height: int = 18
    host: str | None = None  # the other node that trains it

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        yield self._title(width)
        yield from pair_lines([*report.key_values(self.history), *report.code_values(self.history)], width)
        yield from (Text(one_line(line)) for line in report.origin_lines(self.origin))
        yield from self._remarks()
        if self.history.steps or self.history.epochs:
            yield CurvePanes(self.history, self.chart_height)
        changed, unchanged = report.options_by_default(self.config)
        yield Text("differs from the defaults" if changed else "all options at their defaults", "bold")
        yield from _section_lines(changed, width)
        if self.everything and unchanged:
            yield Text("defaults", "bold")
            yield from _section_lines(unchanged, width)

    def _title(self, width: int) -> Text:
        progress = self.history.progress
        title = Text.assemble(status_text(self.status, self.host), "  ", (one_line(self.name), "bold"))
        extent = ""
        if progress.epochs:
            extent = f"  epoch {progress.epoch}/{progress.epochs}"
        if self.history.elapsed:
            extent += f"  {duration(self.history.elapsed)}"
        if title.cell_len + len(extent) > width:
            title.append("\n")
        return title.append(extent)

    def _remarks(self) -> Iterable[Text]:
        finished = self.history.finished
        if finished and finished.cause and not self.origin:
            yield Text(f"cause: {one_line(finished.cause)}")
        for warning in self.history.warnings:
            yield Text(f"warning: {one_line(warning.message)}", STYLES["warning"])
        for note in self.history.notes:
            text = f"note: {note.text}"
            if note.by:
                text += f" ({note.by})"
            yield Text(one_line(text))


def _section_lines(options: list[OptionValue], width: int) -> list[Text]:
    lines = []
    for section, rows in groupby(options, key=lambda option: option.section):
        label = one_line(section)
        for line in pair_lines([(option.name, option.value) for option in rows], max(20, width - 14)):
            lines.append(Text.assemble(f"  {label:<12}", line))
            label = ""
    return lines
