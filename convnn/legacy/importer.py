"""Result directories of the original tool made into runs: figures as published, and what was passed over said.

An imported run is a run like any other, with the original text files beside `config.toml` and `events.jsonl`, and
`imported.json`: where it came from, digests, what was passed over, and whether it can be launched.
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
from pathlib import Path
from typing import Any, Literal

from convnn.errors import Exit, UserError
from convnn.files import sync_directory, write_atomic
from convnn.legacy import convert, result_files
from convnn.legacy.result_files import SkippedLine
from convnn.runs.find import list_runs
from convnn.runs.run import CONFIG, EVENTS, IMPORTED, Run, is_run
from convnn.runs.text_files import ARGS, RESULTS
from convnn.text import escaped

MODEL = "model.txt"
FILES = (ARGS, RESULTS, MODEL)
LARGEST = 1 << 27  # bytes of a text file that are read
BATCH = 200  # runs brought to disk together


@dataclass(frozen=True)
class Imported:
    """What became of one directory."""

    source: Path
    outcome: Literal["new", "grown", "known"]
    name: str
    epochs: int
    reason: str | None  # why it cannot be launched; None where it can
    passed: tuple[SkippedLine, ...]

    def json(self) -> dict[str, Any]:
        """As `convnn import --json` writes it."""
        return {
            "name": self.name,
            "source": str(self.source),
            "outcome": self.outcome,
            "epochs": self.epochs,
            "launchable": self.reason is None,
            "reason": self.reason,
            "passed": [each._asdict() for each in self.passed],
        }


@dataclass
class Index:
    """The imported runs of a root: by digest of their files, and by where they came from."""

    digests: dict[str, Run] = field(default_factory=dict)
    sources: dict[str, Run] = field(default_factory=dict)


def import_tree(
    path: Path, root: Path, tags: Sequence[str] = (), unreadable: Callable[[OSError], object] | None = None
) -> Iterator[Imported]:
    """Make runs in `root` of every result directory in or below `path`, told as they reach the disk.

    `unreadable` is told of folders that cannot be looked into. Raises UserError where there is none.
    """
    path = path.absolute()
    index = indexed(root)
    waiting: list[tuple[Path, Imported]] = []
    found = False
    root.mkdir(parents=True, exist_ok=True)
    staging = root / f".importing-{secrets.token_hex(4)}"
    try:
        for source, names in _directories(path, unreadable):
            found = True
            made = _take(source, names, index, root, staging, tags)
            if isinstance(made, Imported):
                yield made
                continue
            waiting.append(made)
            if len(waiting) >= BATCH:
                yield from _publish(waiting, root)
                waiting = []
        yield from _publish(waiting, root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if not found:
        raise UserError(f"{escaped(path)} holds no {RESULTS} and no {ARGS}, nor does a directory in it", Exit.NO_RUN)


def _publish(made: list[tuple[Path, Imported]], root: Path) -> Iterator[Imported]:
    """Give finished directories their names, once they are on disk: a name never stands for half a run."""
    if not made:
        return
    os.sync()  # one for all: a sync for each of five files a run took twice as long as the import itself
    for directory, _ in made:
        directory.rename(root / directory.name)
    sync_directory(root)
    yield from (told for _, told in made)


def _directories(path: Path, unreadable: Callable[[OSError], object] | None) -> Iterator[tuple[Path, list[str]]]:
    """Every result directory in a tree and which of its files it has; links are not followed, runs of ours left out."""
    for folder, below, _ in os.walk(path, onerror=unreadable):
        below[:] = sorted(name for name in below if not name.startswith("."))
        directory = Path(folder)
        names = [name for name in FILES if _is_file(f"{folder}/{name}")]
        if (ARGS in names or RESULTS in names) and not is_run(directory):
            yield directory, names


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _read(path: Path) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
        return file.read(LARGEST)


def indexed(root: Path) -> Index:
    """The imported runs that a root has."""
    index = Index()
    for run in reversed(list_runs(root)[0]):  # the newest of a source has the last word
        if told := run.import_record():
            index.digests[str(told.get("digest"))] = run
            index.sources[str(told.get("source"))] = run
    return index


def _take(
    source: Path, names: list[str], index: Index, root: Path, staging: Path, tags: Sequence[str]
) -> Imported | tuple[Path, Imported]:
    """One directory: known already, brought up to date, or written below `staging`, to be published."""
    passed: list[SkippedLine] = []
    texts: dict[str, bytes] = {}
    for name in names:
        try:
            texts[name] = _read(source / name)
        except OSError as error:
            passed.append(SkippedLine(name, 0, f"cannot be read: {error.strerror}"))
    files = {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    if known := index.digests.get(digest):
        told = known.import_record()
        return Imported(source, "known", known.name, int(told.get("epochs", 0)), told.get("reason"), ())
    arguments, results = (
        result_files.parse_arguments(texts.get(ARGS, b"")),
        result_files.parse_results(texts.get(RESULTS, b"")),
    )
    passed += [SkippedLine(name, 0, "missing") for name in (ARGS, RESULTS) if name not in names]
    passed += arguments.passed + results.passed + convert.contradictions(source, arguments.values)
    config = convert.configuration(arguments, tags)
    passed += (
        [SkippedLine(ARGS, 0, f"says nothing of {', '.join(config.missing)}")]
        if arguments.values and config.missing
        else []
    )
    told = {
        "schema": "convnn/1",
        "source": str(source),
        "digest": digest,
        "files": files,
        "epochs": len(results.epochs),
        "launchable": config.reason is None,
        "reason": config.reason,
        "as_published": results.published,
        "output_dir": arguments.values.get("output.dir"),
        "found": arguments.found,
        "unknown": arguments.unknown,
        "passed": [each._asdict() for each in passed],
    }
    texts[IMPORTED] = json.dumps(told, indent=1).encode("utf-8", "backslashreplace") + b"\n"
    texts[CONFIG] = config.text.encode("utf-8", "backslashreplace")
    began = _began(source / (RESULTS if RESULTS in texts else ARGS), results)
    lines = convert.EventLines(arguments, results, config, began)
    if (same := brought_up_to_date(index, source, lines, texts)) is not None:
        index.digests[digest] = same
        return Imported(source, "grown", same.name, len(results.epochs), config.reason, tuple(passed))
    texts[EVENTS] = "".join(lines.all()).encode()
    name = run_name(source.name, began, digest, root, staging)
    directory = staging / name
    directory.mkdir(parents=True)
    for file, text in texts.items():
        (directory / file).write_bytes(text)
    index.digests[digest] = index.sources[str(source)] = Run(root / name, name)
    return directory, Imported(source, "new", name, len(results.epochs), config.reason, tuple(passed))


def brought_up_to_date(index: Index, source: Path, lines: convert.EventLines, texts: dict[str, bytes]) -> Run | None:
    """The run of an earlier state of a source, with what is new added to it; None where there is none."""
    run = index.sources.get(str(source))
    if run is None or (more := lines.beyond(run.history(steps=False))) is None:
        return None
    with run.events_path.open("ab") as file:
        file.write("".join(more).encode())
        file.flush()
        os.fsync(file.fileno())
    for name, text in texts.items():
        write_atomic(run.path / name, text)
    return run


def _began(file: Path, results: result_files.Results) -> float:
    """When the run began, in seconds since 1970, as far as that is known: its last line less its epochs' times."""
    try:
        ended = file.stat().st_mtime
    except OSError:
        ended = time.time()
    return min(max(0.0, ended - sum(convert.seconds(metrics) for _, metrics in results.epochs)), 4e9)


def run_name(word: str, began: float, digest: str, *roots: Path) -> str:
    """A name that no root has: when the run began, a word and the first digits of its digest."""
    word = re.sub(r"[^A-Za-z0-9._+=-]+", "-", word)[:80].strip("-.") or "imported"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(began))
    for length in range(4, len(digest) + 1):
        name = f"{stamp}-{word}-{digest[:length]}"
        if not any((root / name).exists() for root in roots):
            return name
    return f"{stamp}-{word}-{secrets.token_hex(8)}"
