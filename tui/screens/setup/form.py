"""The form: every option of the schema as a field, under the name of its section."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from convnn.config.options import BY_KEY, Option
from convnn.config.schema import RunConfig
from convnn.errors import Problem
from tui.keys import bindings
from tui.screens.setup.cost_watch import Priced
from tui.screens.setup.draft import FIELDS, Checked, Draft
from tui.screens.setup.field import Field, State, told


class Form(VerticalScroll, can_focus=False):
    """The fields. It is told what is known of the draft, and shows what differs from the last time."""

    BINDINGS = bindings("next-section", "previous-section")
    DEFAULT_CSS = """
    Form { padding: 0 1; scrollbar-size-vertical: 1; }
    Form > .section { color: $text-muted; text-style: bold; height: auto; margin-top: 1; }
    Form > .section.first { margin-top: 0; }
    Form > .trouble { color: $error; padding: 0 0 0 2; height: auto; }
    """

    def __init__(self, draft: Draft, checked: Checked, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.fields = {option.key: Field(option, state_of(option, draft, checked)) for option in FIELDS}
        self.homeless = Static("", classes="trouble", markup=False)
        self.homeless.display = False

    def compose(self) -> ComposeResult:
        yield self.homeless
        section = ""
        for field in self.fields.values():
            if field.option.section != section:
                first = " first" if not section else ""
                section = field.option.section
                about = (RunConfig.model_fields[section].annotation.__doc__ or "").rstrip(".")
                yield Static(f"{section}  {about[:1].lower()}{about[1:]}", classes=f"section{first}", markup=False)
            yield field

    def on_mount(self) -> None:
        for field in self.fields.values():
            if field.state.problems:
                field.show_trouble()

    def show(self, draft: Draft, checked: Checked) -> None:
        """Show the draft, and what the check found."""
        here = self.focused_field
        had = (here.state.problems, here.state.focused) if here else None
        for field in self.fields.values():
            field.show(state_of(field.option, draft, checked, focused=field is here))
        if here is not None and (here.state.problems, here.state.focused) != had:  # it takes more or fewer lines now
            self._reveal(here)
        self.homeless.display = bool(checked.homeless)
        self.homeless.update(told(tuple(checked.homeless)))

    def write(self, draft: Draft) -> None:
        """Put the draft's words into the controls: after a change that no key in them made.

        Never while one types: a word on its way to the draft would be overwritten by the one before.
        """
        for field in self.fields.values():
            field.control.show(draft.text(field.option))

    @property
    def focused_field(self) -> Field | None:
        """The field that has the focus."""
        focused = self.screen.focused
        return focused.parent if focused is not None and isinstance(focused.parent, Field) else None

    def go_to(self, key: str) -> None:
        """Put the focus on a field, and all that is said of it into view."""
        field = self.fields[key]
        field.control.focus(scroll_visible=False)
        self._reveal(field)

    def _reveal(self, field: Field) -> None:
        def reveal() -> None:
            if field.trouble is not None and field.trouble.display:
                self.scroll_to_widget(field.trouble, animate=False)
            self.scroll_to_widget(field, animate=False)

        self.call_after_refresh(reveal)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if isinstance(event.widget.parent, Field):
            self._reveal(event.widget.parent)

    def _section(self, by: int) -> None:
        firsts = [field for field in self.fields.values() if self._is_first(field)]
        here = self.focused_field
        at = max((i for i, f in enumerate(firsts) if here and f.option.section == here.option.section), default=0)
        self.go_to(firsts[max(0, min(at + by, len(firsts) - 1))].option.key)

    def _is_first(self, field: Field) -> bool:
        return next(f for f in self.fields.values() if f.option.section == field.option.section) is field

    def action_next_section(self) -> None:
        self._section(1)

    def action_previous_section(self) -> None:
        self._section(-1)


def state_of(option: Option, draft: Draft, checked: Checked, *, focused: bool = False) -> State:
    """What a field has to show of a draft."""
    return State(
        text=draft.text(option),
        begun=draft.begun(option),
        changed=option.key in draft.typed,
        origin="preset" if draft.preset else "run" if draft.run else "default",
        inactive=checked.inactive.get(option.key),
        problems=tuple(checked.at(option.key)),
        focused=focused,
    )


class Mended(Priced):
    """A screen with a `Form` whose problems can be jumped to and fixed by keys."""

    def rewritten(self) -> None:
        """Show a draft that was changed by something else than its fields."""
        raise NotImplementedError

    def action_fix(self) -> None:
        """Apply the fix of the focused field's problem, else of the first that has one."""
        found = self.checked.problems if self.checked else ()
        field = self.query_one(Form).focused_field
        here = [problem for problem in found if field is not None and problem.key == field.option.key]
        problem = next((problem for problem in [*here, *found] if problem.change), None)
        if problem is None:
            self.app.say("no problem here has a fix that a key can apply" if found else "there is no problem")
            return
        self.change(problem)

    def change(self, problem: Problem) -> None:
        """Apply a problem's fix."""
        for key, value in (problem.change or {}).items():
            self.draft.type(key, BY_KEY[key].text(value))
        if problem.key in BY_KEY:
            self.query_one(Form).go_to(problem.key)
        self.rewritten()

    def _jump(self, by: int) -> None:
        form = self.query_one(Form)
        keys = list(form.fields)
        wrong = [at for at, key in enumerate(keys) if self.checked and self.checked.at(key)]
        if not wrong:
            self.app.say("there is no problem")
            return
        here = form.focused_field
        at = keys.index(here.option.key) if here else -1 if by > 0 else len(keys)
        later = [i for i in wrong if (i - at) * by > 0] or wrong
        form.go_to(keys[later[0 if by > 0 else -1]])

    def action_next_problem(self) -> None:
        self._jump(1)

    def action_previous_problem(self) -> None:
        self._jump(-1)
