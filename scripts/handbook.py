"""The parts of the README that are made from the code: `python tests/handbook.py` writes them anew."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from convnn.config.options import OPTIONS, SECTIONS, Option, effect_words
from tui.keys import KEYS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SHOWN = (3, 4, 10, 11)  # steps of the walk


def options() -> str:
    """The option table: a row for every field of the schema."""
    lines = ["| place | flag | default | values | what it is | has an effect |", "|---|---|---|---|---|---|"]
    lines += [_row(option) for section in SECTIONS for option in OPTIONS if option.section == section]
    return "\n".join(lines)


def _row(option: Option) -> str:
    default = option.text(option.default) or "none"
    if option.choices:
        values = " ".join(option.choices)
    else:
        values = option.hint or " ".join(filter(None, (option.kind, option.bounds(), option.unit)))
    values += ", none" if option.optional else ""
    cells = [option.place, f"`{option.flag}`", default, values, option.help, effect_words(option) or "always"]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def tree() -> str:
    """Every module with the first line of its docstring."""
    lines = []
    for folder in ("convnn", "tui", "benchmarks", "docs"):
        for path in sorted((ROOT / folder).rglob("*.py"), key=lambda p: (len(p.relative_to(ROOT).parts), str(p))):
            if path.name != "__init__.py" or len(path.relative_to(ROOT).parts) == 2:
                lines.append((str(path.relative_to(ROOT)), _first_line(path)))
    width = max(len(path) for path, _ in lines)
    return "```text\n" + "\n".join(f"{path:<{width}}  {line}".rstrip() for path, line in lines) + "\n```"


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0].rstrip(".")


def keys() -> str:
    """The keys of the app, from the one table that binds them."""
    rows = ["| key | what it does |", "|---|---|"]
    rows += [f"| `{key.shown or key.keys.replace(',', '`, `')}` | {key.about} |" for key in KEYS.values()]
    return "\n".join(row.replace("`question_mark`", "`?`") for row in rows)


def walk() -> str:
    """The steps of the walk at 80x24 that the README shows."""
    told = steps((ROOT / "docs" / "walk-80x24.txt").read_text())
    return "\n\n".join(f"Step {number}: {told[number][0]}\n\n```text\n{told[number][1]}\n```" for number in SHOWN)


def steps(text: str) -> dict[int, tuple[str, str]]:
    """(caption, screen) of each step of a walk, by its number."""
    found = {}
    for part in text.split("=== ")[1:]:
        line, _, screen = part.partition("\n\n")
        number, _, caption = line.partition(". ")
        found[int(number)] = (caption, screen.rstrip("\n"))
    return found


PARTS = {"options": options, "keys": keys, "tree": tree, "walk": walk}


def written(text: str) -> str:
    """The README with the parts between its markers made anew."""
    for name, make in PARTS.items():
        block = f"<!-- {name} -->\n\n{make()}\n\n<!-- /{name} -->"
        text, count = re.subn(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, b=block: b, text, flags=re.S)
        assert count == 1, f"the README has {count} places for {name}"
    return text


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
