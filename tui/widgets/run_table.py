"""The runs of Home: queued launches first, then the newest run first, one a line."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from rich.text import Text

from convnn.runs.status import STATUSES
from convnn.runs.summary import Summary
from convnn.text import escaped, fit, number, since
from tui.selection import MARK, Selection
from tui.theme import STATUS_COLORS
from tui.widgets.virtual_list import VirtualList

COLUMNS = {"status": 13, "layer": 14, "data": 8, "epoch": 7, "best": 5, "age": 4}  # cells; the name takes the rest
RIGHT = ("epoch", "best", "age")
SHORTEST_NAME = 15


@dataclass(frozen=True)
class Row:
    """A run, or a launch that waits for its turn, in the words of the list."""

    key: str  # its path
    name: str
    status: str
    layer: str = ""
    data: str = ""
    epoch: str = ""
    best: str = ""
    age: str = ""
    words: str = ""  # what a filter looks through


def row(summary: Summary, age: float | None) -> Row:
    """A run's row; `age` in seconds since it began."""
    config = summary.config
    of = config.get("training", {}).get("num_epochs")
    best = summary.best.value if summary.best else math.nan
    layer, data = str(config.get("layer", {}).get("type", "")), str(config.get("data", {}).get("dataset", ""))
    told = [str(config.get("model", {}).get("name", "")), *map(str, config.get("run", {}).get("tags") or ())]
    return Row(
        key=summary.path,
        name=summary.name,
        status=summary.status,
        layer=layer,
        data=data,
        epoch=f"{summary.epoch}/{of}" if of else str(summary.epoch),
        best="" if math.isnan(best) else number(best),
        age="" if age is None else since(age),
        words=" ".join((summary.name, summary.status, layer, data, *told)).lower(),
    )


def short_name(name: str, width: int) -> str:
    """A run's name in that many cells: without its time, which the age says, and with the end that tells it apart."""
    if len(name) <= width:
        return name
    name = re.sub(r"^\d{8}-\d{6}-", "", name)
    if len(name) <= width or width < 9:
        return fit(name, width)
    return f"{name[: width - 6]}…{name[-5:]}"


class RunTable(VirtualList[Row]):
    """The runs, newest first."""

    help_title = "runs"
    HELP = (
        "Every run under the runs folder, newest first, and the launches that wait. The list follows the files: runs "
        "of other terminals and detached ones show up by themselves. Best is the best test top-1 in percent."
    )

    def __init__(self, empty: str, selection: Selection, *, id: str | None = None) -> None:
        super().__init__(empty, id=id)
        self.selection = selection

    def key_of(self, item: Row) -> object:
        return item.key

    def _columns(self, width: int) -> dict[str, int]:
        columns = dict(COLUMNS)
        for name in ("data", "layer", "age"):
            if width - sum(columns.values()) - len(columns) - 1 >= SHORTEST_NAME:
                break
            del columns[name]
        return {"name": max(8, width - sum(columns.values()) - len(columns) - 1)} | columns

    def head(self, width: int) -> Text:
        line = Text(" ")
        for name, cells in self._columns(width).items():
            word = f"{name:>{cells}}" if name in RIGHT else f"{name:<{cells}}"
            line.append(word + " ")
        return line

    def paint(self, item: Row, width: int) -> list[Text]:
        line = Text()
        line.append(MARK if item.key in self.selection.marked else " ", self.app.theme_variables["accent"])
        for name, cells in self._columns(width).items():
            value = escaped(getattr(item, name))
            if name == "status":
                colour = self.app.theme_variables.get(STATUS_COLORS.get(item.status, "warning"), "")
                line.append(f"{STATUSES[item.status].glyph} ", f"bold {colour}").append(
                    f"{item.status:<{cells - 2}}", colour
                )
            else:
                value = short_name(value, cells) if name == "name" else fit(value, cells)
                style = "dim" if name in ("layer", "data", "age") else ""
                line.append(f"{value:>{cells}}" if name in RIGHT else f"{value:<{cells}}", style)
            line.append(" ")
        return [line]
