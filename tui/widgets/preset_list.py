"""The presets of Home: a name, how many problems it has, and what it is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from convnn.presets import store
from convnn.text import escaped, fit, plural
from tui.widgets.virtual_list import VirtualList

NAME_WIDTH = 24  # cells
ONE_LINE_WIDTH = 74  # cells from which on the about line stands beside the name


@dataclass(frozen=True)
class PresetEntry:
    """A preset as Home lists it."""

    name: str
    path: Path
    about: str
    problems: int = 0
    hides: str = ""  # the presets of this name that are not used


def read_presets() -> Iterator[PresetEntry]:
    """Yield every preset that can be opened by its name; without an about line its first problem stands there."""
    for preset in store.read_all():
        assert preset.path is not None
        about = preset.about
        if preset.problems:
            about = about or preset.problems[0].message
        yield PresetEntry(preset.name, preset.path, about, len(preset.problems), store.hidden_by(preset.path))


class PresetList(VirtualList[PresetEntry]):
    """The presets by name."""

    help_title = "presets"
    HELP = (
        "A preset is a TOML file with the options that differ from the defaults. Enter opens it in the form; f5 trains "
        "it as it is. Presets lie in ./presets, in $XDG_CONFIG_HOME/convnn/presets, and in convnn itself."
    )

    def item_key(self, item: PresetEntry) -> object:
        return item.path

    @property
    def item_height(self) -> int:
        return 1 if self.size.width >= ONE_LINE_WIDTH else 2

    def render_item(self, item: PresetEntry, width: int) -> list[Text]:
        about = escaped(item.about) or "no about line"
        if store.is_ours(item.path):
            origin = "yours"
            if item.hides:
                origin += f", hides {escaped(item.hides)}"
            about = f"{origin} · {about}"
        problems = ""
        if item.problems:
            problems = plural(item.problems, "problem") + "  "
        error_color = self.app.theme_variables["error"]
        if self.item_height == 1:
            name = fit(escaped(item.name), NAME_WIDTH)
            line = Text(f" {name:<{NAME_WIDTH}}  ", "bold").append(problems, error_color)
            return [line.append(fit(about, width - NAME_WIDTH - 4 - len(problems)), "dim not bold")]
        first = Text(f" {fit(escaped(item.name), width - 14)} ", "bold").append(problems, error_color)
        return [first, Text(f"   {fit(about, width - 4)}", "dim")]
