"""`convnn presets`: list, show, check and copy."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from convnn.cli import arguments
from convnn.cli.output import cell, print_grid, write_json
from convnn.errors import Exit, Problem, UserError
from convnn.presets.resolve import resolve_with_data
from convnn.presets.store import Preset, hidden_by, origin, read, read_all, read_checked, source
from convnn.terminal.console import out, say
from convnn.text import plural

presets = typer.Typer(help="List, show, check and copy presets.", rich_markup_mode="rich")
EXAMPLES = """
convnn presets
convnn presets check
convnn presets copy quickstart mine
"""


@presets.callback(invoke_without_command=True)
def default(context: typer.Context, as_json: arguments.Json = False) -> None:
    """List, show, check and copy presets; without a command list them."""
    if context.invoked_subcommand is None:
        list_(as_json)


@presets.command("list")
def list_(as_json: arguments.Json = False) -> None:
    """List the presets with what they say about themselves."""
    listed_presets = list(read_all())
    if as_json:
        return write_json({"presets": [_entry(preset) for preset in listed_presets]})
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for preset in listed_presets:
        assert preset.path is not None
        owner, about = origin(preset.path), preset.about
        if hidden := hidden_by(preset.path):
            owner += f", hides {hidden}"
        if preset.problems:
            about += " (has problems: convnn presets check)"
        grid.add_row(cell(preset.name, "bold"), cell(owner, "dim"), cell(about))
    print_grid(grid)
    return None


def _entry(preset: Preset) -> dict[str, object]:
    assert preset.path is not None
    return {
        "name": preset.name,
        "path": str(preset.path),
        "about": preset.about,
        "origin": origin(preset.path),
        "hides": [str(path) for path in preset.shadowed],
    }


@presets.command()
def show(preset: arguments.PresetName) -> None:
    """Print a preset as it stands in its file."""
    out().print(Text(source(read(preset))), soft_wrap=True)


@presets.command()
def check(names: arguments.Presets = None, as_json: arguments.Json = False) -> None:
    """Report all problems of some presets, or of all; the exit code is 2 where there is one."""
    checked = [read_checked(name) for name in names] if names else list(read_all())
    problems = {preset.name: resolve_with_data(preset).problems for preset in checked}
    if as_json:
        write_json({"presets": [_row(preset, problems[preset.name]) for preset in checked]})
    else:
        for preset in checked:
            line = f"✓ {preset.name}"
            if count := len(problems[preset.name]):
                line = f"✗ {preset.name}: {plural(count, 'problem')}"
            out().print_line(line)
    all_problems = [problem for preset in checked for problem in problems[preset.name]]
    if all_problems and not as_json:
        raise UserError(all_problems)
    raise typer.Exit(Exit.USAGE if all_problems else Exit.DONE)


def _row(preset: Preset, problems: tuple[Problem, ...]) -> dict[str, object]:
    return {
        "name": preset.name,
        "path": preset.path and str(preset.path),
        "problems": [problem.json() for problem in problems],
    }


@presets.command()
def copy(
    preset: arguments.PresetName,
    to: Annotated[str, typer.Argument(metavar="NAME", help="new name, or path ending in .toml")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a preset of that name")] = False,
) -> None:
    """Copy a preset into ./presets, or to a path, to change it there."""
    from convnn.files import write_atomic
    from convnn.presets.store import own_path

    original, target = read(preset), own_path(to)
    if os.path.lexists(target) and not overwrite:  # also a link that leads nowhere
        raise UserError(f"{target} exists", fix="choose another name, or give --overwrite")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, source(original))
    out().print_line(str(target))
    if hidden := hidden_by(target):
        say(f"note: it hides {hidden}")
