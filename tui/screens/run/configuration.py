"""The configuration of a run: options that differ from the defaults first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from convnn.errors import UserError
from convnn.runs.history import History
from convnn.runs.run import Run
from convnn.terminal.report import options_by_default
from tui.screens.run.pane import Changes, TextPane


class ConfigurationPane(TextPane):
    """Every option of the run, by the name of its flag."""

    ID = "configuration"
    TITLE = "configuration"
    HELP = "The options of this run: those that differ from the defaults first, then all others. Arrows scroll."
    IS_SECONDARY = True
    PLACEHOLDER = "reading config.toml"

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._run: Run | None = None

    def show(self, history: History, changes: Changes) -> None:
        """Read `config.toml` once: it does not change while a run trains."""
        if self._run == changes.run:
            return
        self._run = changes.run
        try:
            self.write(_pairs(changes.run.sections()))
        except (UserError, OSError) as error:
            self.write((line, "") for line in str(error).splitlines())


def _pairs(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    changed, unchanged = options_by_default(sections)
    yield ("differs from the defaults" if changed else "all options at their defaults"), ""
    yield from ((option.name, option.value) for option in changed)
    if changed and unchanged:
        yield "at their defaults", ""
    yield from ((option.name, option.value) for option in unchanged)
