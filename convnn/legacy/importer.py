"""Result directories of the original tool made into runs: values as published, and skipped lines reported.

An imported run is a run like any other, with the original text files beside `config.toml` and `events.jsonl`, and
`imported.json`: where it came from, digests, what was skipped, and whether it can be launched.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from convnn.errors import Exit, UserError
from convnn.events import SCHEMA
from convnn.files import open_append, open_regular, sync_directory, sync_file, write_atomic
from convnn.legacy import convert, result_files
from convnn.legacy.result_files import SkippedLine
from convnn.runs.find import list_runs
from convnn.runs.marker import EVENTS, IMPORTED, MARKER, is_ours, marker_text
from convnn.runs.run import CONFIG, Run
from convnn.runs.text_files import ARGS, MODEL, RESULTS

FILES = (ARGS, RESULTS, MODEL)
MAX_BYTES = 1 << 27  # of a text file that are read
BATCH = 200  # runs brought to disk together


@dataclass(frozen=True)
class Imported:
    """The outcome of one directory."""

    source: Path
    outcome: Literal["new", "grown", "known"]
    name: str
    epochs: int
    reason: str | None  # why it cannot be launched; None where it can
    skipped: tuple[SkippedLine, ...]

    def json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "source": str(self.source),
            "outcome": self.outcome,
            "epochs": self.epochs,
            "launchable": self.reason is None,
            "reason": self.reason,
            "passed": [line._asdict() for line in self.skipped],
        }


@dataclass
class _Index:
    """The imported runs of a root: by the digest of their files, and by where they came from."""

    by_digest: dict[str, Run] = field(default_factory=dict)
    by_source: dict[str, Run] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> _Index:
        index = cls()
        for run in reversed(list_runs(root)[0]):  # of several runs of one source the newest counts
            if record := run.import_record():
                index.by_digest[str(record.get("digest"))] = run
                index.by_source[str(record.get("source"))] = run
        return index


def import_tree(
    path: Path, root: Path, tags: Sequence[str] = (), on_unreadable: Callable[[OSError], object] | None = None
) -> Iterator[Imported]:
    """Make runs in `root` of every result directory in or below `path`, yielded as they reach the disk.

    `on_unreadable` is called with the error of each folder that cannot be read. Raises UserError where there is no
    result directory.
    """
    path = path.absolute()
    index = _Index.of(root)
    batch: list[tuple[Path, Imported]] = []
    is_empty = True
    root.mkdir(parents=True, exist_ok=True)
    staging = root / f".importing-{secrets.token_hex(4)}"
    try:
        for source, names in _result_directories(path, on_unreadable):
            is_empty = False
            imported = _import_directory(source, names, index, root, staging, tags)
            if imported.outcome != "new":
                yield imported
                continue
            batch.append((staging / imported.name, imported))
            if len(batch) >= BATCH:
                yield from _publish(batch, root)
                batch = []
        yield from _publish(batch, root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if is_empty:
        raise UserError(f"{path} holds no {RESULTS} and no {ARGS}, nor does a directory in it", Exit.NO_RUN)


def _publish(batch: list[tuple[Path, Imported]], root: Path) -> Iterator[Imported]:
    """Give finished directories their names, once they are on disk: a name never stands for half a run."""
    if not batch:
        return
    os.sync()  # one for all: a sync for each of five files a run took twice as long as the import itself
    for directory, _ in batch:
        directory.rename(root / directory.name)
    sync_directory(root)
    yield from (imported for _, imported in batch)


def _result_directories(
    path: Path, on_unreadable: Callable[[OSError], object] | None
) -> Iterator[tuple[Path, list[str]]]:
    """Yield every result directory in a tree and its files; links are not followed, our own runs are left out."""
    for folder, subfolders, _ in os.walk(path, onerror=on_unreadable):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        directory = Path(folder)
        names = [name for name in FILES if _is_file(f"{folder}/{name}")]
        if (ARGS in names or RESULTS in names) and not is_ours(directory):
            yield directory, names


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _read(path: Path) -> bytes:
    with open_regular(path, single_link=False) as file:  # a person's own, which a backup may share
        return file.read(MAX_BYTES)


def _import_directory(
    source: Path, names: list[str], index: _Index, root: Path, staging: Path, tags: Sequence[str]
) -> Imported:
    """Import one directory: a new run is written below `staging`, to be published; an earlier state is brought up."""
    skipped: list[SkippedLine] = []
    files: dict[str, bytes] = {}
    for name in names:
        try:
            files[name] = _read(source / name)
        except OSError as error:
            skipped.append(SkippedLine(name, 0, f"cannot be read: {error.strerror}"))
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    digest = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    if run := index.by_digest.get(digest):
        record = run.import_record()
        return Imported(source, "known", run.name, int(record.get("epochs", 0)), record.get("reason"), ())
    arguments = result_files.parse_arguments(files.get(ARGS, b""))
    results = result_files.parse_results(files.get(RESULTS, b""))
    config = convert.configuration(arguments, tags)
    skipped += [SkippedLine(name, 0, "missing") for name in (ARGS, RESULTS) if name not in names]
    skipped += arguments.skipped + results.skipped + convert.contradictions(source, arguments.values)
    if arguments.values and config.missing:
        skipped.append(SkippedLine(ARGS, 0, f"lacks {', '.join(config.missing)}"))
    record = {
        "schema": SCHEMA,
        "source": str(source),
        "digest": digest,
        "files": digests,
        "epochs": len(results.epochs),
        "launchable": config.reason is None,
        "reason": config.reason,
        "as_published": results.published,
        "output_dir": arguments.values.get("output.dir"),
        "found": arguments.sizes,
        "unknown": arguments.unknown,
        "passed": [line._asdict() for line in skipped],
    }
    files[IMPORTED] = json.dumps(record, indent=1).encode("utf-8", "backslashreplace") + b"\n"
    files[CONFIG] = config.text.encode("utf-8", "backslashreplace")
    start_time = _start_time(source / (RESULTS if RESULTS in files else ARGS), results)
    lines = convert.EventLines(arguments, results, config, start_time)
    run = _update(index, source, lines, files)
    outcome: Literal["new", "grown"] = "grown" if run else "new"
    if run is None:
        files[EVENTS] = "".join(lines.all()).encode()
        files[MARKER] = marker_text(datetime.fromtimestamp(start_time, UTC)).encode()  # it is listed where it began
        run = _stage(_run_name(source.name, start_time, digest, root, staging), files, root, staging)
        index.by_source[str(source)] = run
    index.by_digest[digest] = run
    return Imported(source, outcome, run.name, len(results.epochs), config.reason, tuple(skipped))


def _update(index: _Index, source: Path, lines: convert.EventLines, files: dict[str, bytes]) -> Run | None:
    """Add what is new to the run of an earlier state of a source and return it; None where there is none."""
    run = index.by_source.get(str(source))
    if run is None or (new_lines := lines.beyond(run.history(steps=False))) is None:
        return None
    with os.fdopen(open_append(run.events_path), "ab") as file:
        file.write("".join(new_lines).encode())
        file.flush()
        sync_file(file.fileno())
    for name, data in files.items():
        write_atomic(run.path / name, data)
    return run


def _stage(name: str, files: dict[str, bytes], root: Path, staging: Path) -> Run:
    """Write the files of a new run below `staging` and return the run it will be in `root`."""
    directory = staging / name
    directory.mkdir(parents=True)
    for file, data in files.items():
        (directory / file).write_bytes(data)
    return Run(root / name, name)


def _start_time(file: Path, results: result_files.Results) -> float:
    """Return when the run began, in seconds since 1970: the time of its last line less the times of its epochs."""
    try:
        end_time = file.stat().st_mtime
    except OSError:
        end_time = time.time()
    seconds = sum(convert.epoch_seconds(metrics) for _, metrics in results.epochs)
    return min(max(0.0, end_time - seconds), 4e9)


def _run_name(word: str, start_time: float, digest: str, *roots: Path) -> str:
    """Return a name that no root has: when the run began, a word and the first digits of its digest."""
    word = re.sub(r"[^A-Za-z0-9._+=-]+", "-", word)[:80].strip("-.") or "imported"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(start_time))
    for length in range(4, len(digest) + 1):
        name = f"{stamp}-{word}-{digest[:length]}"
        if not any((root / name).exists() for root in roots):
            return name
    return f"{stamp}-{word}-{secrets.token_hex(8)}"
