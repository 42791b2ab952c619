"""One table, written as people and programs like it: aligned text, CSV, Markdown or LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size

from convnn.text import to_ascii

FORMATS = ("table", "json", "csv", "md", "latex")
GAP = "  "
NARROWEST = 16  # cells that a shortened column keeps
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
    """A column: its title, and whether it holds numbers, which stand to the right."""

    title: str
    right: bool = False


@dataclass
class Table:
    """Cells as text, whose control characters are escaped already."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str = ""
    heads: int = 0  # columns at the left that tell the rows apart: where not all fit, the rest go on beside them
    notes: list[str] = field(default_factory=list)  # said on stderr


def csv_text(table: Table) -> str:
    """Comma-separated values, with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.title for column in table.columns])
    writer.writerows(table.rows)
    return out.getvalue()


def markdown(table: Table) -> str:
    """A Markdown table."""

    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(re.sub(r"([|\\`*_<\[])", r"\\\1", cell) for cell in cells) + " |\n"

    rule = "|" + "|".join("---:" if column.right else "---" for column in table.columns) + "|\n"
    return row([column.title for column in table.columns]) + rule + "".join(map(row, table.rows))


def latex(table: Table) -> str:
    """A LaTeX tabular that needs no package."""

    def row(cells: Sequence[str]) -> str:
        return " & ".join("".join(_LATEX.get(char, char) for char in cell) for cell in cells) + r" \\" + "\n"

    kinds = "".join("r" if column.right else "l" for column in table.columns)
    body = row([column.title for column in table.columns]) + "\\hline\n" + "".join(map(row, table.rows))
    return f"\\begin{{tabular}}{{{kinds}}}\n\\hline\n{body}\\hline\n\\end{{tabular}}\n"


def lines(table: Table, width: int | None = None, *, ascii: bool = False) -> tuple[list[str], list[str]]:
    """Aligned lines, the header first, and the titles of columns that `width` cells had no room for.

    The widest column of text is shortened before a column is left out. Without a width everything is shown.
    """
    change = to_ascii if ascii else str
    titles = [change(column.title) for column in table.columns]
    rows = [[change(cell) for cell in row] for row in table.rows]
    sizes = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
    shown = len(sizes)
    if width is not None:
        shown = _fit(sizes, table.columns, width)
    right = [column.right for column in table.columns]
    result = [_line(row[:shown], sizes, right, ascii) for row in [titles, *rows]]
    return result, titles[shown:]


def blocks(table: Table, width: int | None = None, *, ascii: bool = False) -> tuple[list[list[str]], list[str]]:
    """As `lines`, and below each other what does not fit beside each other, each with the columns of `heads`."""
    printed, hidden = lines(table, width, ascii=ascii)
    found = [printed]
    while table.heads and 0 < len(hidden) < len(table.columns) - table.heads:
        left = [*range(table.heads), *range(len(table.columns) - len(hidden), len(table.columns))]
        rows = [[row[at] for at in left] for row in table.rows]
        table = Table([table.columns[at] for at in left], rows, heads=table.heads)
        printed, hidden = lines(table, width, ascii=ascii)
        found.append(printed)
    return found, hidden


def _fit(sizes: list[int], columns: Sequence[Column], width: int) -> int:
    """Shorten columns of text in place; how many columns, from the left, there is room for."""
    gaps, whole = len(GAP), list(sizes)
    while (over := sum(sizes) + gaps * (len(sizes) - 1) - width) > 0:
        texts = [at for at, column in enumerate(columns) if not column.right and sizes[at] > NARROWEST]
        if not texts:
            break
        widest = max(texts, key=lambda at: sizes[at])
        rest = max((sizes[at] for at in texts if at != widest), default=NARROWEST)
        sizes[widest] -= min(over, max(1, sizes[widest] - max(rest, NARROWEST)))
    shown, room = 0, width + gaps
    for size in sizes:
        if size + gaps > room:
            break
        room -= size + gaps
        shown += 1
    for at in range(shown):  # what a column that was left out would have taken
        grown = min(whole[at] - sizes[at], room)
        sizes[at], room = sizes[at] + grown, room - grown
    return max(1, shown)


def _line(cells: Sequence[str], sizes: Sequence[int], right: Sequence[bool], ascii: bool) -> str:
    return GAP.join(_cell(cell, size, r, ascii) for cell, size, r in zip(cells, sizes, right, strict=False)).rstrip()


def _cell(text: str, size: int, right: bool, ascii: bool) -> str:
    length = len(text) if text.isascii() else cell_len(text)
    if length > size:  # the ends of names differ: the middle goes
        half = (size - 1) // 2
        tail = size - 1 - half
        return set_cell_size(text, half) + ("~" if ascii else "…") + _last(text, tail)
    pad = " " * (size - length)
    return pad + text if right else text + pad


def _last(text: str, size: int) -> str:
    while text and cell_len(text) > size:
        text = text[1:]
    return text + " " * (size - cell_len(text))
