"""The configuration of a run: what differs from the defaults first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from convnn.config.options import BY_KEY
from convnn.runs.history import History
from tui.screens.run.pane import WordsPane

Sections = Mapping[str, Mapping[str, Any]]


class ConfigurationPane(WordsPane):
    """Every option of the run, under the name of its flag."""

    TITLE = "configuration"
    SAID_WHEN_EMPTY = "reading config.toml"
    HELP = "The options of this run: those that differ from the defaults first, then all others. Arrows scroll."

    def show(self, history: History) -> None:
        """A configuration does not change while a run trains."""

    def show_sections(self, sections: Sections) -> None:
        """Show the values of `config.toml`."""
        differ, same = split(sections)
        self.tell(
            [
                ("differs from the defaults" if differ else "all options at their defaults", ""),
                *_listed(differ),
                *([("at their defaults", "")] if differ and same else []),
                *_listed(same),
            ]
        )

    def show_problem(self, problem: str) -> None:
        """Say why there is nothing to show."""
        self.tell([(line, "") for line in problem.splitlines()])


def split(sections: Sections) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """(key, value) of the options that differ from the defaults, and of those that do not."""
    halves: tuple[list[tuple[str, Any]], ...] = ([], [])
    for section, values in sections.items():
        for field, value in values.items():
            key = f"{section}.{field}"
            option = BY_KEY.get(key)
            at_default = option is not None and (value == option.default or (not value and not option.default))
            halves[at_default].append((key, value))
    return halves[0], halves[1]


def _listed(options: list[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    for key, value in options:
        name = BY_KEY[key].flag.lstrip("-") if key in BY_KEY else key  # shorter, and what one types
        if isinstance(value, bool):
            yield name, "on" if value else "off"
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value)) or "none"
        else:
            yield name, "none" if value is None else str(value)
