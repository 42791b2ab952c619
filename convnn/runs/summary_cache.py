"""The summaries of all runs of a root, cached in a file beside the runs so that thousands are listed at once."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from convnn.config.recorded import Settings
from convnn.errors import UserError
from convnn.files import read_regular, write_atomic
from convnn.metrics import Best
from convnn.runs import trash
from convnn.runs.find import creation_order, entry_warning, run_of_entry, scan_root
from convnn.runs.lock import is_locked
from convnn.runs.run import CONFIG, EVENTS
from convnn.runs.slurm_jobs import with_job
from convnn.runs.status import STATUSES
from convnn.runs.summary import MetricSummary, RecordedData, Summary, summarize
from convnn.runs.sweep_cells import sweeps_by_run
from convnn.text import plural

CACHE = ".summaries.json"  # a view: may be deleted at any time
VERSION = "convnn summaries 11"  # of the format and of the fields of a summary
NOT_CACHED = ("sweeps", "host")  # in no file of a run, and of live runs alone, which are not cached
FIELDS = tuple(name for name in Summary.__slots__ if name not in NOT_CACHED)
MAX_CACHE = 1 << 30  # bytes

Stamp = list[int]


@dataclass(slots=True)
class _Entry:
    """A summary, the stamps of the two files it was made from, and the order in which its run was created."""

    stamps: tuple[Stamp | None, Stamp | None]
    created: tuple[float, int]
    summary: Summary


def summaries(root: Path, reading: Callable[[int], None] | None = None) -> tuple[list[Summary], list[str]]:
    """Return the summaries of all runs of a root, newest first, and a warning for each damaged entry.

    Runs that changed since the last call are read, the others are taken from the cache. `reading` is called with the
    number of runs to read, before they are read.
    """
    if not root.is_dir():
        return [], []
    cached = _cached_entries(root)
    entries: dict[str, _Entry] = {}
    changed: list[os.DirEntry[str]] = []
    for item in scan_root(root):
        entry = cached.get(item.name)
        if entry is not None and _is_current(entry, item):
            entries[item.name] = entry
        else:
            changed.append(item)
    if reading is not None:
        reading(len(changed))
    warnings: list[str] = []
    live: list[_Entry] = []
    for item in changed:
        try:
            entry = _read_entry(item)
        except (OSError, UserError) as error:
            warnings.append(entry_warning(item, error))
            continue
        if entry is None:
            continue
        if STATUSES[entry.summary.status].is_live:  # out of date at once: not worth caching
            live.append(entry)
        else:
            entries[item.name] = entry
    if entries.keys() != cached.keys() or any(entry is not cached[name] for name, entry in entries.items()):
        entries = _save(root, entries)
    runs: dict[str, Summary] = {}  # by path: two links may lead to one directory
    for entry in sorted([*entries.values(), *live], key=lambda entry: entry.created, reverse=True):
        runs.setdefault(entry.summary.path, entry.summary)
    sweeps = sweeps_by_run(root)
    for summary in runs.values():
        summary.sweeps = sweeps.get(summary.path, ())
        status = with_job(summary.status, Path(summary.path), sweeps=summary.sweeps)
        if status != summary.status:
            # the cached one is of its files alone
            runs[summary.path] = replace(summary, status=status, failed_early=False)
        if summary.damaged_lines:
            lines = plural(summary.damaged_lines, "damaged line")
            warnings.append(f"{summary.path}/{EVENTS}: {lines}, listed by convnn show")
    return list(runs.values()), sorted(warnings)


def _is_current(entry: _Entry, item: os.DirEntry[str]) -> bool:
    """Return whether the files of a run are as they were when the entry was made."""
    path = entry.summary.path
    try:
        if item.is_symlink() or (path != item.path and str(trash.link_target(Path(item.path))) != path):
            return False
        if entry.stamps != (_stamp(f"{path}/{CONFIG}"), _stamp(f"{path}/{EVENTS}")):
            return False
        return entry.summary.finished is not None or not is_locked(Path(path))  # no file changes when a run starts anew
    except OSError:
        return False  # reading it says what is wrong


def _read_entry(item: os.DirEntry[str]) -> _Entry | None:
    run = run_of_entry(item)
    if run is None:
        return None
    stamps = _stamp(str(run.config_path)), _stamp(str(run.events_path))
    summary = summarize(run)
    summary.status = run.recorded_status()  # that of a job is asked for at every call
    return _Entry(stamps, creation_order(run), summary)


def _stamp(path: str) -> Stamp | None:
    """Return size, time of the last change in ns and inode of a file; None without one."""
    try:
        stat = os.stat(path)  # noqa: PTH116 twice as fast as pathlib, and called for every run
    except FileNotFoundError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


_parsed: dict[Path, tuple[Stamp, dict[str, _Entry]]] = {}  # by root: the stamp of its cache file, and what it holds


def _cached_entries(root: Path) -> dict[str, _Entry]:
    """Return the cached entries by name of the directory entry; parsing is skipped while the file stays as it is."""
    stamp = _stamp(str(root / CACHE))
    parsed = _parsed.get(root.absolute())
    if parsed is not None and parsed[0] == stamp:
        return parsed[1]
    try:
        entries = _parse(read_regular(root / CACHE, MAX_CACHE))
    except OSError:
        entries = {}
    if stamp is not None:
        _parsed[root.absolute()] = stamp, entries
    return entries


def _save(root: Path, entries: Mapping[str, _Entry]) -> dict[str, _Entry]:
    """Write the cache and return the entries as it holds them: equal configurations are one object in memory."""
    data = _format(entries)
    shared = _parse(data)
    with contextlib.suppress(OSError):  # a root that cannot be written is only slower
        write_atomic(root / CACHE, data)
        if (stamp := _stamp(str(root / CACHE))) is not None:
            _parsed[root.absolute()] = stamp, shared
    return shared


def _format(entries: Mapping[str, _Entry]) -> bytes:
    """Return a line with version and checksum, and a line of JSON that holds equal sections of configurations once."""
    sections: dict[str, int] = {}  # a section as JSON, and its number
    numbers: dict[int, int] = {}  # the same by identity: most are shared already
    rows: dict[str, list[Any]] = {}
    for name, entry in entries.items():
        config = entry.summary.config
        for section in config.values():
            if id(section) not in numbers:
                numbers[id(section)] = sections.setdefault(json.dumps(section, default=str), len(sections))
        fields = {field: getattr(entry.summary, field) for field in FIELDS}
        fields["config"] = {key: numbers[id(section)] for key, section in config.items()}
        rows[name] = [entry.stamps, entry.created, list(fields.values())]
    body = f"[[{','.join(sections)}],{json.dumps(rows, separators=(',', ':'))}]".encode()
    return f"{VERSION} {zlib.crc32(body):08x}\n".encode() + body


def _parse(data: bytes) -> dict[str, _Entry]:
    """Return the entries of a cache; none where it is damaged, forged or of another version."""
    header, _, body = data.partition(b"\n")
    if header != f"{VERSION} {zlib.crc32(body):08x}".encode():
        return {}
    try:
        return _entries(body)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return {}


def _entries(body: bytes) -> dict[str, _Entry]:
    """Return the entries in a line of JSON. Raises an error of any kind where a stranger wrote it."""
    entries: dict[str, _Entry] = {}
    configs: dict[tuple[tuple[str, int], ...], Settings] = {}
    sections, rows = json.loads(body)
    for name, (stamps, created, values) in rows.items():
        fields = dict(zip(FIELDS, values, strict=True))
        numbers = tuple(fields["config"].items())
        if numbers not in configs:
            configs[numbers] = Settings({key: sections[number] for key, number in numbers})
        fields["config"] = configs[numbers]
        fields["best"] = Best(*fields["best"]) if fields["best"] else None
        fields["metrics"] = {metric: MetricSummary(*value) for metric, value in fields["metrics"].items()}
        fields["data"] = RecordedData(*fields["data"])
        fields["tags"], fields["notes"] = tuple(fields["tags"]), tuple(fields["notes"])
        entries[name] = _Entry(tuple(stamps), tuple(created), _checked(Summary(**fields)))
    return entries


def _checked(summary: Summary) -> Summary:
    """Return a summary whose values have their types. Raises ValueError for others, which would end a list of runs."""
    numbers = [value for metric in summary.metrics.values() for value in (metric.last, metric.best, metric.epoch)]
    settings = [value for section in summary.config.values() for value in section.values()]
    is_sound = (
        isinstance(summary.name, str)
        and isinstance(summary.path, str)
        and summary.status in STATUSES
        and all(time is None or datetime.fromisoformat(time).tzinfo for time in (summary.started, summary.finished))
        and all(text is None or isinstance(text, str) for text in _texts(summary))
        and all(isinstance(count, int) for count in (summary.epoch, summary.damaged_lines))
        and all(number is None or isinstance(number, int | float) for number in [*numbers, *(summary.best or ())[1:]])
        and all(not isinstance(value, dict) for value in settings)
        and isinstance(summary.data.num_classes, int | None)
        and isinstance(summary.data.class_digest, str | None)
        and all(isinstance(count, int) for count in summary.data.images.values())
        and all(isinstance(digest, str) for digest in summary.data.digests.values())
    )
    if not is_sound:
        raise ValueError(f"the summary of {summary.name!r} has values of other types")
    return summary


def _texts(summary: Summary) -> list[str | None]:
    metric = summary.best.metric if summary.best else None
    return [summary.digest, summary.source, summary.not_launchable_reason, summary.matmul, metric]
