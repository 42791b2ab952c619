"""The neighbors of one query on the image: drawn into it by their numbers, and as a list with their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from convnn.charts.half_blocks import RGB, HalfBlocks, Window, fit_scale, scaled, window_around
from convnn.neighbors.inspection import Inspection, LayerNeighbors, Neighbor, Point, neighbor_changes
from convnn.text import escaped, fit

QUERY = "Q"  # in the image; in the list the query has the number of its slot, too
NUMBERS = "123456789abcdefghijklmnopqrstuvwxyz"  # of slots, one cell each; MORE from there on
MORE, GAINED = "*", "+"
LIST_WIDTH = 28  # cells of the list beside the image
GAP = 2
# colors of the marks: (background, text) of a label, and the tint of what it covers
QUERY_COLOR, NEIGHBOR_COLOR, LOST_COLOR, GAINED_COLOR = (230, 177, 90), (90, 169, 230), (239, 107, 115), (108, 192, 139)
WINDOW_COLOR, WINDOW_STRENGTH, PATCH_STRENGTH = (190, 130, 220), 0.35, 0.45


@dataclass(frozen=True)
class NeighborView:
    """Lines to show, and where in them the image is."""

    lines: list[Text]
    top: int  # lines before the image
    window: Window  # of the image in dots
    scale: Fraction  # dots per pixel
    panels: int  # images side by side
    hidden_lines: int  # of the list, below those that are shown

    def pixel(self, row: int, column: int, shape: tuple[int, ...]) -> Point | None:
        """Return the pixel that a cell of the lines shows, the upper one of two; None outside the image."""
        panel, x = divmod(column, self.window.width + GAP)
        y = 2 * (row - self.top)
        if panel >= self.panels or not (0 <= y < self.window.height and x < self.window.width):
            return None
        pixel = Point(int((self.window.top + y) / self.scale), int((self.window.left + x) / self.scale))
        if pixel.y >= shape[0] or pixel.x >= shape[1]:
            return None
        return pixel


def slot_character(slot: int) -> str:
    """Return the character that stands for a slot in the image."""
    return NUMBERS[slot - 1] if slot <= len(NUMBERS) else MORE


def neighbor_view(
    inspection: Inspection,
    slot: str,
    pixel: Point,
    width: int,
    height: int | None = None,
    *,
    letters: bool,
    against: Inspection | None = None,
    scale: Fraction | None = None,
    share: float | None = None,
    first_line: int = 0,
    draws_image: bool = True,
) -> NeighborView:
    """Draw the neighbors of the query at a pixel into `width` by `height` cells.

    Args:
        slot: a slot of `inspection.layers`.
        height: None leaves the list as long as it is.
        letters: draw brightness as letters, for terminals without half-blocks or colors.
        against: another checkpoint on the same image, whose changes are shown: beside it where there is room.
        scale: dots per pixel; without it the largest at which the image fits.
        share: `shared_share` of both over the whole map, which takes longer than a look-up.
        first_line: of the list that is shown.
        draws_image: without it there is the list alone.
    """
    layer = inspection.layers[slot]
    query = layer.position(pixel)
    second = None
    if against is not None:
        second = against.layers.get(slot)
    marks = _marks(layer, second, query)
    head = _header(inspection, layer, against, width)
    columns, rows = max(8, width - LIST_WIDTH - GAP), max(4, (height or 40) - len(head))
    pixel_rows, pixel_columns, _ = inspection.pixels.shape
    panels = 1
    whole_scale = fit_scale(pixel_rows, pixel_columns, rows, columns)
    if marks.second:
        half_scale = fit_scale(pixel_rows, pixel_columns, rows, (columns - GAP) // 2)
        if half_scale >= min(Fraction(1), whole_scale):
            panels, columns, whole_scale = 2, (columns - GAP) // 2, half_scale
    scale = scale or whole_scale
    dots = scaled(inspection.pixels, scale)
    center_y, center_x = (int((start + 0.5) * layer.patch * scale) for start in query)
    window = window_around(center_y, center_x, dots.shape, rows, columns)
    shown_dots = dots[window.top : window.top + window.height, window.left : window.left + window.width]
    images = []
    for panel in range(panels if draws_image else 0):
        picture = HalfBlocks(shown_dots, letters=letters)
        points = marks.first_points(with_gained=panels == 1)
        if panel:
            points = marks.second_points()
        _mark(picture, layer, query, points, window, scale)
        images.append(picture.lines())
    side = _list(layer, query, marks, share)
    first_line = max(0, min(first_line, len(side) - rows))
    hidden = 0
    if height is not None:
        hidden = max(0, len(side) - first_line - rows)
        side = side[first_line : first_line + rows]
    lines = list(head)
    blank = Text(" " * window.width)
    for row in range(max([len(side), *map(len, images)])):
        parts = [image[row] if row < len(image) else blank for image in images]
        parts += side[row : row + 1]
        line = Text(" " * GAP, end="").join(parts)
        line.no_wrap, line.overflow = True, "crop"
        lines.append(line)
    return NeighborView(lines, len(head), window, scale, panels, hidden)


@dataclass(frozen=True)
class _Marks:
    """The neighbors of a query, and what a second checkpoint changes."""

    first: list[Neighbor]
    second: list[Neighbor]  # empty without a second checkpoint
    lost: frozenset[int]  # slots of the first
    gained: frozenset[int]  # slots of the second

    @property
    def gained_neighbors(self) -> list[Neighbor]:
        return [neighbor for neighbor in self.second if neighbor.slot in self.gained]

    def first_points(self, *, with_gained: bool) -> list[tuple[Point, str, RGB]]:
        """What is marked in the image of the first checkpoint."""
        points = _points(self.first, self.lost, LOST_COLOR)
        if with_gained:
            gained = [neighbor for neighbor in self.gained_neighbors if not neighbor.is_padding]
            points += [(neighbor.point, GAINED, GAINED_COLOR) for neighbor in gained]
        return points

    def second_points(self) -> list[tuple[Point, str, RGB]]:
        """What is marked in the image of the second checkpoint."""
        return _points(self.second, self.gained, GAINED_COLOR)


def _points(neighbors: Sequence[Neighbor], unshared: frozenset[int], color: RGB) -> list[tuple[Point, str, RGB]]:
    return [
        (neighbor.point, slot_character(neighbor.slot), color if neighbor.slot in unshared else NEIGHBOR_COLOR)
        for neighbor in neighbors
        if not (neighbor.is_query or neighbor.is_padding)
    ]


def _marks(layer: LayerNeighbors, second: LayerNeighbors | None, query: Point) -> _Marks:
    first = layer.neighbors(query)
    if second is None or second.sides != layer.sides:
        return _Marks(first, [], frozenset(), frozenset())
    neighbors = second.neighbors(query)
    changes = neighbor_changes(first, neighbors)
    slots = (frozenset(neighbor.slot for neighbor in some) for some in (changes.lost, changes.gained))
    return _Marks(first, neighbors, *slots)


def _header(inspection: Inspection, layer: LayerNeighbors, against: Inspection | None, width: int) -> list[Text]:
    height, breadth = layer.sides
    about = f"{layer.slot}  {layer.layer}  {height}x{breadth} map, K {layer.K} of {layer.candidates} candidates"
    if layer.sampling != "all":
        about += f" ({layer.sampling})"
    names = inspection.checkpoint_text
    if against is not None:
        names += " against "
        if against.run != inspection.run:
            names += f"{against.run} "
        names += against.checkpoint_text
    image = inspection.image_text
    if against is not None:
        image += f" against {against.prediction_text}"
    lines = [f"{names}  {image}"]
    if cell_len(escaped(lines[0])) > width:
        lines = [names, image]
    return [Text(fit(escaped(about), width), "bold"), *(Text(fit(escaped(line), width)) for line in lines)]


def _mark(
    picture: HalfBlocks,
    layer: LayerNeighbors,
    query: Point,
    points: Sequence[tuple[Point, str, RGB]],
    window: Window,
    scale: Fraction,
) -> None:
    """Tint the ordinary window, and mark the query and every neighbor in the map by its character."""
    step = layer.patch * scale  # dots per position
    size = max(1, int(step))

    def corner(point: Point) -> tuple[int, int]:
        return int(point.y * step) - window.top, int(point.x * step) - window.left

    for y in layer.window_lines(query.y):
        for x in layer.window_lines(query.x):
            if layer.contains(Point(y, x)):
                picture.tint(*corner(Point(y, x)), size, WINDOW_COLOR, WINDOW_STRENGTH)
    for point, text, color in [(query, QUERY, QUERY_COLOR), *points]:
        top, left = corner(point)
        if size > 1:
            picture.tint(top, left, size, color, PATCH_STRENGTH)
        style = Style(bold=True, reverse=True)
        if not picture.letters:
            style = Style(color="rgb(0,0,0)", bgcolor="rgb({},{},{})".format(*color), bold=True)
        picture.label((top + size // 2) // 2, left + (size - 1) // 2, text, style)


def _list(layer: LayerNeighbors, query: Point, marks: _Marks, share: float | None) -> list[Text]:
    """The query, the ordinary window with the neighbors in it, and a line per slot."""
    covered = ""
    if layer.patch > 1:
        covered = f", {layer.patch}x{layer.patch} pixels"
    inside = sum(neighbor.in_window for neighbor in marks.first)
    lines = [
        Text.assemble(("query ", "dim"), (f"y {query.y}, x {query.x}", "bold"), (covered, "dim")),
        Text.assemble((f"{inside} of {layer.K}", "bold"), (f" in the {layer.window}x{layer.window} window:", "dim")),
        *_window_grid(layer, query, marks.first),
    ]
    if marks.second:
        shared = sum(not neighbor.is_query for neighbor in marks.first) - len(marks.lost)
        lines.append(Text(f"{shared} shared, {len(marks.lost)} lost, {len(marks.gained)} gained", "bold"))
        if share is not None:
            lines.append(Text(f"{share:.0%} shared over the map", "dim"))
    if ties := layer.ties(query):
        first, last = (slot_character(neighbor.slot) for neighbor in (ties[0], ties[-1]))
        lines.append(Text(f"{first} to {last} tie: arbitrary choice"))
    lines.append(Text(f"   y, x      {layer.score}", "dim"))
    for neighbor in marks.first:
        sign = "-" if neighbor.slot in marks.lost else " "
        lines.append(_neighbor_line(f"{sign}{slot_character(neighbor.slot)}", neighbor))
    return [*lines, *(_neighbor_line(f"{GAINED}{slot_character(n.slot)}", n) for n in marks.gained_neighbors)]


def _neighbor_line(name: str, neighbor: Neighbor) -> Text:
    place = "pad" if neighbor.is_padding else f"{neighbor.point.y}, {neighbor.point.x}"
    score = "0" if neighbor.score == 0 else f"{neighbor.score:.4g}"
    about = ""
    if neighbor.is_query:
        about = "query"
    elif neighbor.in_window:
        about = "window"
    return Text.assemble((f"{name} ", "bold"), f"{place:<9} ", f"{score:<8} ", (about, "dim"))


def _window_grid(layer: LayerNeighbors, query: Point, neighbors: Sequence[Neighbor]) -> list[Text]:
    """The ordinary window around the query, with the characters of the neighbors in it; a dot is no neighbor."""
    characters = {
        neighbor.point: QUERY if neighbor.is_query else slot_character(neighbor.slot)
        for neighbor in reversed(neighbors)
        if not neighbor.is_padding
    }
    lines = []
    for y in layer.window_lines(query.y):
        points = [Point(y, x) for x in layer.window_lines(query.x)]
        cells = [characters.get(point, "." if layer.contains(point) else " ") for point in points]
        lines.append(Text("  " + " ".join(cells)))
    return lines
