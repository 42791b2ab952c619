"""What lists, JSON and comparisons say of a run, kept in a cache beside the runs so that a thousand show at once."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convnn.errors import UserError, escaped
from convnn.events import iso
from convnn.files import write_atomic
from convnn.runs import Run, list_runs

CACHE = ".summaries.json"  # a view: may be deleted at any time


class Best(BaseModel):
    """The best value of the metric that decides, and its epoch."""

    metric: str
    value: float
    epoch: int


class Summary(BaseModel):
    """A run in a few figures: the R of the JSON documents."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    name: str
    path: str
    status: str
    started: str | None  # UTC
    finished: str | None
    config: dict[str, dict[str, Any]]
    epoch: int  # epochs completed
    best: Best | None
    digest: str | None  # None before the first epoch


class _Kept(BaseModel):
    """A summary, and the (size, mtime in ns, inode) of the two files it was made from."""

    files: tuple[tuple[int, int, int] | None, tuple[int, int, int] | None]
    summary: Summary


class _Cache(BaseModel):
    version: Literal[1] = 1
    kept: dict[str, _Kept] = Field(default_factory=dict)  # by path


def summarise(run: Run) -> Summary:
    """The summary of a run. Raises UserError where its configuration is damaged."""
    history = run.history(steps=False)
    best = history.best()
    return Summary(
        name=run.name,
        path=str(run.path),
        status=run.status(),
        started=iso(history.began) if history.began else None,
        finished=iso(history.finished.time) if history.finished else None,
        config=run.sections(),
        epoch=history.epochs[-1].epoch if history.epochs else 0,
        best=Best(metric=history.best_metric, value=best[0], epoch=best[1]) if best else None,
        digest=history.digest() if history.epochs else None,
    )


def summary_json(run: Run) -> dict[str, Any]:
    """The summary of a run as JSON values."""
    return summarise(run).model_dump(mode="json")


def summaries(root: Path) -> tuple[list[Summary], list[str]]:
    """The summaries of all runs of a root, newest first, and a warning for each entry that is damaged.

    Runs that changed since the last call are read, the others taken from the cache.
    """
    runs, warnings = list_runs(root)
    old = _load(root / CACHE)
    new: dict[str, _Kept] = {}
    found: list[Summary] = []
    for run in runs:
        try:
            files = _stamp(run.config_path), _stamp(run.events_path)
            kept = old.get(str(run.path))
            if kept is not None and (kept.files != files or kept.summary.name != run.name):
                kept = None
            if kept is not None:
                summary = kept.summary
                if summary.finished is None:  # whether it lives is no matter of its files
                    summary = summary.model_copy(update={"status": run.status()})
            else:
                summary = summarise(run)
        except (OSError, UserError) as error:
            warnings.append(f"{escaped(run.path)}: {error}")
            continue
        found.append(summary)
        if kept is not None:
            new[str(run.path)] = kept
        elif summary.status not in {"running", "paused"}:  # those would be out of date at once
            new[str(run.path)] = _Kept(files=files, summary=summary)
    if new.keys() != old.keys() or any(kept is not old[path] for path, kept in new.items()):
        with contextlib.suppress(OSError):  # a root that cannot be written is only slower
            write_atomic(root / CACHE, _Cache(kept=new).model_dump_json())
    return found, warnings


def _load(path: Path) -> dict[str, _Kept]:
    try:
        return _Cache.model_validate_json(path.read_bytes()).kept
    except (OSError, ValidationError):
        return {}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
