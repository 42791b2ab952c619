"""Write the generated parts of the documentation: `python -m scripts.generate_docs`.

A part lies between the comments `<!-- NAME -->` and `<!-- /NAME -->` of its page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from textual.binding import Binding

from convnn.config.options import OPTIONS, SECTIONS, Option, effect_words

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
WALK_STEPS = (3, 4, 10, 11)  # the steps of the walk that the page shows

# the classes whose keys work on a screen: the screen, and the widgets that can have the focus there
SCREENS = {
    "Everywhere": ("tui.app:ConvnnApp",),
    "Home": ("tui.screens.home:HomeScreen", "tui.widgets.queue_list:QueueList"),
    "Form": (
        "tui.screens.setup.screen:SetupScreen",
        "tui.screens.setup.form:Form",
        "tui.screens.setup.controls:PickControl",
        "tui.screens.setup.controls:NumberControl",
    ),
    "Run": ("tui.screens.run.screen:RunScreen", "tui.widgets.linked_charts:LinkedCharts"),
    "Classes": ("tui.screens.run.classes:ClassesPane",),
    "Neighbors": ("tui.screens.run.neighbors:NeighborsPane",),
    "Layers": ("tui.screens.run.layers:LayersPane",),
    "Sweep": ("tui.screens.sweep.screen:SweepScreen", "tui.screens.sweep.grid:SweepGrid"),
    "Runs table": ("tui.screens.runs:RunsScreen", "tui.widgets.run_grid:RunGrid"),
    "Comparison": ("tui.screens.compare.screen:CompareScreen", "tui.widgets.linked_charts:LinkedCharts"),
}


def options() -> str:
    """The option table: a row per field of the schema."""
    lines = ["| key | flag | default | values | meaning | has an effect |", "|---|---|---|---|---|---|"]
    lines += [_option_row(option) for section in SECTIONS for option in OPTIONS if option.section == section]
    return "\n".join(lines)


def _option_row(option: Option) -> str:
    default = option.text(option.default) or "none"
    if option.choices:
        values = " ".join(option.choices)
    else:
        values = option.hint or " ".join(filter(None, (option.kind, option.bounds(), option.unit)))
    if option.optional:
        values += ", none"
    cells = [option.key, f"`{option.flag}`", default, values, option.help, effect_words(option) or "always"]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def keys() -> str:
    """The keys of the app, a table per screen, from the bindings of its classes."""
    tables = []
    for title, classes in SCREENS.items():
        rows = dict.fromkeys(row for name in classes for row in _key_rows(name))
        tables.append("\n".join([f"### {title}", "", "| key | what it does |", "|---|---|", *rows]))
    return "\n\n".join(tables)


def _key_rows(name: str) -> Iterator[str]:
    module, _, attribute = name.partition(":")
    keys: dict[str, list[str]] = {}
    for binding in getattr(import_module(module), attribute).BINDINGS:
        if isinstance(binding, Binding) and binding.tooltip:
            keys.setdefault(binding.tooltip, []).append(binding.key_display or binding.key)
    for help, names in keys.items():
        yield f"| `{'`, `'.join(names)}` | {help} |"


def walk() -> str:
    """Some steps of the walk at 80x24."""
    screens = walk_steps((DOCS / "walk-80x24.txt").read_text())
    return "\n\n".join(f"Step {n}: {screens[n][0]}\n\n```text\n{screens[n][1]}\n```" for n in WALK_STEPS)


def walk_steps(text: str) -> dict[int, tuple[str, str]]:
    """(caption, screen) of each step of a walk, by its number."""
    steps = {}
    for part in text.split("=== ")[1:]:
        line, _, screen = part.partition("\n\n")
        number, _, caption = line.partition(". ")
        steps[int(number)] = (caption, screen.rstrip("\n"))
    return steps


PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "options": ("options.md", options),
    "keys": ("app.md", keys),
    "walk": ("app.md", walk),
}


def generated(page: str, text: str) -> str:
    """The text of a page with its generated parts made anew. Raises ValueError where a part has no place."""
    for name, (owner, make) in PARTS.items():
        if owner != page:
            continue
        block = f"<!-- {name} -->\n\n{make()}\n\n<!-- /{name} -->"
        text, count = re.subn(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, block=block: block, text, flags=re.S)
        if count != 1:
            raise ValueError(f"{page} has {count} places for {name}, not 1")
    return text


if __name__ == "__main__":
    for page in sorted({page for page, _ in PARTS.values()}):
        path = DOCS / page
        path.write_text(generated(page, path.read_text()))
