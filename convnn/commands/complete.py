"""What the shell offers for presets and runs, without torch."""

from __future__ import annotations

import typer


def presets(incomplete: str) -> list[str]:
    """Names of presets that begin like what was typed."""
    from convnn.presets import listed

    return [name for name in listed() if name.startswith(incomplete)]


def runs(context: typer.Context, incomplete: str) -> list[str]:
    """Names of runs that hold what was typed, from there on: shells take only what begins like it."""
    from convnn.runs import list_runs, root

    names = [run.name for run in list_runs(root(context.params.get("runs")))[0]]
    return [name[name.index(incomplete) :] for name in names if incomplete in name]


def checkpoints(incomplete: str) -> list[str]:
    """What `--checkpoint` takes."""
    return [name for name in ("best", "last") if name.startswith(incomplete)]
