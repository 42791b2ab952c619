"""The arguments and flags that several commands share, declared once, and what the shell offers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnn.errors import Problem, UserError, did_you_mean
from convnn.runs.status import STATUSES
from convnn.tables import FORMATS

if TYPE_CHECKING:
    from convnn.runs.run import Run as RunDirectory
    from convnn.runs.summary import Summary

CHECKPOINTS = ("best", "last")
SPLITS = ("test", "val", "train")
MAX_NUMBERED = 9  # of @last, @2, ... that a shell offers
CONFIG_PARAMETER = "typed"  # of a command that takes the flags of the schema: their texts by key

# -- completion: called by the shell, so nothing here may load torch ---------------------------------------------------


def completion(choices: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function that returns the choices which start with what was typed."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def complete_presets(incomplete: str) -> list[str]:
    """Return the names of presets that start with what was typed."""
    from convnn.presets.store import listed

    return [name for name in listed() if name.startswith(incomplete)]


def complete_runs(context: typer.Context, incomplete: str) -> list[str]:
    """Return the parts of run names that start with what was typed, as shells take nothing else, or @last and so on."""
    return _run_references(context, incomplete, lambda run: True)


def complete_live_runs(context: typer.Context, incomplete: str) -> list[str]:
    """Return what `complete_runs` does, of the runs that train."""
    return _run_references(context, incomplete, lambda run: STATUSES[run.recorded_status()].is_live)


def complete_resumable_runs(context: typer.Context, incomplete: str) -> list[str]:
    """Return what `complete_runs` does, of the runs that can be continued; with --fork of all."""
    if context.params.get("fork"):
        return complete_runs(context, incomplete)
    return _run_references(context, incomplete, lambda run: run.recorded_status() != "done" and not run.imported)


def _run_references(context: typer.Context, incomplete: str, is_candidate: Callable[[RunDirectory], bool]) -> list[str]:
    from convnn.metrics import known_metric_names
    from convnn.runs.find import list_runs
    from convnn.runs.run import runs_root

    runs = list_runs(runs_root(context.params.get("runs")))[0]
    if incomplete.startswith("@"):
        numbers = ["@last", *(f"@{number}" for number in range(2, len(runs) + 1))][: len(runs)]
        candidates = [name for name, run in zip(numbers, runs, strict=True) if is_candidate(run)][:MAX_NUMBERED]
        candidates += [f"@best:{metric}" for metric in known_metric_names()]
        return [name for name in candidates if name.startswith(incomplete)]
    names = [run.name for run in runs if incomplete in run.name and is_candidate(run)]
    return [name[name.index(incomplete) :] for name in names if not name.startswith("-")]


def complete_filters(context: typer.Context, incomplete: str) -> list[str]:
    """Return the keys, operators and values that may follow in a filter."""
    from convnn.analysis.completion import complete

    return complete(incomplete, _known_summaries(context))


def complete_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Return the comma-separated lists of keys that start with what was typed."""
    from convnn.analysis import completion

    before = incomplete[: len(incomplete) - len(incomplete.rpartition(",")[2].lstrip("-"))]
    keys = completion.keys(_known_summaries(context))
    return [before + key for key in keys if (before + key).startswith(incomplete)]


def complete_views(incomplete: str) -> list[str]:
    """Return the names of saved views that start with what was typed."""
    from convnn.analysis.views import read_views

    try:
        return [name for name in read_views() if name.startswith(incomplete)]
    except (OSError, UserError):
        return []


