"""What lists, JSON and comparisons say of a run, kept in a cache beside the runs so that thousands show at once."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnn.config.recorded import Settings
from convnn.errors import UserError
from convnn.files import write_atomic
from convnn.gc_pause import uncollected
from convnn.metrics import Best
from convnn.runs import find, trash
from convnn.runs.lock import is_locked
from convnn.runs.run import CONFIG, EVENTS
from convnn.runs.summary import MetricSummary, Summary, summarize
from convnn.text import escaped

CACHE = ".summaries.json"  # a view: may be deleted at any time
VERSION = "convnn summaries 5"

Stamp = list[int]


@dataclass(slots=True)
class _Kept:
    """A summary, the stamps of the files it was made from, and what sorts it."""

    stamps: tuple[Stamp | None, Stamp | None]
    age: tuple[str, int]
    summary: Summary


def summaries(root: Path, reading: Callable[[int], None] | None = None) -> tuple[list[Summary], list[str]]:
    """The summaries of all runs of a root, newest first, and a warning for each entry that is damaged.

    Runs that changed since the last call are read, the others taken from the cache. `reading` is told how many
    are to be read, before they are.
    """
    if not root.is_dir():
        return [], []
    old = _known(root)
    warnings: list[str] = []
    new: dict[str, _Kept] = {}
    live: list[_Kept] = []
    unread: list[os.DirEntry[str]] = []
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if (kept := _current(entry, old)) is not None:
                new[entry.name] = kept
            else:
                unread.append(entry)
    if reading is not None:
        reading(len(unread))
    for entry in unread:
        try:
            kept = _read(entry)
        except (OSError, UserError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            warnings.append(f"{said}" if entry.path in str(said) else f"{escaped(entry.path)}: {said}")
            continue
        if kept is not None and kept.summary.status in {"running", "paused"}:  # out of date at once
            live.append(kept)
        elif kept is not None:
            new[entry.name] = kept
    if new.keys() != old.keys() or any(kept is not old[name] for name, kept in new.items()):
        _share(new)
        with contextlib.suppress(OSError):  # a root that cannot be written is only slower
            write_atomic(root / CACHE, _dump(new))
            _remember(root, new)
    found: dict[str, _Kept] = {}
    for kept in [*new.values(), *live]:
        found.setdefault(kept.summary.path, kept)  # of two links to one directory, one
    listed = [kept.summary for kept in sorted(found.values(), key=lambda kept: kept.age, reverse=True)]
    for run in listed:
        if run.damaged_lines:
            lines = "1 line" if run.damaged_lines == 1 else f"{run.damaged_lines} lines"
            warnings.append(f"{escaped(run.path)}/{EVENTS}: {lines} damaged, convnn show says which")
    return listed, sorted(warnings)


_remembered: dict[Path, tuple[Stamp, dict[str, _Kept]]] = {}


def _known(root: Path) -> dict[str, _Kept]:
    """The cache of a root, parsed once while it stays as it is: parsing thousands of runs holds up the app's keys."""
    known = _remembered.get(root.absolute())
    if known is not None and known[0] == _stamp(str(root / CACHE)):
        return known[1]
    return _remember(root, _load(root / CACHE))


def _remember(root: Path, kept: dict[str, _Kept]) -> dict[str, _Kept]:
    if (stamp := _stamp(str(root / CACHE))) is not None:
        _remembered[root.absolute()] = stamp, kept
    return kept


def _current(entry: os.DirEntry[str], old: Mapping[str, _Kept]) -> _Kept | None:
    """What the cache has of an entry, if that is still so."""
    kept = old.get(entry.name)
    if kept is None or entry.is_symlink():
        return None
    path = kept.summary.path
    try:
        if path != entry.path and str(trash.link_target(Path(entry.path))) != path:
            return None
        if kept.stamps != (_stamp(f"{path}/{CONFIG}"), _stamp(f"{path}/{EVENTS}")):
            return None
        if kept.summary.finished is None and is_locked(Path(path)):  # whether it lives is no matter of its files
            return None
    except OSError:
        return None  # it is read anew, which says what is wrong with it
    return kept


def _read(entry: os.DirEntry[str]) -> _Kept | None:
    if entry.is_symlink():
        raise UserError("a symbolic link, not followed")
    run = find.run_of_entry(entry)
    if run is None:
        return None
    stamps = _stamp(str(run.config_path)), _stamp(str(run.events_path))
    return _Kept(stamps, find.creation_order(run), summarize(run))


def _stamp(path: str) -> Stamp | None:
    """Size, time of the last change in ns, and inode."""
    try:
        stat = os.stat(path)  # noqa: PTH116 twice as fast as pathlib, and called for every run
    except FileNotFoundError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _share(kept: Mapping[str, _Kept]) -> None:
    """Let runs share equal configurations, and those equal sections, as a cache has them: so differences show fast."""
    known: dict[int, dict[str, Any]] = {}  # tables by identity
    tables: dict[str, dict[str, Any]] = {}  # and by what is in them
    configs: dict[tuple[tuple[str, int], ...], Settings] = {}
    for each in kept.values():
        config = each.summary.config
        for table in config.values():
            if id(table) not in known:
                known[id(table)] = tables.setdefault(json.dumps(table, default=str), table)
        found = {name: known[id(table)] for name, table in config.items()}
        identity = _identity(found)
        if identity not in configs:
            configs[identity] = config if identity == _identity(config) else Settings(found)
        each.summary.config = configs[identity]


def _identity(config: Mapping[str, dict[str, Any]]) -> tuple[tuple[str, int], ...]:
    return tuple((name, id(table)) for name, table in config.items())


def _dump(kept: Mapping[str, _Kept]) -> bytes:
    """A line with version and checksum, and a line of JSON: what configurations share is written once."""
    tables: dict[int, tuple[int, dict[str, Any]]] = {}
    configs: dict[tuple[tuple[str, int], ...], int] = {}
    rows: dict[str, list[Any]] = {}
    for name, each in kept.items():
        s = each.summary
        for table in s.config.values():
            tables.setdefault(id(table), (len(tables), table))
        config = configs.setdefault(_identity(s.config), len(configs))
        fields = [s.name, s.path, s.status, s.started, s.finished, config, s.epoch, s.best, s.digest]
        rows[name] = [each.stamps, each.age, [*fields, s.metrics, s.source, s.not_launchable_reason, s.damaged_lines]]
    numbered = [{name: tables[table][0] for name, table in config} for config in configs]
    told = [table for _, table in tables.values()], numbered, rows
    body = json.dumps(told, separators=(",", ":"), default=str).encode()
    return f"{VERSION} {zlib.crc32(body):08x}\n".encode() + body


def _load(path: Path) -> dict[str, _Kept]:
    try:
        head, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if head.decode("latin-1") != f"{VERSION} {zlib.crc32(body):08x}":
        return {}
    with uncollected():
        tables, told, rows = json.loads(body)
        configs = [Settings({section: tables[at] for section, at in sections.items()}) for sections in told]
        found = {}
        for name, (stamps, age, fields) in rows.items():
            fields[5] = configs[fields[5]]
            fields[7] = Best(*fields[7]) if fields[7] else None
            fields[9] = {metric: MetricSummary(*figure) for metric, figure in fields[9].items()}
            found[name] = _Kept(tuple(stamps), tuple(age), Summary(*fields))
    return found
