"""The neighbors pane: which positions a layer chooses for a query on an image, which keys and the mouse move."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import islice
from textwrap import wrap
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.strip import Strip

from convnn.analysis.fields import get_field
from convnn.charts.half_blocks import MAX_REDUCTION, MAX_SCALE
from convnn.config.recorded import UNKNOWN
from convnn.errors import UserError
from convnn.events import Saved
from convnn.neighbors.export import FORMATS, write
from convnn.neighbors.inspection import Inspection, LayerNeighbors, Point, shared_share
from convnn.paths import new_file
from convnn.runs.history import History
from convnn.runs.run import Run
from convnn.terminal.neighbor_view import NeighborView, neighbor_view
from convnn.text import escaped
from tui.dialogs.choice import Answer, Choice
from tui.dialogs.prompt import Prompt
from tui.keys import bindings
from tui.process.inspection import InspectionRequest, inspect
from tui.say import reporting_errors
from tui.screens.run.pane import Changes, Pane
from tui.widgets.run_name import short_name

if TYPE_CHECKING:
    from tui.app import ConvnnApp

LOADING = "computing the neighbors of all layers in a child process ..."
NO_CHECKPOINT = "no checkpoint was written yet"
PAGE = 8  # lines of the list
MOST_RUNS = 30  # that are offered to compare with
SPLITS = ("test", "val", "train")
K = get_field("K")


class NeighborsPane(Pane):
    """An image, a query, its neighbors in a layer, and what a second checkpoint changes."""

    app: ConvnnApp
    ID = "neighbors"
    TITLE = "neighbors"
    HELP = (
        "Which positions a layer chooses as the neighbors of a query (Q) on an image, numbered in its order, with "
        "their scores; the ordinary convolution's window is tinted, and drawn beside the image. Arrows or a click move "
        "the query. With a second checkpoint, - marks neighbors that it lost and + those that it gained."
    )
    MIN_HEIGHT = 22
    STARTS_HIDDEN = True
    DEFAULT_CSS = "NeighborsPane { padding: 0 1; }"
    BINDINGS: ClassVar[list[BindingType]] = bindings(
        "up", "down", "left", "right", "page-up", "page-down", "next-layer", "previous-layer", "image", "weights",
        "second-weights", "figure", "zoom-in", "zoom-out", "zoom-reset",
        footer=("next-layer", "image", "weights", "second-weights"),
    )  # fmt: skip

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.run: Run | None = None
        self.request = InspectionRequest()
        self.inspection: Inspection | None = None
        self.against: Inspection | None = None
        self.notice = LOADING
        self.slot = ""
        self.pixel = Point(0, 0)
        self.scale: Fraction | None = None  # None fits the image into the pane
        self.first_line = 0  # of the list
        self.view: NeighborView | None = None
        self._history: History | None = None
        self._shares: dict[str, float | None] = {}  # of neighbors shared over a layer's map, by slot
        self._strips: list[Strip] | None = None
        self._notice_lines = 0  # above the image
        self._shown_request = self.request
        self._has_loaded = False
        self._is_outdated = False  # a checkpoint was written since it was computed

    # -- loading ----------------------------------------------------------------------------------------------------

    def show(self, history: History, changes: Changes) -> None:
        """Remember the run: its neighbors are computed when the pane is shown, and later checkpoints are offered."""
        is_new = self.run != changes.run
        self.run, self._history = changes.run, history
        if is_new or self.notice == NO_CHECKPOINT:
            self._has_loaded = False
            self.on_show()
        elif not self._is_outdated and any(isinstance(event, Saved) for event in changes.events):
            self._is_outdated = True
            self._redraw()

    def on_show(self) -> None:
        if self.display and not self._has_loaded and self.run is not None:
            self.load()

    def load(self) -> None:
        """Compute the neighbors that are asked for; an earlier computation is given up."""
        if self.run is None:
            return
        self._has_loaded, self._is_outdated = True, False
        if not self.run.has_checkpoint:
            self.notice = NO_CHECKPOINT
            self._redraw()
            return
        self.notice = LOADING
        self._redraw()
        self.run_worker(self._load(self.run, self.request), group="inspection", exclusive=True, exit_on_error=False)

    async def _load(self, run: Run, request: InspectionRequest) -> None:
        try:
            inspection, against = await inspect(run, self.app.root, request)
        except (UserError, OSError) as error:
            self.request, self.notice = self._shown_request, str(error)  # the next change is one of what is shown
            self._redraw()
        else:
            self._shown_request = request
            self.present(inspection, against)

    def present(self, inspection: Inspection, against: Inspection | None = None) -> None:
        """Show what the layers of one checkpoint, or of two, chose on an image."""
        if self.inspection is None or inspection.pixels.shape != self.inspection.pixels.shape:
            height, width, _ = inspection.pixels.shape
            self.pixel, self.scale = Point(height // 2, width // 2), None
        self.inspection, self.against, self.notice, self._shares = inspection, against, "", {}
        if self.slot not in inspection.layers:
            self.slot = next(iter(inspection.layers))
        self._redraw()

    # -- drawing ----------------------------------------------------------------------------------------------------

    @property
    def _layer(self) -> LayerNeighbors | None:
        if self.inspection is None:
            return None
        return self.inspection.layers[self.slot]

    @property
    def _second_layer(self) -> LayerNeighbors | None:
        """The layer of the second checkpoint, if it has one with a map of the same size."""
        second = self.against.layers.get(self.slot) if self.against else None
        if self._layer is None or second is None or second.sides != self._layer.sides:
            return None
        return second

    def _redraw(self) -> None:
        self._strips = self._draw() if self.display else None
        self.refresh()

    def on_resize(self) -> None:
        self._redraw()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips = None

    def render_line(self, y: int) -> Strip:
        """Return a line of the pane; all are made at once after a change."""
        if self._strips is None:
            self._strips = self._draw()
        if y < len(self._strips):
            return self._strips[y]
        return Strip.blank(self.content_size.width, self.rich_style)

    def _draw(self) -> list[Strip]:
        width, height = self.content_size
        lines = [Text(line, style="bold") for line in wrap(escaped(self.notice), max(8, width))]
        self._notice_lines = len(lines)
        height -= len(lines)
        self.view = None
        if self.inspection is not None and height > 4 and width > 8:
            self.view = self._neighbor_view(self.inspection, width, height)
            lines += self.view.lines
        self.border_subtitle = Text(self._subtitle())
        console, base = self.app.console, self.rich_style
        return [
            Strip(line.render(console, end=""), line.cell_len).apply_style(base).adjust_cell_length(width, base)
            for line in lines
        ]

    def _neighbor_view(self, inspection: Inspection, width: int, height: int) -> NeighborView:
        has_colors = not self.app.no_color and self.app.console.color_system not in (None, "standard")
        return neighbor_view(
            inspection,
            self.slot,
            self.pixel,
            width,
            height,
            letters=self.app.ascii or not has_colors,
            against=self.against,
            scale=self.scale,
            share=self._share(),
            first_line=self.first_line,
        )

    def _share(self) -> float | None:
        """The share of neighbors that both checkpoints choose over the map of the layer, computed once."""
        layer, second = self._layer, self._second_layer
        if layer is None or second is None:
            return None
        if self.slot not in self._shares:
            self._shares[self.slot] = shared_share(layer, second)
        return self._shares[self.slot]

    def _subtitle(self) -> str:
        if self.inspection is None or self.view is None:
            return ""
        slots = list(self.inspection.layers)
        parts = [f"layer {slots.index(self.slot) + 1} of {len(slots)}"]
        if self._is_outdated:
            parts.append("new checkpoint: b")
        if self.view.hidden_lines:
            parts.append(f"{self.view.hidden_lines} more below: page down")
        return escaped(", ".join([*parts, *self.inspection.notes]))

    # -- moving -----------------------------------------------------------------------------------------------------

    def _move(self, rows: int, columns: int) -> None:
        """Move the query by positions of the layer's map, up to its edges."""
        if (layer := self._layer) is None:
            return
        query = layer.position(self.pixel)
        y = min(max(0, query.y + rows), layer.sides[0] - 1)
        x = min(max(0, query.x + columns), layer.sides[1] - 1)
        if (y, x) != query:
            self.pixel = Point(y * layer.patch, x * layer.patch)
            self._redraw()

    def action_move_row(self, rows: int) -> None:
        self._move(rows, 0)

    def action_move_column(self, columns: int) -> None:
        self._move(0, columns)

    def on_click(self, event: events.Click) -> None:
        """Move the query to the pixel under the mouse."""
        offset = event.get_content_offset(self)
        if offset is None or self.view is None or self.inspection is None:
            return
        pixel = self.view.pixel(offset.y - self._notice_lines, offset.x, self.inspection.pixels.shape)
        if pixel is not None:
            self.pixel = pixel
            self._redraw()

    def action_move_page(self, pages: int) -> None:
        if self.view is not None and (pages < 0 or self.view.hidden_lines):
            self.first_line = max(0, self.first_line + min(pages * PAGE, self.view.hidden_lines))
            self._redraw()

    def action_change_layer(self, steps: int) -> None:
        if self.inspection is not None:
            slots = list(self.inspection.layers)
            self.slot, self.first_line = slots[(slots.index(self.slot) + steps) % len(slots)], 0
            self._redraw()

    def action_zoom_reset(self) -> None:
        self.scale = None
        self._redraw()

    def action_zoom(self, direction: int) -> None:
        """Draw a pixel with one dot more or less a side; of several pixels a dot, about half or twice as many."""
        if self.view is None:
            return
        scale = self.view.scale
        if direction > 0 and scale < 1:
            scale = Fraction(1, scale.denominator // 2)
        elif direction > 0:
            scale += 1
        elif scale > 1:
            scale -= 1
        else:
            scale /= 2
        self.scale = min(max(Fraction(1, MAX_REDUCTION), scale), Fraction(MAX_SCALE))
        self._redraw()

    # -- choosing ---------------------------------------------------------------------------------------------------

    def action_image(self) -> None:
        """Ask for an image by its number or a file."""
        self.app.ask(Prompt("image", "a number from 0, such as 7 or train 7; or the path of a file"), self._show_image)

    def _show_image(self, text: str) -> None:
        split, _, number = text.strip().rpartition(" ")
        if split in SPLITS:
            self._change_request(image=number, split=split)
        else:
            self._change_request(image=text.strip(), split="")

    def _change_request(self, **changes: str) -> None:
        self.request = replace(self.request, **changes)
        self.load()

    def action_weights(self) -> None:
        """Choose the checkpoint."""
        answers = self._checkpoint_answers()
        dialog = Choice("checkpoint", "", answers, current=self.request.checkpoint)
        self.app.ask(dialog, lambda checkpoint: self._change_request(checkpoint=checkpoint))

    def _checkpoint_answers(self) -> list[Answer]:
        answers: list[Answer] = [("best", "best", "of the best epoch so far"), ("last", "last", "the newest")]
        if self.run and self._history:
            epochs = {epoch.step: epoch.epoch for epoch in self._history.epochs}
            steps = [step for step in self.run.checkpoint_steps() if step in epochs]
            answers += [(str(epochs[step]), f"epoch {epochs[step]}", f"step {step}") for step in steps]
        return answers

    def action_second_weights(self) -> None:
        """Choose a checkpoint of this run or of another to compare with."""
        if self.run is None:
            return
        answers: list[Answer] = [("", "none", "one checkpoint alone")]
        answers += [(f":{name}", label, f"this run, {about}") for name, label, about in self._checkpoint_answers()]
        own_path = str(self.run.path)
        candidates = (run for run in self.app.runs if run.path != own_path and K.effective(run) is not UNKNOWN)
        others = (run for run in candidates if run.run.has_checkpoint)
        for run in islice(others, MOST_RUNS):
            answers.append((f"{run.path}/:best", short_name(run.name, 40), "its best checkpoint"))
        dialog = Choice("compare with", "", answers, current=self.request.against)
        self.app.ask(dialog, lambda against: self._change_request(against=against))

    # -- writing ----------------------------------------------------------------------------------------------------

    def action_figure(self) -> None:
        """Ask for a new file to write what is shown into."""
        if self.inspection is not None:
            question = Prompt("figure", f"a new file that ends in {', '.join(FORMATS)}")
            self.app.ask(question, self._write)

    def _write(self, name: str) -> None:
        if self.inspection is None:
            return
        against = None if self._second_layer is None else self.against
        with reporting_errors(self.app.say):
            path = new_file(name.strip(), FORMATS)
            write(path, self.inspection, self.slot, self.pixel, against)
            self.app.say(f"written: {path.absolute()}")
