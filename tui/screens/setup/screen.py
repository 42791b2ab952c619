"""The set-up screen: a configuration is edited, checked while one types, saved as a preset, and launched."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events, on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.command import CommandPalette
from textual.containers import Container, Vertical
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, TextArea

from convnn.config import command_line
from convnn.config.fixes import form_fix
from convnn.data.catalog import DatasetInfo, dataset_info
from convnn.errors import Problem, UserError
from convnn.paths import typed_path
from convnn.presets import store
from convnn.sweeps.dump import save_sweep
from convnn.text import plural
from tui.dialogs.choice import Choice
from tui.dialogs.prompt import Prompt
from tui.keys import bindings
from tui.say import reporting_errors
from tui.screens.setup.command_box import CommandBox, is_command
from tui.screens.setup.controls import CommandPasted, ControlChanged, NumberControl
from tui.screens.setup.cost_panel import CostPanel
from tui.screens.setup.cost_watch import CostWatch
from tui.screens.setup.draft import CheckedDraft, DatasetKey, Draft
from tui.screens.setup.field_search import EveryField, FieldProvider
from tui.screens.setup.form import FieldHelp, Form
from tui.screens.setup.paste_errors import PasteErrors
from tui.screens.setup.preset_file import PresetFile
from tui.screens.setup.save_preset import SavePreset
from tui.screens.setup.sweep_cost import sweep_cost_text
from tui.widgets.header_footer import Footer, Header

if TYPE_CHECKING:
    from convnn.sweeps.file import Sweep
    from tui.app import ConvnnApp

TYPING_PAUSE = 0.012  # seconds without a key before a check
POLL_INTERVAL = 5.0  # seconds between two polls of the free memory and of the preset's file
LEAVE_ANSWERS = (
    ("stay", "stay", "continue editing"),
    ("save", "save", "then leave"),
    ("leave", "leave", "discard the changes"),
)


class SetupScreen(Screen[None]):
    """The form, its cost, and the command that would do the same."""

    app: ConvnnApp
    BINDINGS = bindings(
        "fix", "next-problem", "previous-problem", "launch", "enqueue", "save", "find-field", "find-field-anywhere",
        "reset", "time", "copy", "command", "next", "previous", "back",
        footer=("fix", "next-problem", "launch", "enqueue", "save", "find-field", "find-field-anywhere"),
    )  # fmt: skip
    COMMANDS = Screen.COMMANDS | {FieldProvider}
    AUTO_FOCUS = "#field-model-name .control"
    CSS_PATH = "setup.tcss"

    def __init__(self, draft: Draft) -> None:
        super().__init__()
        self._datasets: dict[DatasetKey, DatasetInfo] = {}  # as last inspected
        self._is_asked = False  # whether to leave without saving
        self.start_from(draft)

    def compose(self) -> ComposeResult:
        breakpoints = (self.app.HORIZONTAL_BREAKPOINTS, self.app.VERTICAL_BREAKPOINTS)
        for size, classes in zip(self.app.size, breakpoints, strict=True):  # now: the first resize would style all anew
            self.add_class([name for start, name in classes or () if size >= start][-1])
        yield Header("set-up")
        with Container(id="setup"):
            with Vertical(id="options", classes="pane") as options:
                options.border_title = "options"
                yield Form(self.draft, self.checked, id="form")
                yield FieldHelp()
            cost_panel = CostPanel(CostWatch(self.app.free_memory), id="cost")
            cost_panel.border_title = "cost"
            yield cost_panel.add_class("pane")
        yield CommandBox(id="command")
        yield Footer()

    def on_mount(self) -> None:
        self.show_draft()
        self.set_interval(POLL_INTERVAL, self._poll)
        self.run_worker(self._poll(), group="poll")
        self.run_worker(self.check(), group="check")

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        """Keep the styles of all fields: they have them since they were mounted."""
        event.refresh_styles = False

    def _update_focus_styles(self, focused: Widget | None = None, blurred: Widget | None = None) -> None:
        """Style the panes, whose borders follow the focus; Textual would style every field in them at each key."""
        self.app.stylesheet.update_nodes(self.query(".pane"), animate=True)

    def start_from(self, draft: Draft) -> None:
        """Edit another draft."""
        self.draft = draft
        self._saved: dict[str, str] = {}  # what was typed when the form was saved last
        self.preset_file = PresetFile(draft.preset.path if draft.preset else None)
        self.checked = draft.check(self._datasets.get(draft.dataset_key))

    @property
    def unneeded_keys(self) -> tuple[str, ...]:
        unneeded = ["find-field" if self._is_writing else "find-field-anywhere"]
        unneeded += ["launch", "enqueue"] if self.checked.problems else ["next-problem"]
        if self.checked.fixable_problem(None) is None:
            unneeded.append("fix")
        return tuple(unneeded)

    @property
    def _is_writing(self) -> bool:
        """Whether a slash is a part of what is written: in a text, but not in a number."""
        return isinstance(self.focused, Input | TextArea) and not isinstance(self.focused, NumberControl)

    async def _poll(self) -> None:
        """Read the free memory, and whether the preset's file was edited."""
        for panel in self.query(CostPanel):  # none when the screen was left
            await asyncio.to_thread(self.preset_file.poll)
            await panel.read_memory()
            self.show_draft()

    # -- checking ---------------------------------------------------------------------------------------------------

    @on(ControlChanged)
    def _type(self, event: ControlChanged) -> None:
        is_current = event.text == self.query_one(Form).fields[event.option.key].control.text
        if is_current and event.text != self.draft.text(event.option):
            self.draft.type(event.option.key, event.text)
            self.run_worker(self._check_after_pause(), group="check", exclusive=True)

    async def _check_after_pause(self) -> None:
        await asyncio.sleep(TYPING_PAUSE)
        await self.check()

    async def check(self, *, inspect_dataset: bool = False) -> CheckedDraft:
        """Check the draft as it is now, and show the result; a data set is inspected once, in a thread."""
        key = self.draft.dataset_key
        if inspect_dataset or key not in self._datasets:
            self._datasets[key] = await asyncio.to_thread(dataset_info, *key)
        dataset = self._datasets.get(self.draft.dataset_key)
        self.checked = self.draft.check(dataset)
        if self.checked.varied:
            self.checked = await asyncio.to_thread(self.draft.with_plan, self.checked, dataset)
        self.show_draft()
        return self.checked

    def show_draft(self) -> None:
        """Show the draft, as it was checked last, in all parts of the screen."""
        if not self.query(CommandBox):  # the screen was left meanwhile
            return
        with self.app.batch_update():
            self._show_form()
            self.query_one(CommandBox).show(self.command)
            self.query_one(CostPanel).show(self.checked)
            self._show_header()
            self.query_one(Footer).refresh()

    def refill(self) -> None:
        """Show a draft that was changed by something else than its controls."""
        self.query_one(Form).fill(self.draft)
        self.run_worker(self.check(), group="check", exclusive=True)

    @property
    def command(self) -> str:
        """The command that would do the same."""
        return self.draft.command(self.checked)

    def _show_header(self) -> None:
        preset, run, changes = self.draft.preset, self.draft.run, len(self.draft.typed)
        if preset:
            title, about = f"preset {preset.name}", preset.about
        elif run:
            origin = "fork of" if self.draft.forks else "from run"
            title, about = f"{origin} {run.name}", ""
        else:
            title, about = "a new run", "from the defaults"
        notes = [about]
        if changes:
            notes = [f"{changes} changed"]
        if self.preset_file.is_edited:
            notes.append("its file was edited by another program")
        status, color = "✓ ready", "success"
        if self.checked.sweep is not None:
            costs = self.query_one(CostPanel).costs
            status = f"✓ {sweep_cost_text(self.checked, costs.epoch_time(self.checked.config))}"
            if infeasible := self.checked.sweep.infeasible:
                notes.append(f"{plural(len(infeasible), 'cell')} cannot be trained")
        if self.checked.problems:
            status, color = f"✗ {plural(len(self.checked.problems), 'problem')}", "error"
        style = f"bold {self.app.theme_variables[color]}"
        self.query_one(Header).update(title, ", ".join(filter(None, notes)), status, style)

    # -- fields -----------------------------------------------------------------------------------------------------

    @on(events.DescendantFocus)
    @on(events.DescendantBlur)
    def _show_focus(self) -> None:
        self._show_form()
        self.query_one(Footer).refresh()

    def _show_form(self) -> None:
        form = self.query_one(Form)
        form.show(self.draft, self.checked)
        self.query_one(FieldHelp).show(form.focused_field)

    @on(CostPanel.Measured)
    def _show_epoch_time(self) -> None:
        self._show_header()

    @on(Input.Submitted)
    def _focus_next_field(self) -> None:
        self.focus_next()

    def go_to(self, key: str) -> None:
        self.query_one(Form).go_to(key)

    def action_find_field(self) -> None:
        if self._is_writing:
            raise SkipAction
        self.action_find_field_anywhere()

    def action_find_field_anywhere(self) -> None:
        self.app.push_screen(CommandPalette(providers=[EveryField], placeholder="name of a field"))

    def action_reset(self) -> None:
        field = self.query_one(Form).focused_field
        if field is not None:
            self.draft.reset(field.option.key)
            self.refill()

    def action_fix(self) -> None:
        """Apply the fix of the focused field's problem, else of the first that has one."""
        form = self.query_one(Form)
        key = None
        if form.focused_field is not None:
            key = form.focused_field.option.key
        problem = self.checked.fixable_problem(key)
        if problem is not None:
            self.draft.apply(problem)
            if problem.key in form.fields:
                form.go_to(problem.key)
            self.refill()
        elif self.checked.problems:
            self.app.say("no problem has a fix that can be applied here")
        else:
            self.app.say("there is no problem")

    def action_go_to_problem(self, direction: int) -> None:
        if not self.query_one(Form).go_to_problem(direction):
            self.app.say("there is no problem")

    def action_time(self) -> None:
        self.query_one(CostPanel).time_steps()

    # -- the command ------------------------------------------------------------------------------------------------

    @on(CommandBox.Submitted)
    @on(CommandPasted)
    def _fill_from_command(self, event: CommandBox.Submitted | CommandPasted) -> None:
        """Fill the form from a command, wholly or not at all."""
        try:
            parsed = command_line.read("\n".join(event.text.splitlines()))  # terminals paste \r for a new line
            draft = Draft.from_command(parsed)
        except ValueError:
            self.app.push_screen(PasteErrors([Problem("a quote is left open", fix="close it")]))
            return
        except UserError as error:
            self.app.push_screen(PasteErrors(error.problems))
            return
        self.start_from(draft)
        self.query_one("#field-model-name .control").focus()
        self.refill()
        message = "the form is filled from the command"
        if parsed.passed_over:
            message += "; ignored, for the shell: " + ", ".join(parsed.passed_over)
        self.app.say(message)

    def on_paste(self, event: events.Paste) -> None:
        """Fill the form from a command that is pasted where nothing takes text."""
        if is_command(event.text):
            event.stop()
            self.post_message(CommandPasted(event.text))

    def action_command(self) -> None:
        self.query_one(CommandBox).focus()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.command)
        self.app.say("command copied")

    # -- saving, launching, leaving ---------------------------------------------------------------------------------

    async def _check_before_use(self) -> CheckedDraft | None:
        """Check the draft anew; with problems, show the first one and return None."""
        checked = await self.check(inspect_dataset=True)
        if not checked.problems:
            return checked
        problem = checked.problems[0]
        form = self.query_one(Form)
        if problem.key in form.fields:
            form.go_to(problem.key)
        self.app.say("\n".join(filter(None, (problem.message, form_fix(problem)))), error=True)
        return None

    @property
    def _preset_name(self) -> str | None:
        if self.draft.preset is None:
            return None
        return self.draft.preset.name

    async def action_launch(self) -> None:
        if checked := await self._check_before_use():
            self.app.pop_screen()
            for config in [cell.config for cell in checked.cells] or [checked.config]:
                self.app.launch(config, self._preset_name, self.draft.forks)

    async def action_enqueue(self) -> None:
        checked = await self._check_before_use()
        if checked is None:
            return
        if checked.cells and self.draft.forks is None:
            is_started = await self.app.start_sweep(self.draft.sweep(), self.draft.flags)
        else:
            configs = [cell.config for cell in checked.cells] or [checked.config]
            is_started = all(self.app.enqueue(config, self._preset_name, self.draft.forks) for config in configs)
        if is_started:
            self.app.pop_screen()

    async def action_save(self, then: Callable[[], object] | None = None) -> None:
        """Save as a preset, start from that, or as a sweep file; and then do something else."""
        checked = await self._check_before_use()
        if checked is None:
            return
        if checked.sweep is not None:
            prompt = Prompt("save as a sweep file", "path of a new file, such as mine.toml")
            self.app.ask(prompt, partial(self._save_sweep, checked.sweep.sweep, then))
        else:
            dialog = SavePreset(checked.config, self.draft.preset, self.preset_file.loaded)
            self.app.ask(dialog, partial(self._start_from_saved, then))

    def _save_sweep(self, sweep: Sweep, then: Callable[[], object] | None, text: str) -> None:
        with reporting_errors(self.app.say):
            path = typed_path(text.strip().removesuffix(".toml") + ".toml")
            save_sweep(path, sweep)
            self._saved = dict(self.draft.typed)
            self.app.say(f"saved: train it with convnn sweep run {shlex.quote(str(path))}")
            if then is not None:
                then()

    def _start_from_saved(self, then: Callable[[], object] | None, path: Path) -> None:
        self.start_from(Draft(store.read(str(path.absolute()))))
        self.refill()
        self.app.say(f"saved {path}")
        if then is not None:
            then()

    def action_back(self) -> None:
        """Go from the command box to the form, and from the form back."""
        if isinstance(self.focused, CommandBox):
            self.query_one("#field-model-name .control").focus()
        else:
            self.ask_to_leave(self.app.pop_screen)

    def ask_to_leave(self, leave: Callable[[], object], *, insists: bool = False) -> None:
        """Leave, after a question where the form has unsaved changes; who insists while it is open leaves at once."""
        if self.draft.typed == self._saved or (self._is_asked and insists):
            leave()
        elif not self._is_asked:
            self._is_asked = True
            changes = plural(len(self.draft.typed), "option was", "options were")
            dialog = Choice("leave the form", f"{changes} changed here and not saved.", LEAVE_ANSWERS)
            self.app.push_screen(dialog, partial(self._leave, leave))

    async def _leave(self, leave: Callable[[], object], answer: str | None) -> None:
        self._is_asked = False
        if answer == "leave":
            leave()
        elif answer == "save":
            await self.action_save(leave)
