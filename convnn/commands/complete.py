"""What the shell offers for presets and runs, without torch."""

from __future__ import annotations


def presets(incomplete: str) -> list[str]:
    """Names of presets that begin like what was typed."""
    from convnn.presets import listed

    return [name for name in listed() if name.startswith(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Names of runs that hold what was typed."""
    from convnn.runs import list_runs, root

    return [run.name for run in list_runs(root())[0] if incomplete in run.name]
