"""`convnn presets`: list, show, check and copy."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from convnn.cli import arguments
from convnn.cli.console import cell, out, print_grid, say, write_json
from convnn.errors import Exit, Problem, UserError
from convnn.presets.resolve import resolve_with_data
from convnn.presets.store import Preset, listed, read, shadowed_by, source
from convnn.text import plural

app = typer.Typer(help="List, show, check and copy presets.", rich_markup_mode="rich")
Name = Annotated[str, typer.Argument(help="name, or path ending in .toml", autocompletion=arguments.presets)]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document")]


@app.callback(invoke_without_command=True)
def presets(context: typer.Context, as_json: AsJson = False) -> None:
    """List the presets with their about lines."""
    if context.invoked_subcommand is None:
        list_(as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the presets with their about lines."""
    found = _all()
    if as_json:
        rows = [{"name": preset.name, "path": str(preset.path), "about": preset.about} for preset in found]
        write_json({"presets": rows})
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for preset in found:
        wrong = " (has problems: convnn presets check)" if preset.problems else ""
        table.add_row(cell(preset.name, "bold"), cell(preset.about + wrong))
    print_grid(table)
    for preset in found:
        if preset.shadowed:
            say(f"note: {shadowed_by(preset)}")


def _all() -> list[Preset]:
    """Every preset that a name finds; what cannot be read is a problem of that one."""
    found = []
    for name, (path, *shadowed) in listed().items():
        try:
            preset = read(str(path))
        except UserError as error:
            preset = Preset(name, path, problems=error.problems)
        found.append(replace(preset, shadowed=tuple(shadowed)))
    return found


@app.command()
def show(preset: Name) -> None:
    """Print a preset as it stands in its file."""
    out().print(Text(source(read(preset))), soft_wrap=True)


@app.command()
def check(
    presets: Annotated[
        list[str] | None, typer.Argument(help="names or paths; none: all", autocompletion=arguments.presets)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """All problems of some presets, or of all; exit code 2 where there is one."""
    chosen = [read(name) for name in presets] if presets else _all()
    problems = {preset.name: resolve_with_data(preset).problems for preset in chosen}
    if as_json:
        rows = [_row(preset, problems[preset.name]) for preset in chosen]
        write_json({"presets": rows})
    else:
        for preset in chosen:
            count = len(problems[preset.name])
            out().print_line(f"✗ {preset.name}: {plural(count, 'problem')}" if count else f"✓ {preset.name}")
    found = [problem for preset in chosen for problem in problems[preset.name]]
    if found and not as_json:
        raise UserError(found)
    raise typer.Exit(Exit.USAGE if found else Exit.DONE)


def _row(preset: Preset, problems: tuple[Problem, ...]) -> dict[str, object]:
    return {"name": preset.name, "path": str(preset.path), "problems": [problem.json() for problem in problems]}


@app.command()
def copy(
    preset: Name,
    to: Annotated[str, typer.Argument(help="new name, or path ending in .toml")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a preset of that name")] = False,
) -> None:
    """Copy a preset into ./presets, or to a path, to change it there."""
    from convnn.files import write_atomic
    from convnn.presets.store import own_path

    found, target = read(preset), own_path(to)
    if target.exists() and not overwrite:
        raise UserError(Problem(f"{target} exists", fix="choose another name, or give --overwrite"))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, source(found))
    out().print_line(str(target))
