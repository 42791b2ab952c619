"""What the shell offers for presets and runs, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnn.cli import arguments
from convnn.runs.index import summaries
from convnn.runs.summary import Summary
from convnn.tables import FORMATS

if TYPE_CHECKING:
    pass


def presets(incomplete: str) -> list[str]:
    """Names of presets that begin like what was typed."""
    from convnn.presets.store import listed

    return [name for name in listed() if name.startswith(incomplete)]


def runs(context: typer.Context, incomplete: str) -> list[str]:
    """Names of runs that hold what was typed, from there on: shells take only what begins like it."""
    from convnn.runs.find import list_runs
    from convnn.runs.run import runs_root

    names = [run.name for run in list_runs(runs_root(context.params.get("runs")))[0]]
    return [name[name.index(incomplete) :] for name in names if incomplete in name]


def checkpoints(incomplete: str) -> list[str]:
    """What `--checkpoint` takes."""
    return [name for name in ("best", "last") if name.startswith(incomplete)]


PresetArgument = Annotated[
    str | None,
    typer.Argument(
        help="preset: a name, or a path ending in .toml", autocompletion=arguments.presets, show_default=False
    ),
]
RunsOption = Annotated[Path | None, typer.Option("--runs", help="folder of the runs, else $CONVNN_RUNS, else ./runs")]


RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="@last, @2, @best:test_top1, a path, or part of a name", autocompletion=arguments.runs
    ),
]


Runs = Annotated[Path | None, typer.Option("--runs", help="folder of the runs, else $CONVNN_RUNS, else ./runs")]
Json = Annotated[bool, typer.Option("--json", help="short for --format json")]


def _formats(incomplete: str) -> list[str]:
    return [name for name in FORMATS if name.startswith(incomplete)]


def _seen(context: typer.Context) -> list[Summary]:
    from convnn.runs.run import runs_root

    return summaries(runs_root(context.params.get("runs")))[0]


def _filters(context: typer.Context, incomplete: str) -> list[str]:
    from convnn.analysis.completion import complete

    return complete(incomplete, _seen(context))


def keys(context: typer.Context, incomplete: str) -> list[str]:
    """What the shell offers for lists of keys with commas between."""
    from convnn.analysis import completion

    before = incomplete[: len(incomplete) - len(incomplete.rpartition(",")[2].lstrip("-"))]
    return [before + key for key in completion.keys(_seen(context)) if (before + key).startswith(incomplete)]


Format = Annotated[
    str, typer.Option("--format", metavar="|".join(FORMATS), help="how it is printed", autocompletion=_formats)
]
FILTER_HELP = (
    "condition on runs in one quoted argument, such as 'layer=Branching K>=9 best>80 status=done,failed name~br05 "
    "has:attention_dropout'; a space is AND, a comma one-of; OR, NOT and parentheses"
)
Where = Annotated[
    str | None, typer.Option("--where", metavar="FILTER", help=FILTER_HELP, autocompletion=_filters, show_default=False)
]
Filter = Annotated[
    str | None,
    typer.Argument(metavar="FILTER", help=FILTER_HELP, autocompletion=_filters, show_default=False),
]
