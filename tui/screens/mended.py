"""The part of the form that goes from problem to problem and applies their fixes."""

from __future__ import annotations

from convnn.errors import Problem
from convnn.options import BY_PLACE
from tui.screens.priced import Priced
from tui.widgets.form import Form


class Mended(Priced):
    """A screen with a `Form` whose problems can be jumped to and fixed by keys."""

    def rewritten(self) -> None:
        """Show a draft that was changed by something else than its fields."""
        raise NotImplementedError

    def action_fix(self) -> None:
        """Apply the fix of the focused field's problem, else of the first that has one."""
        found = self.checked.problems if self.checked else ()
        field = self.query_one(Form).focused_field
        here = [problem for problem in found if field is not None and problem.key == field.option.place]
        problem = next((problem for problem in [*here, *found] if problem.change), None)
        if problem is None:
            self.app.say("no problem here has a fix that a key can apply" if found else "there is no problem")
            return
        self.change(problem)

    def change(self, problem: Problem) -> None:
        """Apply a problem's fix."""
        for place, value in (problem.change or {}).items():
            self.draft.type(place, BY_PLACE[place].text(value))
        if problem.key in BY_PLACE:
            self.query_one(Form).go_to(problem.key)
        self.rewritten()

    def _jump(self, by: int) -> None:
        form = self.query_one(Form)
        places = list(form.fields)
        wrong = [at for at, place in enumerate(places) if self.checked and self.checked.at(place)]
        if not wrong:
            self.app.say("there is no problem")
            return
        here = form.focused_field
        at = places.index(here.option.place) if here else -1 if by > 0 else len(places)
        later = [i for i in wrong if (i - at) * by > 0] or wrong
        form.go_to(places[later[0 if by > 0 else -1]])

    def action_next_problem(self) -> None:
        self._jump(1)

    def action_previous_problem(self) -> None:
        self._jump(-1)
