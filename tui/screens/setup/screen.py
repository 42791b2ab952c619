"""The set-up form: a configuration is made, checked while one types, priced, saved and launched."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.timer import Timer
from textual.widgets import Input

from convnn.config import command_line
from convnn.config.options import BY_KEY, value_at
from convnn.errors import Problem, UserError
from convnn.presets import store
from tui.dialogs.choice import Choice
from tui.keys import bindings
from tui.screens.setup.command_box import CommandLine
from tui.screens.setup.controls import Pasted, Typed
from tui.screens.setup.cost_panel import Cost
from tui.screens.setup.draft import Checked, Draft, filled
from tui.screens.setup.form import Form, Mended
from tui.screens.setup.paste_errors import NotUnderstood
from tui.screens.setup.save_preset import SavePreset
from tui.widgets.header_footer import Footer, Header

PAUSE = 0.012  # seconds without a key before a check
ANSWERS = (
    ("stay", "stay", "nothing happens"),
    ("save", "save", "keep it as a preset"),
    ("leave", "leave", "the changes are lost"),
)
LOOK = 5.0  # seconds between two looks at the free memory and at the preset's file


class SetupScreen(Mended):
    """The form, what it costs, and the command that would do the same."""

    BINDINGS = bindings(
        "launch", "launch-letter", "detach", "save", "fix", "next-problem", "previous-problem", "reset", "time", "copy",
        "command", "next", "previous", "back", footer=("launch", "save", "fix", "next-problem"),
    )  # fmt: skip
    AUTO_FOCUS = "#field-model-name .control"
    CSS_PATH = "setup.tcss"

    def __init__(self, draft: Draft) -> None:
        super().__init__()
        self.draft = draft
        self.remember()
        self._waiting: Timer | None = None
        self._one = asyncio.Lock()  # at a time: a check may have to read a large folder

    def compose(self) -> ComposeResult:
        wide, name = (self.app.HORIZONTAL_BREAKPOINTS or [(0, "")])[-1]
        self.set_class(self.app.size.width >= wide, name)  # not only after the first frame
        yield Header("set-up")
        with Container(id="setup"):
            self.checked = self.draft.check()
            form = Form(self.draft, self.checked, id="form")
            form.add_class("pane")
            form.border_title = "options"
            yield form
            cost = Cost(id="cost")
            cost.add_class("pane")
            cost.border_title = "cost"
            yield cost
        yield CommandLine(id="command")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(Cost).now = self.app.now
        assert self.checked is not None
        self.take(self.checked)
        self.set_interval(LOOK, self.look)
        self.run_worker(self.look(), group="look")

    # -- checking ---------------------------------------------------------------------------------------------------

    @on(Typed)
    def typed(self, event: Typed) -> None:
        stale = event.text != self.query_one(Form).fields[event.option.key].control.word  # another came after it
        if not stale and event.text != self.draft.text(event.option):
            self.draft.type(event.option.key, event.text)
            self._check_soon()

    def _check_soon(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
        self._waiting = self.set_timer(PAUSE, lambda: self.run_worker(self.check(), group="check", exclusive=True))

    async def check(self) -> Checked:
        """Check the draft as it is now, and show what was found."""
        async with self._one:
            checked = await asyncio.to_thread(self.draft.copy().check)
        self.take(checked)
        return checked

    def take(self, checked: Checked) -> None:
        """Show what a check found."""
        self.checked = checked
        if not self.query(CommandLine):  # it was left meanwhile
            return
        with self.app.batch_update():
            self.query_one(Form).show(self.draft, checked)
            self.query_one(CommandLine).show(self.command)
            self.tell_cost()
            self.say()

    def rewritten(self) -> None:
        """Show a draft that was changed by something else than its fields."""
        self.query_one(Form).write(self.draft)
        self.take(self.draft.copy().check())

    @property
    def command(self) -> str:
        """The command that would do the same, with the words that are refused as they were typed."""
        assert self.checked is not None
        words = self.draft.command(self.checked)
        for key, text in self.draft.typed.items():
            option = BY_KEY[key]
            try:
                refused = option.parse(text) != value_at(self.checked.config, key)
            except ValueError:
                refused = True
            if refused:
                words += f" {option.flag} {shlex.quote(text)}"
        return words

    def say(self) -> None:
        if self.checked is None or not self.query(Header):
            return
        preset = self.draft.preset
        run = self.draft.run
        where = f"preset {preset.name}" if preset else f"from run {run.name}" if run else "a new run"
        changed = len(self.draft.typed)
        about = f"{changed} changed" if changed else preset.about if preset else "" if run else "from the defaults"
        if self.edited:
            about += ", " * bool(about) + "its file was edited elsewhere"
        count = len(self.checked.problems)
        said, style = (f"✗ {count} problem{'s' * (count > 1)}", "error") if count else ("✓ ready", "success")
        self.query_one(Header).update(where, about, said, f"bold {self.app.theme_variables[style]}")

    # -- fields -----------------------------------------------------------------------------------------------------

    def action_reset(self) -> None:
        """The focused field as it was at the beginning."""
        field = self.query_one(Form).focused_field
        if field is not None:
            self.draft.reset(field.option.key)
            self.rewritten()

    @on(events.DescendantFocus)
    @on(events.DescendantBlur)
    def _focus_moved(self) -> None:
        if self.checked is not None:
            self.query_one(Form).show(self.draft, self.checked)

    @on(Input.Submitted)
    def _next(self) -> None:
        self.focus_next()

    # -- the command ------------------------------------------------------------------------------------------------

    @on(CommandLine.Given)
    @on(Pasted)
    def fill(self, event: CommandLine.Given | Pasted) -> None:
        """Fill the form from a command, wholly or not at all."""
        try:
            parsed = command_line.read("\n".join(event.text.splitlines()))  # terminals paste \r for a new line
            self.draft = filled(parsed)
        except ValueError:
            self.app.push_screen(NotUnderstood((Problem("a quote is left open", fix="close it"),)))
            return
        except UserError as error:
            self.app.push_screen(NotUnderstood(error.problems))
            return
        self.remember()
        self.query_one("#field-model-name .control").focus()
        self.rewritten()
        if parsed.passed_over:
            self.app.say(
                "the form is filled; passed over, as they belong to the shell: " + ", ".join(parsed.passed_over)
            )
        else:
            self.app.say("the form is filled from the command")

    def on_paste(self, event: events.Paste) -> None:
        """A command that is pasted where nothing takes text fills the form all the same."""
        if "convnn" in event.text or "main.py" in event.text:
            event.stop()
            self.post_message(Pasted(event.text))

    def action_command(self) -> None:
        self.query_one(CommandLine).focus()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.command)
        self.app.say("the command is copied")

    # -- saving, launching, leaving ---------------------------------------------------------------------------------

    async def _ready(self) -> Checked | None:
        """The draft, checked as it is now; None, and the first problem in sight, when it has one."""
        checked = await self.check()
        if not checked.problems:
            return checked
        first = checked.problems[0]
        if first.key in self.query_one(Form).fields:
            self.query_one(Form).go_to(str(first.key))
        self.app.say(f"{first.message}" + (f"\n{first.fix}" if first.fix else ""), error=True)
        return None

    async def action_launch(self) -> None:
        """Train it in this app."""
        if checked := await self._ready():
            self.app.pop_screen()
            self.app.launch(checked.config, self.draft.preset.name if self.draft.preset else None)

    action_launch_letter = action_launch

    async def action_detach(self) -> None:
        """Train it in a process of its own."""
        checked = await self._ready()
        if checked and self.app.detach(checked.config, self.draft.preset.name if self.draft.preset else None):
            self.app.pop_screen()

    async def action_save(self) -> None:
        """Save it as a preset."""
        if checked := await self._ready():
            self.app.push_screen(SavePreset(checked.config, self.draft.preset, self.seen), self._saved)

    def _saved(self, path: Path | None) -> None:
        if path is None:
            return
        self.draft = Draft(store.read(str(path.absolute())))
        self.remember()
        self.rewritten()
        self.app.say(f"saved {path}")

    def action_back(self) -> None:
        """From the command line to the form, from the form to Home."""
        if isinstance(self.focused, CommandLine):
            self.query_one("#field-model-name .control").focus()
        elif self.draft.typed:
            self.app.push_screen(Choice("leave the form", "What was changed here is not saved.", ANSWERS), self._left)
        else:
            self.app.pop_screen()

    async def _left(self, word: str | None) -> None:
        if word == "leave":
            self.app.pop_screen()
        elif word == "save":
            await self.action_save()
