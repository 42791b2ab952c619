"""Runs of a root directory: listed, and found by what a person types."""

from __future__ import annotations

import os
import re
import time
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from convnn.errors import Exit, Problem, UserError
from convnn.metrics import lower_is_better
from convnn.runs import trash
from convnn.runs.run import CONFIG, EVENTS, Run, is_run, run_name
from convnn.text import escaped

if TYPE_CHECKING:
    pass


def list_runs(root: Path) -> tuple[list[Run], list[str]]:
    """All runs of a root, newest first, and a warning for each entry that looks like a run and is none."""
    found: dict[Path, tuple[tuple[str, int], Run]] = {}
    warnings: list[str] = []
    if not root.is_dir():
        return [], []
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_symlink():
                    raise UserError("a symbolic link, not followed")
                run = run_of_entry(entry)
                if run is not None:
                    found[run.path] = (creation_order(run), run)
            except (OSError, UserError) as error:
                said = error.strerror if isinstance(error, OSError) else error
                warnings.append(f"{escaped(entry.path)}: {said}")
    return [run for _, run in sorted(found.values(), key=lambda pair: pair[0], reverse=True)], sorted(warnings)


def run_of_entry(entry: os.DirEntry[str]) -> Run | None:
    """The run that an entry of a root is or links to; None for other things. Raises UserError for what is damaged."""
    path = Path(entry.path)
    if entry.is_dir(follow_symlinks=False):
        if not (path / CONFIG).is_file():
            if (path / EVENTS).is_file():
                raise UserError(f"a run without its {CONFIG}")
            return None
        return Run(path, entry.name)
    if not entry.name.endswith(".link") or not entry.is_file(follow_symlinks=False):
        return None
    target = trash.link_target(path)
    if target is None:
        raise UserError("names no absolute path; delete it")
    if not (target / CONFIG).is_file():
        raise UserError(f"leads to {escaped(target)}, where there is no run; bring that back or delete the link")
    return Run(target, path.stem)


def creation_order(run: Run) -> tuple[str, int]:
    """Sorts runs by when they were made: the time in the name, within a second that of the configuration file."""
    made = run.config_path.stat().st_mtime_ns
    stamp = re.match(r"\d{8}-\d{6}", run.name)
    return stamp[0] if stamp else time.strftime("%Y%m%d-%H%M%S", time.localtime(made / 1e9)), made


def find_run(ref: str, root: Path) -> Run:
    """The run a person means: @last, @2, @best:METRIC, a path, or any part of a name that only one run has.

    Raises UserError: NO_RUN with the nearest names, or with those that the part fits.
    """
    if ("/" in ref or ref in {".", ".."}) and not ref.startswith("@"):
        path = Path(ref).resolve()
        if not is_run(path):
            raise UserError(f"there is no run in {escaped(path)}", Exit.NO_RUN)
        return Run(path, run_name(path, root))
    found, _ = list_runs(root)
    if not found:
        raise UserError(Problem(f"there are no runs in {escaped(root)}", fix="start one: convnn run"), Exit.NO_RUN)
    if ref.startswith("@"):
        return _counted(ref, found)
    exact = [run for run in found if run.name == ref]
    several = exact or [run for run in found if ref and ref in run.name]
    if len(several) == 1:
        return several[0]
    if several:
        names = [escaped(run.name) for run in several]
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise UserError(
            Problem(f"{len(names)} runs have {ref!r} in their names: {', '.join(names[:10])}{more}", value=ref)
        )
    if ref and is_run(Path(ref)):
        return Run(Path(ref).resolve(), run_name(Path(ref).resolve(), root))
    near = get_close_matches(ref, [run.name for run in found], 3, 0.3) or [run.name for run in found[:3]]
    raise UserError(
        Problem(f"no run is called {ref!r}", value=ref, fix=f"nearest: {', '.join(escaped(name) for name in near)}"),
        Exit.NO_RUN,
    )


def _counted(ref: str, found: list[Run]) -> Run:
    if metric := ref.removeprefix("@best:") if ref.startswith("@best:") else "":
        sign = 1 if lower_is_better(metric) else -1
        bests = [(run.history(steps=False).best(metric), run) for run in found]
        ranked = [(sign * best[0], at, run) for at, (best, run) in enumerate(bests) if best]
        if not ranked:
            raise UserError(f"no run has a value of {escaped(metric)}", Exit.NO_RUN)
        return min(ranked)[2]
    number = 1 if ref == "@last" else int(ref[1:]) if re.fullmatch(r"@[0-9]{1,9}", ref) else 0
    if number < 1:
        raise UserError(Problem(f"{escaped(ref)} means no run", value=ref, fix="use @last, @2, ... or @best:METRIC"))
    if number > len(found):
        raise UserError(f"there is no {ref}: there are {len(found)} runs", Exit.NO_RUN)
    return found[number - 1]
