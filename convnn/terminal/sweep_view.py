"""A sweep in the terminal while it goes on: a live grid, or a line for each cell that changes."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from convnn.sweeps.results import Results, results
from convnn.sweeps.states import CellState, SweepState
from convnn.terminal.console import EscapingConsole, out
from convnn.text import duration, escaped

WIDEST_CELL = 40  # columns: reasons may be sentences
LINES_BESIDE = 5  # of the grid: title, header, counts and the key


class LiveGrid:
    """The grid of a sweep, drawn anew with every state."""

    def __init__(self, console: EscapingConsole | None = None) -> None:
        self.console = console or out()
        self._live = Live(console=self.console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> LiveGrid:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def show(self, state: SweepState) -> None:
        """Draw the state of the sweep."""
        lines: list[RenderableType] = [
            Text(escaped(f"{state.name}  {progress_text(state)}"), "bold"),
            _grid(results(state), self.console.height),
        ]
        if state.is_going_on:
            lines.append(Text("ctrl+c leaves this view, and the sweep goes on", "dim"))
        self._live.update(Group(*lines), refresh=True)


class PlainCells:
    """A line on stdout for each cell that starts or ends."""

    def __init__(self) -> None:
        self._states: dict[int, str] = {}

    def __enter__(self) -> PlainCells:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def show(self, state: SweepState) -> None:
        """Print what changed since the last state."""
        is_first = not self._states
        if is_first:
            out().print_line(f"{state.name}  {progress_text(state)}")
        for cell in state.trainable:
            before = self._states.get(cell.cell.index)
            self._states[cell.cell.index] = cell.state
            if cell.state != before and not is_first:
                out().print_line(_line(cell, state))


def _line(cell: CellState, state: SweepState) -> str:
    value = ""
    if cell.is_done and cell.run is not None and cell.run.best is not None:
        value = f"{cell.run.best.metric} {cell.run.best.value:.2f}"
    done = sum(trained.is_done for trained in state.trainable)
    words = [
        f"{cell.cell.name} seed {cell.cell.seed}",
        cell.state,
        value,
        f"{done}/{len(state.trainable)} done",
        cell.cause,
    ]
    return "  ".join(filter(None, words))


def progress_text(state: SweepState) -> str:
    """Return counts and the time left: "36 cells: 30 done, 2 running, 4 queued; about 12 m left"."""
    text = state.counts_text()
    if state.is_going_on and (left := state.eta):
        text += f"; about {duration(left)} left"
    return text


def _grid(result: Results, height: int) -> Grid:
    """Return the grid as a Rich table of at most `height` lines; rows that are done make room, or the last trials."""
    table = result.table()
    grid = Grid(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in table.columns:
        grid.add_column(
            Text(escaped(column.title), "bold"),
            justify="right" if column.right else "left",
            no_wrap=True,
            max_width=WIDEST_CELL,
        )
    rows = list(zip(table.rows, result.grid, strict=True))
    room = max(1, height - LINES_BESIDE)
    if len(rows) > room:
        if result.state.search is None:
            rows = [row for row in rows if any(cell is not None and cell.missing for cell in row[1])] or rows
        rows = rows[:room]
    for texts, cells in rows:
        keys = [Text(escaped(text)) for text in texts[: len(texts) - len(cells)]]
        values = [
            Text(escaped(text), "" if cell is None or not cell.missing else "dim")
            for text, cell in zip(texts[len(texts) - len(cells) :], cells, strict=True)
        ]
        grid.add_row(*keys, *values)
    return grid