def complete_sweeps(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of sweeps that start with what was typed."""
    from convnn.runs.run import runs_root
    from convnn.runs.sweep_cells import sweep_names

    return [name for name in sweep_names(runs_root(context.params.get("runs"))) if name.startswith(incomplete)]


complete_checkpoints = completion(CHECKPOINTS)


def _known_summaries(context: typer.Context) -> list[Summary]:
    from convnn.runs.run import runs_root
    from convnn.runs.summary_cache import summaries

    return summaries(runs_root(context.params.get("runs")))[0]


def refuse(flags: Mapping[str, object], other_flag: str) -> None:
    """Raise UserError for each of these flags that was given: none is possible with the other one."""
    problems = [f"{flag} is not possible with {other_flag}" for flag, value in flags.items() if value]
    if problems:
        raise UserError([Problem(problem, fix="leave one of them out") for problem in problems])


def refuse_without(flags: Mapping[str, object], needed_flag: str) -> None:
    """Raise UserError for each of these flags that was given: none is possible without the other one."""
    fix = f"give {needed_flag}, too, or leave it out"
    problems = [
        Problem(f"{flag} is only for {needed_flag}", key=flag.removeprefix("--"), fix=fix)
        for flag, value in flags.items()
        if value
    ]
    if problems:
        raise UserError(problems)


def only_one(modes: Mapping[str, object], missing: str, fix: str) -> None:
    """Raise UserError unless exactly one of these was given; `missing` is the message where none was."""
    requested = [mode for mode, value in modes.items() if value]
    if not requested:
        raise UserError(missing, fix=fix)
    if len(requested) > 1:
        raise UserError(f"{' and '.join(requested)} exclude each other", fix=fix)


def unknown_choice(name: str, value: str, choices: Iterable[str]) -> Problem:
    *others, last = choices
    message = f"--{name} is {value!r}: must be {', '.join(others)} or {last}{did_you_mean(value, [*others, last])}"
    return Problem(message, key=name, value=value)


# -- arguments ---------------------------------------------------------------------------------------------------------

_RUN_HELP = "@last, @2, @best:test_top1, a path, or part of a name"
_PRESET_HELP = "name, or path ending in .toml"
_FILTER_HELP = (
    "condition in one quoted argument: 'layer=Branching K>=9 best>80 status=done,failed name~br05'; "
    "a space means AND, a comma one of; OR, NOT, has:KEY and parentheses work, too"
)

Run = Annotated[str, typer.Argument(metavar="RUN", help=_RUN_HELP, autocompletion=complete_runs)]
LiveRun = Annotated[str, typer.Argument(metavar="RUN", help=_RUN_HELP, autocompletion=complete_live_runs)]
Runs = Annotated[list[str] | None, typer.Argument(metavar="RUN", help=_RUN_HELP, autocompletion=complete_runs)]
NamedRuns = Annotated[list[str], typer.Argument(metavar="RUN...", help=_RUN_HELP, autocompletion=complete_runs)]
Preset = Annotated[str | None, typer.Argument(metavar="PRESET", help=_PRESET_HELP, autocompletion=complete_presets)]
Presets = Annotated[
    list[str] | None, typer.Argument(metavar="PRESET", help=_PRESET_HELP, autocompletion=complete_presets)
]
PresetName = Annotated[str, typer.Argument(metavar="PRESET", help=_PRESET_HELP, autocompletion=complete_presets)]
Filter = Annotated[str | None, typer.Argument(metavar="FILTER", help=_FILTER_HELP, autocompletion=complete_filters)]
SweepName = Annotated[
    str, typer.Argument(metavar="NAME", help="as `convnn sweep` lists it", autocompletion=complete_sweeps)
]
SweepSource = Annotated[
    str, typer.Argument(metavar="SWEEP", help="path ending in .toml, name of a sweep or of a preset")
]

# -- flags -------------------------------------------------------------------------------------------------------------

RunsFolder = Annotated[
    Path | None, typer.Option("--runs", metavar="DIR", help="folder of the runs, else $CONVNN_RUNS, else ./runs")
]
Where = Annotated[
    str | None, typer.Option("--where", metavar="FILTER", help=_FILTER_HELP, autocompletion=complete_filters)
]
Figure = Annotated[
    str,
    typer.Option(
        "--figure",
        metavar="KEY",
        help="metric that is averaged: best, test_top1 (last epoch), best:test_loss, ...",
        autocompletion=complete_keys,
    ),
]
Unfinished = Annotated[
    bool, typer.Option("--unfinished", help="include runs that were not trained to their end in averages")
]
Format = Annotated[
    str,
    typer.Option("--format", metavar="|".join(FORMATS), help="format of tables", autocompletion=completion(FORMATS)),
]
FormatJson = Annotated[bool, typer.Option("--json", help="short for --format json")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document")]
Plain = Annotated[bool, typer.Option("--plain", help="print one line per epoch")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="show what would happen, change nothing")]
Checkpoint = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        metavar="|".join(CHECKPOINTS),
        help="the weights to evaluate",
        autocompletion=complete_checkpoints,
    ),
]

# of commands that plan a sweep
CellSeeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="N", help="repeats of each cell: 3 for the seeds 0, 1, 2; or a list: 1,7,9"),
]
NewSweepName = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="name of the sweep, else that of its file")
]
Again = Annotated[bool, typer.Option("--again", help="train what is trained already, too")]
Extend = Annotated[bool, typer.Option("--extend", help="add cells to a sweep of this name, which keeps its own")]
Slots = Annotated[int | None, typer.Option("--slots", metavar="N", min=1, help="runs at once, else one a GPU, or one")]

# of commands that train
JsonEvents = Annotated[bool, typer.Option("--json", help="print events as JSON lines")]
Live = Annotated[bool, typer.Option("--live", help="draw curves even where CI is set")]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of a failure")]
TakeOver = Annotated[
    bool,
    typer.Option(
        "--take-over", help="continue a run that seems to be trained on another node; that process writes no more"
    ),
]


def checked_limit(text: str, *, slurm: bool = False) -> str:
    """Return the text of a time limit. Raises UserError where it is none that this process, or its job, can have."""
    from convnn.worker.time_limit import AUTO, check_limit

    if not (slurm and text == AUTO):
        check_limit(text)
    return text


OnFinish = Annotated[
    str | None,
    typer.Option(
        "--on-finish",
        metavar="CMD",
        help="shell command to run once at the end: JSON on stdin, $CONVNN_STATUS, $CONVNN_RUN; no exit code changes",
    ),
]
NoNotify = Annotated[
    bool, typer.Option("--no-notify", help="no bell and no desktop notification at the end of what takes over a minute")
]
MaxMinutes = Annotated[
    str | None,
    typer.Option(
        "--max-minutes",
        parser=checked_limit,
        metavar="MINUTES",
        help="stop after this time; auto: before the time limit of its Slurm job",
    ),
]
JobMinutes = Annotated[
    str | None,
    typer.Option(
        "--max-minutes",
        metavar="MINUTES",
        help="stop after this time; auto: before the time limit of its Slurm job, as --slurm does without it",
    ),
]
Sbatch = Annotated[
    list[str] | None,
    typer.Option(
        "--sbatch",
        metavar="NAME=VALUE",
        help="option of sbatch, with --slurm: partition=gpu, time=04:00:00, exclusive; repeatable",
    ),
]
Requeue = Annotated[
    bool, typer.Option("--requeue", help="requeue its Slurm job after a time limit, USR1, USR2 or preemption")
]
