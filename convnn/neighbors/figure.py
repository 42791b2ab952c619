"""A figure of the neighbors of one query, as SVG or PNG made of the same shapes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from PIL import Image, ImageDraw, ImageFont

from convnn.neighbors.inspection import Inspection, Neighbor, Point, neighbor_changes
from convnn.text import escaped

if TYPE_CHECKING:
    import numpy as np

SIDE = 560  # of the image in points, at least half of it
MARGIN, LINE, TEXT = 16, 18, 13  # points
HEAD = 2 * LINE + MARGIN  # above the image
LIST_WIDTH, LIST_COLUMNS = 210, (0, 34, 90)
QUERY, NEIGHBOR, WINDOW, LOST, GAINED = "#e69f00", "#0072b2", "#cc79a7", "#d55e00", "#009e73"  # Okabe and Ito's palette
BLACK, WHITE = "#000000", "#ffffff"


@dataclass(frozen=True)
class Box:
    """A rectangle: its outline, or with `is_filled` the area."""

    x: float
    y: float
    width: float
    height: float
    color: str
    is_filled: bool = False
    stroke: float = 2


@dataclass(frozen=True)
class Label:
    """A line of text; centered on its point, or else from it to the right."""

    x: float
    y: float
    text: str
    color: str = BLACK
    is_centered: bool = False
    size: float = TEXT


@dataclass
class Figure:
    """Images and shapes over them, in points."""

    width: float
    height: float
    images: list[tuple[float, float, float, np.ndarray]] = field(default_factory=list)  # x, y, points per pixel, pixels
    shapes: list[Box | Label] = field(default_factory=list)

    def svg(self, about: str) -> str:
        """Return the figure as SVG, with `about` as its description; the image in it is a PNG, not smoothed."""
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:g}" height="{self.height:g}" '
            f'viewBox="0 0 {self.width:g} {self.height:g}" font-family="Helvetica, Arial, sans-serif">',
            f"<desc>{_xml(about)}</desc>",
            f'<rect width="100%" height="100%" fill="{WHITE}"/>',
        ]
        for x, y, zoom, pixels in self.images:
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            data = base64.b64encode(buffer.getvalue()).decode()
            height, width, _ = pixels.shape
            parts.append(
                f'<image x="{x:g}" y="{y:g}" width="{width * zoom:g}" height="{height * zoom:g}" '
                f'preserveAspectRatio="none" style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
            )
        parts += [_svg_shape(shape) for shape in self.shapes]
        return "\n".join([*parts, "</svg>\n"])

    def png(self, about: str, density: int = 2) -> bytes:
        """Return the figure as PNG of `density` pixels per point, with `about` as its description."""
        from PIL.PngImagePlugin import PngInfo

        canvas = Image.new("RGB", (round(self.width * density), round(self.height * density)), WHITE)
        for x, y, zoom, pixels in self.images:
            height, width, _ = pixels.shape
            size = round(width * zoom * density), round(height * zoom * density)
            enlarged = Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)
            canvas.paste(enlarged, (round(x * density), round(y * density)))
        draw = ImageDraw.Draw(canvas)
        for shape in self.shapes:
            if isinstance(shape, Box):
                corners = [shape.x, shape.y, shape.x + shape.width, shape.y + shape.height]
                area = [round(value * density) for value in corners]
                fill, outline = (shape.color, None) if shape.is_filled else (None, shape.color)
                draw.rectangle(area, fill, outline, width=max(1, round(shape.stroke * density)))
            else:
                font = ImageFont.load_default(shape.size * density)
                anchor = "mm" if shape.is_centered else "ls"
                draw.text((shape.x * density, shape.y * density), escaped(shape.text), shape.color, font, anchor)
        info = PngInfo()
        info.add_itxt("Description", about)
        buffer = io.BytesIO()
        canvas.save(buffer, "PNG", pnginfo=info, dpi=(72 * density, 72 * density))
        return buffer.getvalue()


def neighbor_figure(inspection: Inspection, slot: str, pixel: Point, against: Inspection | None = None) -> Figure:
    """Return the image with the query, its numbered neighbors and the ordinary window, and the list of their scores.

    With `against`, a second panel shows that checkpoint; neighbors that the two do not share are in other colors.
    """
    layer = inspection.layers[slot]
    query = layer.position(pixel)
    neighbors = layer.neighbors(query)
    panels = [(inspection, _colored(neighbors, (), LOST))]
    if against is not None:
        second = against.layers[slot].neighbors(query)
        changes = neighbor_changes(neighbors, second)
        panels = [
            (inspection, _colored(neighbors, changes.lost, LOST)),
            (against, _colored(second, changes.gained, GAINED)),
        ]
    height, width, _ = inspection.pixels.shape
    zoom = max(1, SIDE // max(height, width))
    panel_width = width * zoom + MARGIN + LIST_WIDTH
    body = max(height * zoom, (max(len(marks) for _, marks in panels) + 1) * LINE)
    figure = Figure(MARGIN + len(panels) * (panel_width + MARGIN), HEAD + body + 2 * MARGIN)
    for number, (panel_inspection, marks) in enumerate(panels):
        left = MARGIN + number * (panel_width + MARGIN)
        _add_panel(figure, panel_inspection, slot, query, marks, left, zoom)
    return figure


def _colored(neighbors: Sequence[Neighbor], unshared: Sequence[Neighbor], color: str) -> list[tuple[Neighbor, str]]:
    """Return neighbors with their colors: the query and the unshared neighbors have their own."""
    colors = {neighbor.slot: color for neighbor in unshared}
    colors |= {neighbor.slot: QUERY for neighbor in neighbors if neighbor.is_query}
    return [(neighbor, colors.get(neighbor.slot, NEIGHBOR)) for neighbor in neighbors]


def _add_panel(
    figure: Figure,
    inspection: Inspection,
    slot: str,
    query: Point,
    marks: Sequence[tuple[Neighbor, str]],
    left: float,
    zoom: float,
) -> None:
    layer = inspection.layers[slot]
    step = layer.patch * zoom
    figure.shapes += [
        Label(left, LINE, f"{slot} of {inspection.run}, {inspection.checkpoint_text}"),
        Label(left, 2 * LINE, inspection.image_text),
    ]
    figure.images.append((left, HEAD, zoom, inspection.pixels))
    window_rows, window_columns = layer.window_lines(query.y), layer.window_lines(query.x)
    rows = max(0, window_rows.start), min(layer.sides[0], window_rows.stop)
    columns = max(0, window_columns.start), min(layer.sides[1], window_columns.stop)
    figure.shapes.append(
        Box(
            left + columns[0] * step,
            HEAD + rows[0] * step,
            (columns[1] - columns[0]) * step,
            (rows[1] - rows[0]) * step,
            WINDOW,
            stroke=3,
        )
    )
    list_left = left + inspection.pixels.shape[1] * zoom + MARGIN
    rows_of_list = [("slot", "y, x", layer.score, BLACK)]
    for neighbor, color in marks:
        place = "pad" if neighbor.is_padding else f"{neighbor.point.y}, {neighbor.point.x}"
        score = f"{neighbor.score:.4g}" + (" (query)" if neighbor.is_query else "")
        rows_of_list.append((str(neighbor.slot), place, score, color))
        if neighbor.is_padding:
            continue
        x, y = left + neighbor.point.x * step, HEAD + neighbor.point.y * step
        figure.shapes += [
            Box(x, y, step, step, color),
            Box(x + step / 2 - 6, y + step / 2 - 6, 12, 12, color, is_filled=True),
            Label(x + step / 2, y + step / 2, str(neighbor.slot), WHITE, is_centered=True, size=10),
        ]
    for line, (*cells, text_color) in enumerate(rows_of_list):
        for offset, text in zip(LIST_COLUMNS, cells, strict=True):
            figure.shapes.append(Label(list_left + offset, HEAD + TEXT + line * LINE, text, text_color))


def _svg_shape(shape: Box | Label) -> str:
    if isinstance(shape, Box):
        paint = f'fill="{shape.color}"'
        if not shape.is_filled:
            paint = f'fill="none" stroke="{shape.color}" stroke-width="{shape.stroke:g}"'
        area = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}"'
        return f"<rect {area} {paint}/>"
    anchor = ' text-anchor="middle" dominant-baseline="central"' if shape.is_centered else ""
    attributes = f'x="{shape.x:g}" y="{shape.y:g}" font-size="{shape.size:g}" fill={quoteattr(shape.color)}'
    return f"<text {attributes}{anchor}>{_xml(shape.text)}</text>"


def _xml(text: str) -> str:
    return escape(escaped(text).encode("utf-8", "backslashreplace").decode())
