"""The classes pane: what the best weights of the run get wrong on the test images, from the predictions it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from textwrap import wrap
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from convnn import predictions
from convnn.analysis.class_order import CLASS_ORDERS, ClassOrder
from convnn.analysis.classification_report import ClassificationReport
from convnn.errors import UserError
from convnn.runs.history import History
from convnn.runs.run import Run
from convnn.tables import Table, blocks
from convnn.terminal.classification_view import matrix_lines
from convnn.text import escaped
from tui.keys import bindings
from tui.process.evaluation import save_predictions
from tui.screens.run.pane import Changes, Pane, tone_style

if TYPE_CHECKING:
    from tui.app import ConvnnApp

LOADING = "reading the predictions ..."
NO_FILE = (
    "This run keeps no predictions yet. It writes them with the checkpoint of its best epoch; "
    "E makes them of its best checkpoint, as convnn evaluate RUN --save does."
)
EVALUATING = "evaluating the best checkpoint in a child process ..."
MOST_CLASSES, MOST_CONFUSIONS = 200, 10  # rows
NOT_READ = -1  # no time at which a file was modified
ORDERS: tuple[ClassOrder, ...] = tuple(CLASS_ORDERS)


class ClassesPane(Pane, VerticalScroll):
    """Confusion matrix, the most frequent confusions, accuracy by class, and calibration."""

    app: ConvnnApp
    ID = "classes"
    TITLE = "classes"
    HELP = (
        "What the weights of the best epoch get wrong on the test images: the confusion matrix, a row by class and a "
        "column by answer; the most frequent confusions; accuracy by class with its 95 % interval; and how far "
        "confidence and accuracy differ. Arrows scroll."
    )
    MIN_HEIGHT = 20
    STARTS_HIDDEN = True
    DEFAULT_CSS = "ClassesPane { padding: 0 1; overflow: hidden auto; } ClassesPane > Static { height: auto; }"
    BINDINGS: ClassVar[list[BindingType]] = bindings("sort-classes", "evaluate", footer=("sort-classes", "evaluate"))

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.run: Run | None = None
        self.report: ClassificationReport | None = None
        self.order: ClassOrder = ORDERS[0]
        self.notice = LOADING
        self._names: Sequence[str] = ()
        self._modified: int | None = NOT_READ  # when the file was, in ns; None where there is none
        self._is_evaluating = False

    def compose(self) -> ComposeResult:
        yield Static(Text(LOADING, "dim"))

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda theme: self._update())

    def on_resize(self) -> None:
        self._update()

    # -- reading ----------------------------------------------------------------------------------------------------

    def show(self, history: History, changes: Changes) -> None:
        """Remember the run, and read its predictions where they are shown and new."""
        self.run = changes.run
        if history.started is not None:
            self._names = history.started.classes
        if self.display:
            self.load()

    def on_show(self) -> None:
        self.load()

    def load(self) -> None:
        """Read the predictions of the run unless they are those that are shown."""
        if self.run is None or self._is_evaluating:
            return
        try:
            modified = (self.run.path / predictions.NAME).lstat().st_mtime_ns
        except OSError:
            modified = None
        if modified != self._modified:
            self._modified = modified
            self.run_worker(self._load(self.run), group="predictions", exclusive=True, exit_on_error=False)

    async def _load(self, run: Run) -> None:
        try:
            latest = await asyncio.to_thread(predictions.read, run.path)
        except UserError as error:
            self.report, self.notice = None, str(error)
        else:
            self.report, self.notice = None, NO_FILE
            if latest is not None:
                self.report, self.notice = ClassificationReport(latest, self._names), ""
        self._update()

    # -- drawing ----------------------------------------------------------------------------------------------------

    def _update(self) -> None:
        if not (self.is_mounted and self.display):
            return
        width = self.scrollable_content_region.width
        content, self.border_subtitle = Text(escaped(self.notice), "bold"), ""
        if self.report is not None and width > 0:
            content = Text("\n", no_wrap=True).join(self._lines(self.report, width))
            self.border_subtitle = CLASS_ORDERS[self.order]
        self.query_one(Static).update(content)

    def _lines(self, report: ClassificationReport, width: int) -> list[Text]:
        style = partial(tone_style, self)
        result = [Text(report.summary(), style("primary")), Text()]
        result += matrix_lines(report, self.order, width, style)
        for table in (
            report.confusion_table(MOST_CONFUSIONS),
            report.class_table(self.order, MOST_CLASSES),
            report.calibration_table(),
        ):
            result += [Text(), *_table_lines(table, width)]
        return result

    # -- actions ----------------------------------------------------------------------------------------------------

    def action_sort_classes(self) -> None:
        """Order the classes of matrix and table by the next of the orders."""
        position = ORDERS.index(self.order)
        self.order = ORDERS[(position + 1) % len(ORDERS)]
        self._update()

    def action_evaluate(self) -> None:
        """Write the predictions of the best checkpoint anew, in a child process."""
        if self.run is None or self._is_evaluating:
            return
        self._is_evaluating, self.notice = True, EVALUATING
        self.report = None
        self._update()
        self.run_worker(self._evaluate(self.run), group="predictions", exclusive=True, exit_on_error=False)

    async def _evaluate(self, run: Run) -> None:
        try:
            await save_predictions(run, self.app.root)
        except (UserError, OSError) as error:
            self.app.say(str(error), error=True)
        finally:
            self._is_evaluating, self._modified = False, NOT_READ
        self.load()


def _table_lines(table: Table, width: int) -> list[Text]:
    result = [Text(part, "bold") for part in wrap(table.title, max(8, width))]
    if not table.rows:
        return result
    for index, (header, *rows) in enumerate(blocks(table, width)[0]):
        if index:
            result.append(Text())
        result += [Text(header, "dim"), *map(Text, rows)]
    return result
