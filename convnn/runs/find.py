"""The runs of a root directory, and the run that a person refers to."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from convnn.errors import Exit, UserError
from convnn.metrics import best_of
from convnn.paths import typed_path
from convnn.runs import trash
from convnn.runs.event_log import first_start
from convnn.runs.marker import EVENTS, created_time
from convnn.runs.run import CONFIG, Run, damage_named, is_run, run_name
from convnn.text import joined, plural

MAX_NAMES = 10  # in a message
STAMP_LENGTH = len("20261122-151500")


def list_runs(root: Path) -> tuple[list[Run], list[str]]:
    """Return all runs of a root, newest first, and a warning for each damaged entry."""
    if not root.is_dir():
        return [], []
    runs: dict[Path, tuple[tuple[float, int], Run]] = {}
    warnings: list[str] = []
    for entry in scan_root(root):
        try:
            run = run_of_entry(entry)
            if run is not None:
                runs[run.path] = (creation_order(run), run)
        except (OSError, UserError) as error:
            warnings.append(entry_warning(entry, error))
    newest_first = sorted(runs.values(), key=lambda pair: pair[0], reverse=True)
    return [run for _, run in newest_first], sorted(warnings)


def scan_root(root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a root that may be runs: all but the hidden ones."""
    with os.scandir(root) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                yield entry


def run_of_entry(entry: os.DirEntry[str]) -> Run | None:
    """Return the run that an entry of a root is or links to; None for other things. Raises UserError for damage."""
    path = Path(entry.path)
    if entry.is_symlink():
        raise UserError("a symbolic link, not followed")
    if entry.is_dir(follow_symlinks=False):
        if (path / CONFIG).is_file():
            return Run(path, entry.name)
        if os.path.lexists(path / EVENTS):
            raise UserError(f"a run without its {CONFIG}")
        return None
    if not entry.name.endswith(".link") or not entry.is_file(follow_symlinks=False):
        return None
    target = trash.link_target(path)
    if target is None:
        raise UserError("names no absolute path; delete it")
    if not (target / CONFIG).is_file():
        raise UserError(f"leads to {target}, where there is no run; bring that back or delete the link")
    return Run(target, path.stem)


def entry_warning(entry: os.DirEntry[str], error: OSError | UserError) -> str:
    """Return what is wrong with an entry of a root, with its path."""
    message = str(error)
    if isinstance(error, OSError):
        message = str(error.strerror)
    if entry.path in message:
        return message
    return f"{entry.path}: {message}"


@damage_named
def creation_order(run: Run) -> tuple[float, int]:
    """Return a key that sorts runs by creation: the recorded time, then the time of the configuration file.

    A run of an earlier version that never started has neither marker nor start: the local time in its name counts.
    """
    changed = run.config_path.stat().st_mtime_ns
    recorded = created_time(run.path) or first_start(run.events_path)
    if recorded is not None:
        return recorded.timestamp(), changed
    try:
        return time.mktime(time.strptime(run.name[:STAMP_LENGTH], "%Y%m%d-%H%M%S")), changed
    except (ValueError, OverflowError):
        return changed / 1e9, changed


def find_run(reference: str, root: Path) -> Run:
    """Return the run that a person refers to: @last, @2, @best:METRIC, a path, or a part of exactly one run's name.

    Raises UserError: with the nearest names (NO_RUN), or with the names that the part fits.
    """
    if ("/" in reference or reference in {".", ".."}) and not reference.startswith("@"):
        path = typed_path(reference).resolve()
        if not is_run(path):
            raise UserError(f"there is no run in {path}", Exit.NO_RUN)
        return Run(path, run_name(path, root))
    runs, _ = list_runs(root)
    if not runs:
        raise UserError(f"there are no runs in {root}", Exit.NO_RUN, fix="start one: convnn run")
    if reference.startswith("@best:"):
        return _best_run(reference.removeprefix("@best:"), runs)
    if reference.startswith("@"):
        return _run_by_number(reference, runs)
    matches = [run for run in runs if run.name == reference]
    if not matches and reference:
        matches = [run for run in runs if reference in run.name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = joined([run.name for run in matches], MAX_NAMES)
        message = f"{len(matches)} runs have {reference!r} in their names: {names}"
        raise UserError(message, value=reference, fix=f"give more of the name, such as its end: {matches[0].name[-4:]}")
    if reference and is_run(Path(reference)):
        path = Path(reference).resolve()
        return Run(path, run_name(path, root))
    known = [run.name for run in runs]
    nearest = get_close_matches(reference, known, 3, 0.5)
    fix = f"nearest: {', '.join(nearest)}"
    if not nearest:
        fix = f"`convnn runs` lists them, the newest: {', '.join(known[:3])}"
    raise UserError(f"no run is called {reference!r}", Exit.NO_RUN, value=reference, fix=fix)


def _best_run(reference: str, runs: list[Run]) -> Run:
    """Return the run with the best value of a metric at any epoch, the newest of equals: "METRIC" or "METRIC:DATASET".

    Raises UserError where runs of several data sets have the metric and none is named: they do not compare.
    """
    metric, _, dataset = reference.partition(":")
    if not metric:
        raise _invalid_reference("@best:")
    values: dict[str, list[tuple[float, Run]]] = {}
    for run in runs:
        with suppress(UserError):  # damaged, which lists say
            if best := run.history(steps=False).best(metric):
                name = str(run.sections().get("data", {}).get("dataset", "unknown"))
                values.setdefault(name, []).append((best[0], run))
    if dataset:
        values = {name: pairs for name, pairs in values.items() if name == dataset}
    if not values:
        place = f" on {dataset}" if dataset else ""
        raise UserError(f"no run{place} has a value of {metric}", Exit.NO_RUN)
    if len(values) > 1:
        references = " or ".join(f"@best:{metric}:{name}" for name in sorted(values))
        message = f"runs on {plural(len(values), 'data set')} have a value of {metric}, which do not compare"
        raise UserError(message, value=f"@best:{metric}", fix=f"use {references}")
    [pairs] = values.values()
    best_pair: tuple[float, Run] = best_of(metric)(pairs, key=lambda pair: pair[0])
    return best_pair[1]


def _run_by_number(reference: str, runs: list[Run]) -> Run:
    """Return the newest run for @last and @1, the one before for @2, and so on."""
    number = 0
    if reference == "@last":
        number = 1
    elif re.fullmatch(r"@[0-9]{1,9}", reference):
        number = int(reference[1:])
    if number < 1:
        raise _invalid_reference(reference)
    if number > len(runs):
        raise UserError(f"there is no {reference}, only {plural(len(runs), 'run')}", Exit.NO_RUN)
    return runs[number - 1]


def _invalid_reference(reference: str) -> UserError:
    return UserError(
        f"{reference} refers to no run", value=reference, fix="use @last, @2, ..., @best:METRIC or @best:METRIC:DATASET"
    )
