"""The neighbors of one query on the image: drawn into it by their numbers, and as a list with their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from rich.style import Style
from rich.text import Text

from convnn.charts.half_blocks import HalfBlocks, Window, fit_scale, scaled, window_around
from convnn.neighbors.inspection import (
    Inspection,
    LayerNeighbors,
    Neighbor,
    Point,
    neighbor_changes,
)
from convnn.text import fit, plural

QUERY = "Q"
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

    def pixel(self, row: int, column: int, shape: tuple[int, ...]) -> Point | None:
        """Return the pixel that a cell of the lines shows, the upper one of two; None outside the image."""
        y, x = 2 * (row - self.top), column
        if not (0 <= y < self.window.height and 0 <= x < self.window.width):
            return None
        pixel = Point(int((self.window.top + y) / self.scale), int((self.window.left + x) / self.scale))
        return pixel if pixel.y < shape[0] and pixel.x < shape[1] else None


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
    draws_image: bool = True,
) -> NeighborView:
    """Draw the neighbors of the query at a pixel into `width` by `height` cells.

    Args:
        slot: a slot of `inspection.layers`.
        height: None leaves the list as long as it is.
        letters: draw brightness as letters, for terminals without half-blocks or colors.
        against: another checkpoint on the same image, whose changes are shown.
        scale: dots per pixel; without it the largest at which the image fits.
        share: `shared_share` of both over the whole map, which takes longer than a look-up.
        draws_image: without it there is the list alone.
    """
    layer = inspection.layers[slot]
    query = layer.position(pixel)
    neighbors = layer.neighbors(query)
    second = against.layers.get(slot) if against is not None else None
    gained: list[Neighbor] = []
    lost_slots: set[int] = set()
    if second is not None:
        changes = neighbor_changes(neighbors, second.neighbors(query))
        gained, lost_slots = changes.gained, {neighbor.slot for neighbor in changes.lost}
    head = _header(inspection, layer, against, width)
    columns = max(8, width - LIST_WIDTH - GAP)
    rows = max(4, (height or 40) - len(head))
    pixels = inspection.pixels
    scale = scale or fit_scale(pixels.shape[0], pixels.shape[1], rows, columns)
    dots = scaled(pixels, scale)
    center_y, center_x = (int((start + 0.5) * layer.patch * scale) for start in query)
    window = window_around(center_y, center_x, dots.shape, rows, columns)
    picture = HalfBlocks(dots[window.top :][: window.height, window.left :][:, : window.width], letters=letters)
    _mark(picture, layer, query, neighbors, gained, lost_slots, window, scale)
    image = picture.lines() if draws_image else []
    side = _list(layer, query, neighbors, second, gained, lost_slots, share)
    if height is not None and len(side) > rows:
        side = [*side[: rows - 1], Text(f"and {plural(len(side) - rows + 1, 'more line')}", "dim")]
    lines = list(head)
    blank = Text(" " * window.width if draws_image else "")
    for row in range(max(len(image), len(side))):
        line = Text(no_wrap=True, overflow="crop", end="")
        line.append_text(image[row] if row < len(image) else blank)
        if row < len(side):
            line.append(" " * GAP if draws_image else "").append_text(side[row])
        lines.append(line)
    return NeighborView(lines, len(head), window, scale)


def _header(inspection: Inspection, layer: LayerNeighbors, against: Inspection | None, width: int) -> list[Text]:
    height, breadth = layer.sides
    about = f"{layer.slot}  {layer.layer}  {height}x{breadth} map, K {layer.K} of {layer.candidates} candidates"
    if layer.sampling != "all":
        about += f" ({layer.sampling})"
    names = inspection.checkpoint_text
    if against is not None:
        run = f"{against.run} " if against.run != inspection.run else ""
        names += f" against {run}{against.checkpoint_text}"
    return [Text(fit(about, width), "bold"), Text(fit(f"{names}  {inspection.image_text}", width))]


def _mark(
    picture: HalfBlocks,
    layer: LayerNeighbors,
    query: Point,
    neighbors: Sequence[Neighbor],
    gained: Sequence[Neighbor],
    lost_slots: set[int],
    window: Window,
    scale: Fraction,
) -> None:
    """Tint the ordinary window, and mark the query and every neighbor in the map by its character."""
    step = layer.patch * scale  # dots per position

    def corner(point: Point) -> tuple[int, int]:
        return int(point.y * step) - window.top, int(point.x * step) - window.left

    reach = layer.window // 2
    size = max(1, int(step))
    for y in range(max(0, query.y - reach), min(layer.sides[0], query.y + reach + 1)):
        for x in range(max(0, query.x - reach), min(layer.sides[1], query.x + reach + 1)):
            picture.tint(*corner(Point(y, x)), size, WINDOW_COLOR, WINDOW_STRENGTH)

    def mark(point: Point, text: str, color: tuple[int, int, int]) -> None:
        top, left = corner(point)
        if size > 1:
            picture.tint(top, left, size, color, PATCH_STRENGTH)
        style = Style(color="black", bgcolor=f"rgb({color[0]},{color[1]},{color[2]})", bold=True)
        if picture.letters:
            style = Style(bold=True, reverse=True)
        picture.label((top + size // 2) // 2, left + (size - 1) // 2, text, style)

    mark(query, QUERY, QUERY_COLOR)
    for neighbor in neighbors:
        if not neighbor.is_query and not neighbor.is_padding:
            color = LOST_COLOR if neighbor.slot in lost_slots else NEIGHBOR_COLOR
            mark(neighbor.point, slot_character(neighbor.slot), color)
    for neighbor in gained:
        if not neighbor.is_padding:
            mark(neighbor.point, GAINED, GAINED_COLOR)


def _list(
    layer: LayerNeighbors,
    query: Point,
    neighbors: Sequence[Neighbor],
    second: LayerNeighbors | None,
    gained: Sequence[Neighbor],
    lost_slots: set[int],
    share: float | None,
) -> list[Text]:
    """The query, the ordinary window with the neighbors in it, and a line per slot."""
    covered = f", {layer.patch}x{layer.patch} pixels" if layer.patch > 1 else ""
    inside = sum(neighbor.in_window and not neighbor.is_padding for neighbor in neighbors)
    size = f"{layer.window}x{layer.window}"
    lines = [
        Text.assemble(("query ", "dim"), (f"y {query.y}, x {query.x}", "bold"), (covered, "dim")),
        Text.assemble((f"{inside} of {layer.K}", "bold"), (f" in the {size} window:", "dim")),
        *_window_grid(layer, query, neighbors),
    ]
    if second is not None:
        count = layer.K - 1 - len(lost_slots)
        lines.append(Text(f"{count} shared, {len(lost_slots)} lost, {len(gained)} gained", "bold"))
        if share is not None:
            lines.append(Text(f"{share:.0%} shared over the map", "dim"))
    lines.append(Text(f"   y, x      {layer.score}", "dim"))
    for neighbor in neighbors:
        sign = "-" if neighbor.slot in lost_slots else " "
        lines.append(_neighbor_line(slot_character(neighbor.slot), sign, neighbor))
    lines += [_neighbor_line(GAINED, " ", neighbor) for neighbor in gained]
    return lines


def _neighbor_line(character: str, sign: str, neighbor: Neighbor) -> Text:
    place = "pad" if neighbor.is_padding else f"{neighbor.point.y}, {neighbor.point.x}"
    name = QUERY if neighbor.is_query else character
    score = "0" if neighbor.score == 0 else f"{neighbor.score:.4g}"
    where = "window" if neighbor.in_window and not neighbor.is_padding and not neighbor.is_query else ""
    return Text.assemble(
        (f"{sign}{name} ", "bold"), f"{place:<9} ", f"{score:<8} ", (where, "dim"), no_wrap=True, overflow="crop"
    )


def _window_grid(layer: LayerNeighbors, query: Point, neighbors: Sequence[Neighbor]) -> list[Text]:
    """The ordinary window around the query, with the characters of the neighbors in it; a dot is no neighbor."""
    characters = {
        neighbor.point: QUERY if neighbor.is_query else slot_character(neighbor.slot)
        for neighbor in reversed(neighbors)
        if not neighbor.is_padding
    }
    reach = layer.window // 2
    lines = []
    for y in range(query.y - reach, query.y + reach + 1):
        cells = []
        for x in range(query.x - reach, query.x + reach + 1):
            inside = 0 <= y < layer.sides[0] and 0 <= x < layer.sides[1]
            cells.append(characters.get(Point(y, x), "." if inside else " "))
        lines.append(Text("  " + " ".join(cells)))
    return lines
