"""All runs in a table: filtered, sorted, grouped, marked, compared, deleted, and the start of new ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Input

from convnn.analysis.fields import RUN_FIELDS
from convnn.config.options import BY_KEY, BY_NAME, OPTIONS
from convnn.errors import UserError
from convnn.runs.run import Run
from convnn.runs.summary import Summary
from convnn.text import escaped
from tui.arrangement import Arranged, Line, Look, arrange, groupable
from tui.dialogs.choice import Choice
from tui.dialogs.picker import Picker
from tui.keys import bindings
from tui.widgets.filter_bar import FilterLine
from tui.widgets.header_footer import Footer, Header
from tui.widgets.run_grid import RunGrid
from tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from tui.services import ServicesApp

NO_RUNS = "No runs yet.  Press esc and n for a new one, or bring some in from a shell: convnn import PATH."
NO_MATCH = "No run matches.  Press esc to clear the filter."


class RunsScreen(Screen[None]):
    """The runs of a folder, as many as there are."""

    app: ServicesApp

    BINDINGS = bindings(
        "mark", "unmark", "diff", "filter", "group", "sort", "reverse", "columns", "pin", "new-from", "duplicate",
        "delete", "undo", "back", footer=("mark", "diff", "filter"),
    )  # fmt: skip
    AUTO_FOCUS = "RunGrid"

    def __init__(self) -> None:
        super().__init__()
        self.asked = Look()
        self.arranged: Arranged | None = None
        self._shown: list[Summary] | None = None  # the runs that are arranged

    def compose(self) -> ComposeResult:
        yield Header("runs")
        yield FilterLine()
        grid = RunGrid("reading the runs ...", self.app.selection, id="grid")
        grid.border_title = "runs"
        yield grid.add_class("pane")
        yield Footer()

    def on_mount(self) -> None:
        self.app.run_feed.subscribe(self)
        if self.app.run_feed.complete or self.app.runs:
            self.rearrange()

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self.app.run_feed.read_now)

    # -- showing ----------------------------------------------------------------------------------------------------

    def on_runs_changed(self) -> None:
        """Show what was read; where nothing is new, only the ages are."""
        if not self.query(RunGrid):  # the app is closing while a thread reads
            return
        if self.app.run_feed.complete and self.app.runs is self._shown:
            self.query_one(RunGrid).refresh()
        else:
            self.rearrange()

    def rearrange(self) -> None:
        """Show the runs as asked for."""
        self._shown, runs, asked = self.app.runs, self.app.runs, self.asked
        grid, line = self.query_one(RunGrid), self.query_one(FilterLine)
        self.arranged = found = arrange(runs, asked, self.app.selection, self.arranged)
        if runs or self.app.run_feed.complete:
            grid.empty = NO_MATCH if runs else NO_RUNS
        grid.put(found.lines, found.columns, (asked.sort, asked.down))
        line.say(runs, escaped(found.wrong))
        few = len(found.found) < len(runs)
        grid.border_title = f"runs {len(found.found):,} of {len(runs):,}" if few else f"runs {len(runs):,}"
        self.say()

    def say(self) -> None:
        """Say how the runs are shown, and how many are marked."""
        asked, marks = self.asked, self.app.selection
        words = [f"by {asked.sort}, {'from the largest' if asked.down else 'ascending'}"] if asked.sort else []
        words += [f"grouped by {', '.join(asked.groups)}"] if asked.groups else []
        marked = len(marks.marked)
        said, style = (f"{marked} marked: d compares" if marked > 1 else f"{marked} marked" if marked else ""), "bold"
        if self.app.run_feed.warnings and not said:
            said, style = f"{len(self.app.run_feed.warnings)} damaged: see `convnn runs`", "yellow"
        self.query_one(Header).update("runs", " · ".join(words) or str(self.app.root), said, style)

    @property
    def line(self) -> Line | None:
        """The line under the cursor."""
        return self.query_one(RunGrid).current

    @property
    def run(self) -> Summary | None:
        """The run under the cursor, or the first one of the group there."""
        return self.line.runs[0] if self.line and self.line.runs else None

    # -- choosing ---------------------------------------------------------------------------------------------------

    @on(VirtualList.Opened, "#grid")
    def open(self, event: VirtualList.Opened) -> None:
        """Open a run, or open and close a group."""
        line: Line = event.item
        if line.run is not None:
            self.app.show_run(Run(Path(line.run.path), line.run.name))
        elif line.node is not None:
            self.asked.open ^= {line.node.key}
            self.rearrange()

    def action_mark(self) -> None:
        """Mark a run and go to the next, or all runs of a group."""
        if self.line is not None:
            self.app.selection.toggle_mark(run.path for run in self.line.runs)
            if self.line.run is not None:
                self.query_one(RunGrid).action_down()
            self.query_one(RunGrid).refresh()
            self.say()

    def action_unmark(self) -> None:
        self.app.selection.unmark_all()
        self.query_one(RunGrid).refresh()
        self.say()

    def action_pin(self) -> None:
        """Keep the run under the cursor on top."""
        if self.line is not None and self.line.run is not None:
            self.app.selection.toggle_pin(self.line.run.path)
            self.rearrange()

    def action_diff(self) -> None:
        self.app.compare(self.run.path if self.run else None)

    def action_new_from(self) -> None:
        """The settings of the run under the cursor in the form."""
        from tui.screens.setup.draft import Draft
        from tui.screens.setup.screen import SetupScreen

        if self.run is None:
            return
        try:
            draft = Draft.of(Run(Path(self.run.path), self.run.name).config(), self.run.name)
        except (UserError, OSError) as error:
            self.app.say(str(error), error=True)
        else:
            self.app.push_screen(SetupScreen(draft))

    action_duplicate = action_new_from

    def action_delete(self) -> None:
        """Move the marked runs, or without marks the one under the cursor, to the trash."""
        marked = [run for run in self.app.runs if run.path in self.app.selection.marked]
        if len(marked) > 1:
            answers = (("delete", "delete", "u brings them back"), ("keep", "keep", "nothing happens"))
            asks = Choice(f"delete {len(marked)} marked runs", "", answers)
            self.app.push_screen(asks, lambda word: self._delete(marked) if word == "delete" else None)
        elif marked or (self.line and self.line.run):
            self._delete(marked or self.line.runs)  # type: ignore[union-attr]

    def _delete(self, runs: list[Summary]) -> None:
        self.app.deletion.delete_runs([Run(Path(run.path), run.name) for run in runs])
        self.app.run_feed.read_now()

    def action_undo(self) -> None:
        self.app.deletion.undo()
        self.app.run_feed.read_now()

    # -- arranging --------------------------------------------------------------------------------------------------

    def action_sort(self) -> None:
        """Sort by the next column, or after the last by age again."""
        keys: list[str | None] = [None, *(column.key for column in self.arranged.columns)] if self.arranged else [None]
        at = keys.index(self.asked.sort) if self.asked.sort in keys else 0
        self.asked.sort = keys[(at + 1) % len(keys)]
        self.rearrange()

    def action_reverse(self) -> None:
        """From the largest, or from the smallest."""
        self.asked.down = not self.asked.down
        self.rearrange()

    def action_columns(self) -> None:
        """Choose the columns."""
        metrics = dict.fromkeys(name for run in self.app.runs for name in run.metrics)
        keys = [(key, "of the run") for key in RUN_FIELDS]
        keys += [(_name(option.key), option.help) for option in OPTIONS if option.section != "output"]
        keys += [(name, "at the last epoch") for name in metrics]
        keys += [(f"best:{name}", "at its best epoch") for name in metrics]
        shown = [column.key for column in self.arranged.columns] if self.arranged else []
        self.app.push_screen(Picker("columns", keys, shown), self._columns)

    def _columns(self, keys: list[str] | None) -> None:
        if keys is not None:
            self.asked.columns = keys or None  # without any, those that differ
            self.rearrange()

    def action_group(self) -> None:
        """Choose what to group by."""
        words = {"repeats": "the same but for the seed", "status": "how it ended"}
        keys = [(key, words.get(key) or _help(key)) for key in groupable(self.app.runs)]
        self.app.push_screen(Picker("group by", keys, self.asked.groups), self._group)

    def _group(self, keys: list[str] | None) -> None:
        if keys is not None:
            self.asked.groups, self.asked.open = keys, set()
            self.rearrange()

    # -- filtering --------------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        if self.app.typing:
            raise SkipAction
        self.set_focus(self.query_one(FilterLine).add_class("shown").input)

    @on(Input.Changed, "#filter-text")
    def filtered(self, event: Input.Changed) -> None:
        self.asked.filter = event.value.strip()
        self.rearrange()

    @on(Input.Submitted, "#filter-text")
    def leave_filter(self) -> None:
        self.query_one(RunGrid).focus()

    def action_back(self) -> None:
        """Clear the filter or, without one, go back."""
        line = self.query_one(FilterLine)
        if line.has_class("shown"):
            line.input.value = ""
            line.remove_class("shown")
            self.query_one(RunGrid).focus()
        else:
            self.dismiss()


def _name(key: str) -> str:
    name = BY_KEY[key].name
    return name if BY_NAME.get(name) is BY_KEY[key] and name not in RUN_FIELDS else key


def _help(key: str) -> str:
    option = BY_NAME.get(key) or BY_KEY.get(key)
    return option.help if option else ""
