"""The presets of Home: a name and what it is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from convnn.errors import UserError
from convnn.presets import store
from convnn.text import escaped, fit
from tui.widgets.virtual_list import VirtualList

WIDE = 74  # cells from which on a name and its about line stand beside each other


@dataclass(frozen=True)
class Listed:
    """A preset as Home lists it."""

    name: str
    path: Path
    about: str
    problems: int = 0


def listed() -> Iterator[Listed]:
    """Every preset that a name finds, with its about line."""
    for name, paths in store.listed().items():
        try:
            preset = store.read(str(paths[0]) if paths[0].is_absolute() else f"./{paths[0]}")
        except UserError as error:
            yield Listed(name, paths[0], str(error.problems[0].message), 1)
            continue
        count = len(preset.problems)
        yield Listed(name, paths[0], preset.about, count)


class PresetList(VirtualList[Listed]):
    """The presets by name."""

    help_title = "presets"
    HELP = (
        "A preset is a TOML file that holds what differs from the defaults. Enter loads it into the form; f5 trains it "
        "as it is. They are looked for in ./presets, then in $XDG_CONFIG_HOME/convnn/presets, then among those that "
        "came with convnn."
    )

    def key_of(self, item: Listed) -> object:
        return item.path

    @property
    def tall(self) -> int:
        return 1 if self.size.width >= WIDE else 2

    def paint(self, item: Listed, width: int) -> list[Text]:
        about = escaped(item.about) or "no about line"
        wrong = f"{item.problems} problem{'s' * (item.problems > 1)}  " if item.problems else ""
        colour = self.app.theme_variables["error"]
        if self.tall == 1:
            name = fit(escaped(item.name), 24)
            line = Text(f" {name:<24}  ", "bold").append(wrong, colour)
            return [line.append(fit(about, width - 28 - len(wrong)), "dim not bold")]
        first = Text(f" {fit(escaped(item.name), width - 14)} ", "bold").append(wrong, colour)
        return [first, Text(f"   {fit(about, width - 4)}", "dim")]
