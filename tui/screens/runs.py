"""The table of all runs: filtered, sorted, grouped, marked, compared, deleted, and the start of new ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.screen import Screen

from convnn.analysis.fields import RUN_FIELDS, metric_names
from convnn.analysis.run_table import column_key
from convnn.analysis.views import find_view, read_views, save_view
from convnn.config.options import BY_KEY, BY_NAME, OPTIONS
from convnn.errors import UserError
from convnn.runs.run import Run
from convnn.text import plural
from tui.arrangement import Arrangement, GridSettings, arrange, count_text, group_keys, starts_descending
from tui.dialogs.choice import Choice
from tui.dialogs.picker import Picker
from tui.dialogs.prompt import Prompt
from tui.keys import bindings
from tui.say import reporting_errors
from tui.widgets.filter_bar import FilterBar
from tui.widgets.header_footer import Footer, Header
from tui.widgets.run_grid import RunGrid
from tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from tui.app import ConvnnApp

NO_RUNS = "No runs yet.  Press esc and n for a new one, or import some in a shell: convnn import PATH."
NO_MATCH = "No run matches.  Press esc to clear the filter."
ONLY_FAILED = "Every run failed before its first step.  Press a to list them."
GROUP_HELP = {"repeats": "runs that differ in the seed alone", "status": "done, stopped, failed ..."}


class RunsScreen(Screen[None]):
    """The runs of a folder in one grid."""

    app: ConvnnApp
    CSS_PATH = "runs.tcss"
    BINDINGS = bindings(
        "mark", "unmark", "diff", "filter", "group", "sort", "reverse", "columns", "views", "pin", "run-menu", "repeat",
        "new", "duplicate", "delete", "undo", "early-failures", "back", footer=("mark", "diff", "filter"),
    )  # fmt: skip
    AUTO_FOCUS = "RunGrid"

    def __init__(self) -> None:
        super().__init__()
        self.settings = GridSettings()
        self.arrangement: Arrangement | None = None

    def compose(self) -> ComposeResult:
        yield Header("runs")
        yield FilterBar()
        grid = RunGrid("reading the runs ...", self.app.selection, id="grid")
        grid.border_title = "runs"
        yield grid.add_class("pane")
        yield Footer()

    def on_mount(self) -> None:
        self.app.run_feed.subscribe(self)
        if self.app.run_feed.complete or self.app.runs:
            self.rearrange()

    # -- showing ----------------------------------------------------------------------------------------------------

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self.app.run_feed.read_now)

    def on_runs_changed(self) -> None:
        """Show the runs; where nothing is new, only their ages."""
        if not self.query(RunGrid):  # the app closed while a thread was reading
            return
        if self.arrangement is not None and self.arrangement.runs is self.app.runs and self.app.runs:
            self.grid.refresh()
        else:
            self.rearrange()

    def rearrange(self) -> None:
        """Arrange the runs and show them; in the order and the columns of the start where a key is not known."""
        runs, grid = self.app.runs, self.grid
        try:
            self.arrangement = arrange(runs, self.settings, self.app.selection, self.arrangement)
        except UserError as error:  # of a view: a key of another version, or a metric that no run here has
            self.app.say(str(error), error=True)
            self.settings = replace(self.settings, sort=None, descending=False, columns=None, groups=[])
            self.arrangement = arrange(runs, self.settings, self.app.selection)
        settings = self.settings
        if settings.filter:
            grid.empty_text = NO_MATCH
        elif runs or self.app.run_feed.complete:
            grid.empty_text = ONLY_FAILED if runs else NO_RUNS
        grid.show_rows(self.arrangement.rows, self.arrangement.columns, (settings.sort, settings.descending))
        grid.border_title = f"runs {count_text(len(self.arrangement.matches), runs, settings.filter)}"
        self.query_one(FilterBar).update(runs, self.arrangement.filter_error)
        self._show_status()

    def _show_status(self) -> None:
        """Show in the header how the runs are arranged, and how many are marked."""
        settings = self.settings
        subtitle = []
        if settings.sort:
            direction = "descending" if settings.descending else "ascending"
            subtitle.append(f"by {settings.sort}, {direction}")
        elif settings.descending:
            subtitle.append("oldest first")
        if settings.groups:
            subtitle.append(f"grouped by {', '.join(settings.groups)}")
        marked, warnings = len(self.app.selection.marked), len(self.app.run_feed.warnings)
        status, style = "", "bold"
        if marked:
            status = "1 marked" if marked == 1 else f"{marked} marked: d compares"
        elif warnings:
            status, style = f"{plural(warnings, 'damaged entry', 'damaged entries')}: see `convnn runs`", "yellow"
        self.query_one(Header).update("runs", " · ".join(subtitle) or str(self.app.root), status, style)

    # -- the row under the cursor -----------------------------------------------------------------------------------

    @property
    def grid(self) -> RunGrid:
        return self.query_one(RunGrid)

    @property
    def run(self) -> Run | None:
        """The run under the cursor, or the first run of the group there."""
        if self.grid.current_run is None:
            return None
        return self.grid.current_run.run

    @on(VirtualList.Opened, "#grid")
    def _open(self, event: VirtualList.Opened) -> None:
        row = event.item
        if row.run is not None:
            self.app.show_run(row.run.run)
        elif row.node is not None:
            self.settings.expanded ^= {row.node.path}
            self.rearrange()

    def _say_no_run(self) -> None:
        row = self.grid.current
        self.app.say(self.grid.empty_text if row is None else "this is a group: move the cursor to a run in it first")

    def action_mark(self) -> None:
        if self.grid.current is None:
            self._say_no_run()
        self.grid.toggle_mark()
        self._show_status()

    def action_unmark(self) -> None:
        self.grid.unmark_all()
        self._show_status()

    def action_pin(self) -> None:
        row = self.grid.current
        if row is not None and row.run is not None:
            self.app.selection.toggle_pin(row.run.path)
            self.rearrange()
        else:
            self._say_no_run()

    def action_diff(self) -> None:
        self.app.compare(self.run)

    def action_new(self) -> None:
        self.app.show_form()

    def action_duplicate(self) -> None:
        if self.run is not None:
            self.app.show_form(run=self.run)
        else:
            self._say_no_run()

    def action_delete(self) -> None:
        row = self.grid.current
        run = row.run.run if row is not None and row.run is not None else None
        if run is None and not self.app.selection.marked:
            self._say_no_run()
        else:
            self.app.delete_runs(run, self.app.run_feed.read_now)

    def action_run_menu(self) -> None:
        row = self.grid.current
        self.app.show_menu(row.run if row is not None else None)

    def action_repeat(self) -> None:
        self.app.repeat(self.run)

    def action_undo(self) -> None:
        self.app.deletion.undo()
        self.app.run_feed.read_now()

    # -- arranging --------------------------------------------------------------------------------------------------

    def action_sort(self) -> None:
        """Sort by the next column and, after the last one, by age again."""
        keys = [None, *self._column_keys]
        following = dict(pairwise([*keys, None]))
        self._sort_by(following.get(self.settings.sort))

    def _sort_by(self, key: str | None) -> None:
        """Sort by a key, the best runs first; None sorts by start, the newest first."""
        self.settings.sort = key
        self.settings.descending = key is not None and starts_descending(key, self.app.runs)
        self.rearrange()

    @on(RunGrid.TitleClicked)
    def _sort_by_clicked(self, event: RunGrid.TitleClicked) -> None:
        """Sort by the column whose title was clicked or, where that is so already, reverse the order."""
        if event.key == self.settings.sort:
            self.action_reverse()
        else:
            self._sort_by(event.key)

    @property
    def _column_keys(self) -> list[str]:
        if self.arrangement is None:
            return []
        return [column.key for column in self.arrangement.columns]

    def action_reverse(self) -> None:
        self.settings.descending = not self.settings.descending
        self.rearrange()

    def action_columns(self) -> None:
        metrics = metric_names(self.app.runs)
        choices = [(key, field.help) for key, field in RUN_FIELDS.items()]
        choices += [(column_key(option.key), option.help) for option in OPTIONS if option.section != "output"]
        choices += [(name, "at the last epoch") for name in metrics]
        choices += [(f"best:{name}", "at its best epoch") for name in metrics]
        self.app.ask(Picker("columns", choices, self._column_keys), self._set_columns)

    def _set_columns(self, keys: list[str]) -> None:
        self.settings.columns = keys or None
        self.rearrange()

    def action_group(self) -> None:
        choices = [(key, GROUP_HELP.get(key) or _help(key)) for key in group_keys(self.app.runs)]
        self.app.ask(Picker("group by", choices, self.settings.groups), self._set_groups)

    def _set_groups(self, keys: list[str]) -> None:
        self.settings.groups, self.settings.expanded = keys, set()
        self.rearrange()

    def action_views(self) -> None:
        """Show a saved view, or save how the runs are arranged now."""
        with reporting_errors(self.app.say):
            answers = [(f"view {name}", name, str(view)) for name, view in read_views().items()]
            answers.append(("save", "save as ...", "filter, order, columns and groups as they are now"))
            self.app.ask(Choice("views", "", answers), self._choose_view)

    def _choose_view(self, answer: str) -> None:
        if answer == "save":
            self.app.ask(Prompt("save this view", "a name, for here and `convnn runs --view`"), self._save_view)
        else:
            with reporting_errors(self.app.say):
                view = find_view(answer.removeprefix("view "))
                self.settings = GridSettings.from_view(view)
                self.query_one(FilterBar).text = view.filter
                self.rearrange()

    def _save_view(self, name: str) -> None:
        with reporting_errors(self.app.say):
            outcome = "replaced" if save_view(name.strip(), self.settings.view) else "saved"
            self.app.say(f"the view {name.strip()} is {outcome}")

    # -- filtering --------------------------------------------------------------------------------------------------

    def action_early_failures(self) -> None:
        """List also the runs that failed before their first step, or hide them."""
        if not any(run.failed_early for run in self.app.runs):
            self.app.say("no run failed before its first step")
            return
        self.settings.lists_early_failures = not self.settings.lists_early_failures
        self.rearrange()

    def action_filter(self) -> None:
        self.query_one(FilterBar).open()

    @on(FilterBar.Changed)
    def _filter_changed(self) -> None:
        self.settings.filter = self.query_one(FilterBar).text
        self.rearrange()

    @on(FilterBar.Submitted)
    def _filter_submitted(self) -> None:
        self.grid.focus()

    def action_back(self) -> None:
        """Clear the filter or, without one, go back."""
        if self.query_one(FilterBar).close():
            self.grid.focus()
        else:
            self.dismiss()


def _help(key: str) -> str:
    option = BY_NAME.get(key) or BY_KEY.get(key)
    if not option:
        return ""
    return option.help
