"""A table and its writers: aligned text, CSV, Markdown, LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from rich.cells import cell_len, set_cell_size

from convnn.text import escaped

FORMATS = ("table", "json", "csv", "md", "latex")
GAP = "  "
NARROWEST = 16  # width that a shortened column keeps
_LATEX = {char: f"\\{char}" for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
}


@dataclass(frozen=True)
class Column:
    """A column: its title, whether it is aligned to the right, as numbers are, and what its cells can do without.

    `removable` is a pattern at the beginning of cells that is left out where the table is too wide, if the cells still
    differ without it.
    """

    title: str
    right: bool = False
    removable: str = ""


@dataclass
class Table:
    """Cells as text; control characters in them are escaped when the table is written."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str = ""
    key_columns: int = 0  # columns at the left that identify a row: repeated where the table is broken into blocks
    notes: list[str] = field(default_factory=list)  # written to stderr

    def mapped(self, change: Callable[[str], str]) -> Table:
        columns = [replace(column, title=change(column.title)) for column in self.columns]
        return replace(self, columns=columns, rows=[[change(cell) for cell in row] for row in self.rows])


def csv_text(table: Table) -> str:
    """Return the table as comma-separated values with a header."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows(_escaped_rows(table))
    return stream.getvalue()


def markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(re.sub(r"([|\\`*_<\[])", r"\\\1", cell) for cell in cells) + " |\n"

    header, *rows = map(line, _escaped_rows(table))
    rule = "|" + "|".join("---:" if column.right else "---" for column in table.columns) + "|\n"
    return header + rule + "".join(rows)


def latex(table: Table) -> str:
    """Return the table as a LaTeX tabular that needs no package."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(_LATEX.get(char, char) for char in cell) for cell in cells) + r" \\" + "\n"

    header, *rows = map(line, _escaped_rows(table))
    alignment = "".join("r" if column.right else "l" for column in table.columns)
    body = f"{header}\\hline\n{''.join(rows)}"
    return f"\\begin{{tabular}}{{{alignment}}}\n\\hline\n{body}\\hline\n\\end{{tabular}}\n"


def lines(table: Table, width: int | None = None) -> tuple[list[str], list[str]]:
    """Return aligned lines, the header first, and the titles of the columns that `width` cells have no room for.

    The widest column of text is shortened before a column is left out. Without a width everything is written.
    """
    rows = _escaped_rows(table)
    if width is not None and _full_width(rows) > width:
        rows = _without_removable(rows, table.columns)
    sizes = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    count = len(sizes)
    if width is not None:
        count = _fit(sizes, table.columns, width)
    right = [column.right for column in table.columns]
    return [_line(row[:count], sizes, right) for row in rows], rows[0][count:]


def blocks(table: Table, width: int | None = None) -> tuple[list[list[str]], list[str]]:
    """Return the lines of `lines`, then a block for what does not fit beside them, each with the key columns."""
    block, hidden = lines(table, width)
    result = [block]
    while table.key_columns and 0 < len(hidden) < len(table.columns) - table.key_columns:
        columns = [*range(table.key_columns), *range(len(table.columns) - len(hidden), len(table.columns))]
        rows = [[row[column] for column in columns] for row in table.rows]
        table = Table([table.columns[column] for column in columns], rows, key_columns=table.key_columns)
        block, hidden = lines(table, width)
        if len(hidden) < len(table.columns) - table.key_columns:
            result.append(block)
    return result, hidden


def _escaped_rows(table: Table) -> list[list[str]]:
    """Return the titles, then the cells of each row."""
    titles = [column.title for column in table.columns]
    return [[escaped(cell) for cell in row] for row in [titles, *table.rows]]


def _full_width(rows: Sequence[Sequence[str]]) -> int:
    sizes = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return sum(sizes) + len(GAP) * (len(sizes) - 1)


def _without_removable(rows: list[list[str]], columns: Sequence[Column]) -> list[list[str]]:
    """Return the rows without what their columns allow to leave out."""
    cells_by_column = [list(cells) for cells in zip(*rows, strict=True)]
    for index, column in enumerate(columns):
        title, *cells = cells_by_column[index]
        short_cells = [re.sub(f"^(?:{column.removable})", "", cell) for cell in cells] if column.removable else cells
        if len(set(short_cells)) == len(set(cells)):
            cells_by_column[index] = [title, *short_cells]
    return [list(row) for row in zip(*cells_by_column, strict=True)]


def _fit(sizes: list[int], columns: Sequence[Column], width: int) -> int:
    """Shorten columns of text in place; return how many columns, from the left, there is room for."""
    gap, full_sizes = len(GAP), list(sizes)
    while (excess := sum(sizes) + gap * (len(sizes) - 1) - width) > 0:
        texts = [index for index, column in enumerate(columns) if not column.right and sizes[index] > NARROWEST]
        if not texts:
            break
        widest = max(texts, key=lambda index: sizes[index])
        second = max((sizes[index] for index in texts if index != widest), default=NARROWEST)
        sizes[widest] -= min(excess, max(1, sizes[widest] - max(second, NARROWEST)))
    count, room = 0, width + gap
    for size in sizes:
        if size + gap > room:
            break
        room -= size + gap
        count += 1
    for index in range(count):  # the room of a column that was left out
        growth = min(full_sizes[index] - sizes[index], room)
        sizes[index] += growth
        room -= growth
    return max(1, count)


def _line(cells: Sequence[str], sizes: Sequence[int], right: Sequence[bool]) -> str:
    return GAP.join(map(_cell, cells, sizes, right)).rstrip()


def _cell(text: str, size: int, right: bool) -> str:
    length = len(text) if text.isascii() else cell_len(text)
    if length > size:  # names differ at their ends: the middle is left out
        start = (size - 1) // 2
        return set_cell_size(text, start) + "…" + _last(text, size - 1 - start)
    return " " * (size - length) + text if right else text + " " * (size - length)


def _last(text: str, size: int) -> str:
    while text and cell_len(text) > size:
        text = text[1:]
    return text + " " * (size - cell_len(text))
