"""The form: every option of the schema as a field, under the name of its section."""

from __future__ import annotations

from itertools import groupby

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from convnn.config.schema import RunConfig
from tui.keys import bindings
from tui.screens.setup.draft import FIELDS, CheckedDraft, Draft
from tui.screens.setup.field import FieldState, FormField, problem_text


class FieldHelp(Widget):
    """What the focused field is about, in a place of its own: no field moves when the focus does."""

    DEFAULT_CSS = "FieldHelp { height: 2; padding: 0 1; background: $surface; }"

    def __init__(self) -> None:
        super().__init__()
        self.about = Text()

    def show(self, field: FormField | None) -> None:
        """Show a field; without one the last stays."""
        if field is not None and field.about() != self.about:
            self.about = field.about()
            self.refresh()

    def render(self) -> Text:
        return self.about


class Form(VerticalScroll, can_focus=False):
    """The fields by option key. `show` changes what differs from the last time."""

    BINDINGS = bindings("previous-field", "next-field", "next-section", "previous-section")
    DEFAULT_CSS = """
    Form { padding: 0 1; scrollbar-size-vertical: 1; }
    Form > .section { color: $text-muted; text-style: bold; height: auto; margin-top: 1; }
    Form > .section.-first { margin-top: 0; }
    Form > .problems { color: $error; padding: 0 0 0 2; height: auto; }
    """

    def __init__(self, draft: Draft, checked: CheckedDraft, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.fields = {option.key: FormField(option, FieldState.of(option, draft, checked)) for option in FIELDS}
        self.general_problems = Static("", classes="problems", markup=False)
        self.general_problems.display = False
        self.titles: dict[str, Static] = {}  # by section
        self._title_on_top: Static | None = None  # of the section that was gone to, while its first field has the focus

    def compose(self) -> ComposeResult:
        yield self.general_problems
        for section, fields in groupby(self.fields.values(), lambda field: field.option.section):
            about = (RunConfig.model_fields[section].annotation.__doc__ or "").rstrip(".")
            title = Static(f"{section}  {about[:1].lower()}{about[1:]}", classes="section", markup=False)
            title.set_class(section == FIELDS[0].section, "-first")
            self.titles[section] = title
            yield title
            yield from fields

    def on_mount(self) -> None:
        for field in self.fields.values():
            if field.state.problems:
                field.show_problems()

    def show(self, draft: Draft, checked: CheckedDraft) -> None:
        """Show a draft beside its controls, which keep their texts."""
        focused = self.focused_field
        previous_state = focused.state if focused else None
        for field in self.fields.values():
            field.show(FieldState.of(field.option, draft, checked, is_focused=field is focused))
        if focused is not None and previous_state is not None and focused.state.problems != previous_state.problems:
            self._reveal(focused)  # with them it takes more or fewer lines
        self.general_problems.display = bool(checked.general_problems)
        problems = problem_text(checked.general_problems)
        if problems != self.general_problems.content:  # else each key would lay out the screen anew
            self.general_problems.update(problems)

    def fill(self, draft: Draft) -> None:
        """Set the controls to the texts of a draft.

        Never while one types: a text on its way to the draft would be overwritten by the one before.
        """
        for field in self.fields.values():
            field.control.show(draft.text(field.option))

    @property
    def focused_field(self) -> FormField | None:
        focused = self.screen.focused
        if focused is not None and isinstance(focused.parent, FormField):
            return focused.parent
        return None

    def go_to(self, key: str) -> None:
        """Focus the field of an option and scroll it into view with its problems."""
        field = self.fields[key]
        self._title_on_top = None
        field.control.focus(scroll_visible=False)
        self._reveal(field)

    def go_to_problem(self, direction: int) -> bool:
        """Focus the next (direction 1) or previous (-1) field with a problem; return whether there is one."""
        fields = list(self.fields.values())
        focused = self.focused_field
        start, distances = 0, range(len(fields))
        if focused is not None:
            start, distances = fields.index(focused), range(1, len(fields) + 1)
        for distance in distances:
            field = fields[(start + direction * distance) % len(fields)]
            if field.state.problems:
                self.go_to(field.option.key)
                return True
        return False

    def _reveal(self, field: FormField) -> None:
        def scroll() -> None:
            if field.problem_box is not None and field.problem_box.display:
                self.scroll_to_widget(field.problem_box, animate=False)
            self.scroll_to_widget(field, animate=False)
            if self._title_on_top is not None:
                self.scroll_to(y=self._title_on_top.virtual_region.y, animate=False)

        self.call_after_refresh(scroll)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        field = event.widget.parent
        if isinstance(field, FormField):
            if self._title_on_top is not self.titles[field.option.section]:
                self._title_on_top = None
            self._reveal(field)

    def action_go_to_field(self, distance: int) -> None:
        fields = list(self.fields.values())
        focused = self.focused_field
        if focused is not None:
            index = fields.index(focused) + distance
            self.go_to(fields[max(0, min(index, len(fields) - 1))].option.key)

    def action_go_to_section(self, distance: int) -> None:
        """Focus the first field of another section, with the title of the section at the top of the view."""
        sections = list(self.titles)
        index = 0
        if self.focused_field is not None:
            index = sections.index(self.focused_field.option.section)
        section = sections[max(0, min(index + distance, len(sections) - 1))]
        first_field = next(field for field in self.fields.values() if field.option.section == section)
        self.go_to(first_field.option.key)
        self._title_on_top = self.titles[section]
