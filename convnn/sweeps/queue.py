"""The queue of a runs folder: configurations that wait for a slot, a file each in `ROOT/.queue`.

    .queue/ORDER-ID.json   an entry; entries are trained in the order of their names
    .queue/ended/ID.json   an entry that left the queue without being done, and its cause
    .queue/removed/TIME-/  what one removal took out, until it is undone
    .queue/paused          the reason why nothing starts
    .queue/claims/, log/   a lock and the output of the process of each entry

How far an entry is follows from its run directory and from whether a process holds its claim; nothing else is stored.
Files are replaced as a whole and renamed; `.queue/lock` orders the processes that change them.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convnn.config.schema import RunConfig
from convnn.config.toml import dumps
from convnn.errors import Exit, UserError
from convnn.events import PRUNED, SCHEMA, Event, Finished, now
from convnn.files import folder_entries, open_regular, read_tail, with_time, write_atomic
from convnn.json_values import iso
from convnn.runs.file_lock import HeldError, LockNote, is_held, is_open_in, read_holder
from convnn.runs.run import CHECKPOINTS, Run, check_free, is_run, run_name
from convnn.runs.signature import is_signed, sign
from convnn.runs.status import STATUSES, last_status_event
from convnn.sweeps.claims import Claim, exclusive, try_claim
from convnn.text import last_message
from convnn.worker.crash_points import reach

FOLDER = ".queue"
STEP = 1 << 20  # between the order of one entry and the next, so that others fit between
FIRST = 1 << 50  # order of the first entry: there is room in front
LARGEST_ENTRY = 1 << 20  # bytes
MAX_STARTS = 3  # in a row without a new checkpoint
MAX_THREADS = 1 << 12
BATCH = re.compile(r"\d{8}-\d{6}-\d{6}-")  # what one removal took out
ENTRY_FILE = re.compile(r"\d{16}-[0-9a-f]{12}\.json")
MAX_FAILURES = 3  # in a row with one cause
CAUSE_LENGTH = 500  # characters
NOT_QUEUED = "it is no longer in the queue"

Stamp = tuple[int, int, int]  # of a file: inode, size, time of the last change in ns


class Entry(BaseModel):
    """A configuration that waits to be trained, or a run that waits to be resumed."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=False)

    id: str = Field(pattern=r"^[0-9a-f]{12}$", default_factory=lambda: secrets.token_hex(6))
    added: str = Field(default_factory=lambda: iso(now()))
    config: str  # TOML, as `config.toml` of its run has it
    name: str = ""  # what a person sees before there is a run
    run: str | None = None  # absolute path of the run directory, from the first start on
    forks: str | None = None  # absolute path of the run whose newest checkpoint a new run begins with
    sweep: str | None = None
    cell: int | None = None
    # of the first start, used at every later one: they decide the last bits
    threads: int | None = Field(default=None, ge=1, le=MAX_THREADS)
    starts: int = Field(default=0, ge=0)  # in a row without a new checkpoint
    checkpoint: str | None = None  # the last one at the latest start
    events: int = 0  # bytes of the history at the latest start: what ended the run before that is past
    cause: str = ""  # why it left the queue
    signature: str = ""  # of its places outside of the runs folder, which count only with one

    @property
    def run_path(self) -> Path | None:
        if self.run is None:
            return None
        return Path(self.run)

    @property
    def title(self) -> str:
        """What a person sees of it: the directory of its run, or its name before there is one."""
        return self.name if self.run_path is None else self.run_path.name

    @property
    def outcome(self) -> str:
        """Why it left the queue, as a status of runs."""
        word = self.cause.partition(":")[0]
        return word if word in ("diverged", "stopped", PRUNED) else "failed"


@dataclass(frozen=True)
class QueuedEntry:
    """An entry and its file."""

    entry: Entry
    path: Path

    @property
    def order(self) -> int:
        return int(self.path.name.partition("-")[0])


class Queue:
    """The queue of a runs folder. Reading it makes nothing on the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.folder = self.root / FOLDER
        self._parsed: dict[str, tuple[Stamp, Entry]] = {}  # by the name of the file: a worker looks twice a second

    def place(self, name: str = "", *, make: bool = False) -> Path:
        """Return the folder of the queue, or one in it.

        Raises UserError where it is a link: what is behind it belongs to somebody.
        """
        path = self.folder / name
        for folder in (self.folder, path):
            if folder.is_symlink():
                message = f"{folder} is a symbolic link: the queue has to be a directory of its own"
                raise UserError(message, fix="remove the link")
        if make:
            path.mkdir(parents=True, exist_ok=True)
        return path

    # -- reading ----------------------------------------------------------------------------------------------------

    def entries(self) -> tuple[list[Entry], list[str]]:
        """Return the entries in their order, and a warning for each damaged file."""
        queued, warnings = self._read()
        return [item.entry for item in queued], warnings

    def ended(self, *, since: float = 0.0) -> list[Entry]:
        """Return the entries that left the queue without being done since a time, the latest first."""
        try:
            paths = self._json_files(self.place("ended"))
        except UserError:
            return []  # `entries` warns of it
        times = {path: path.lstat().st_mtime for path in paths}
        newest_first = sorted((path for path in times if times[path] >= since), key=lambda path: -times[path])
        return [entry for path in newest_first if (entry := _read_or_none(path, self.root)) is not None]

    def status(self, entry: Entry) -> str:
        """Return the status of an entry: that of its run where a process trains it, else "queued"."""
        if not self.is_claimed(entry):
            return "queued"
        run = self.run_of(entry)
        status = "running" if run is None else run.recorded_status()
        if STATUSES[status].is_live:
            return status
        return "running"  # it starts, or has just ended

    def run_of(self, entry: Entry) -> Run | None:
        """Return the run of an entry; None before its directory is made."""
        path = entry.run_path
        if path is None or not is_run(path):
            return None
        return Run(path, run_name(path, self.root))

    def is_claimed(self, entry: Entry) -> bool:
        """Return whether a process trains the entry, or is about to."""
        return is_held(self._claim_path(entry))

    def holder(self, entry: Entry) -> LockNote | None:
        """Return what the process that holds the claim of an entry wrote about itself."""
        try:
            return read_holder(self._claim_path(entry))
        except (OSError, HeldError):
            return None

    def process_of(self, entry: Entry) -> int | None:
        """Return the number of the process of this machine that holds the claim of an entry; None without one."""
        note = self.holder(entry)
        if note is None or not note.is_of_this_node or not is_open_in(note.pid, self._claim_path(entry)):
            return None
        return note.pid

    @property
    def paused(self) -> str | None:
        """The reason why nothing starts; None where entries are started."""
        try:
            with open_regular(self.place() / "paused") as file:
                return file.read(CAUSE_LENGTH * 4).decode("utf-8", "replace").strip() or "paused"
        except FileNotFoundError:
            return None
        except (OSError, UserError) as error:
            return str(error).partition("\n")[0]

    # -- changes by a person ----------------------------------------------------------------------------------------

    def add(self, entries: Sequence[Entry], *, front: bool = False) -> None:
        """Append entries, or put them before all others; that they, or their runs, left the queue is forgotten."""
        with self._changing():
            queued, _ = self._read()
            first = FIRST
            if queued and front:
                first = queued[0].order - STEP * len(entries)
            elif queued:
                first = queued[-1].order + STEP
            for index, entry in enumerate(entries):
                self._write(entry, first + index * STEP)
        ids, runs = {entry.id for entry in entries}, {entry.run for entry in entries if entry.run is not None}
        for entry in self.ended():
            if entry.id in ids or entry.run in runs:
                (self.place("ended") / f"{entry.id}.json").unlink(missing_ok=True)

    def retry(self, entries: Iterable[Entry]) -> None:
        """Append entries again that left the queue without being done."""
        self.add([entry.model_copy(update={"cause": "", "starts": 0}) for entry in entries])

    def move(self, entry: Entry, position: int) -> None:
        """Move an entry to a position, 1 for the first. Raises UserError where it is not in the queue."""
        with self._changing():
            queued, _ = self._read()
            moved = self._item(entry.id)
            others = [item for item in queued if item.entry.id != entry.id]
            index = min(max(position - 1, 0), len(others))
            before = others[index - 1].order if index > 0 else None
            after = others[index].order if index < len(others) else None
            order = _between(before, after)
            if order is None:
                # renamed from the last on, each to a name behind all that are not renamed yet: a crash reorders nothing
                others.insert(index, moved)
                top = queued[-1].order + STEP
                for rank in reversed(range(len(others))):
                    others[rank].path.rename(self._path(others[rank].entry, top + rank * STEP))
            else:
                moved.path.rename(self._path(moved.entry, order))

    def remove(self, entries: Iterable[Entry]) -> list[Entry]:
        """Take entries out, until `undo`; return those that were taken, without the ones that are being trained."""
        with self._changing():
            queued, _ = self._read()
            by_id = {item.entry.id: item for item in queued}
            items = [by_id[entry.id] for entry in entries if entry.id in by_id and not self.is_claimed(entry)]
            if not items:
                return []
            folder = self.place("removed", make=True) / with_time("")
            folder.mkdir()
            for item in items:
                item.path.rename(folder / item.path.name)
            return [item.entry for item in items]

    def undo(self) -> list[Entry]:
        """Bring back what was removed last, in its place. Raises UserError (NO_RUN) where nothing was removed."""
        with self._changing():
            folder = self.place("removed")
            batches = [path for path in folder_entries(folder) if BATCH.fullmatch(path.name) and not path.is_symlink()]
            if not batches:
                raise UserError("nothing was removed from the queue", Exit.NO_RUN)
            files = [path for path in self._json_files(batches[-1]) if ENTRY_FILE.fullmatch(path.name)]
            entries = [entry for path in files if (entry := _read_or_none(path, self.root)) is not None]
            for path in files:
                path.rename(self.folder / path.name)
            with suppress(OSError):  # somebody put something else there
                batches[-1].rmdir()
            return entries

    def pause(self, reason: str) -> None:
        """Start nothing more; what trains goes on."""
        with self._changing():
            write_atomic(self.folder / "paused", reason[:CAUSE_LENGTH] + "\n")

    def resume(self) -> None:
        with self._changing():
            (self.folder / "paused").unlink(missing_ok=True)
            (self.folder / "failures.json").unlink(missing_ok=True)

    # -- changes by a worker, which holds the claim of the entry ----------------------------------------------------

    def claim(self, entry: Entry) -> Claim | None:
        """Take an entry that nobody trains; return None where somebody does or where it has left the queue."""
        path = self.place("claims", make=True) / entry.id
        claim = try_claim(path)
        if claim is not None and self.current(entry) is None:
            path.unlink(missing_ok=True)
            claim.release()
            return None
        return claim

    def current(self, entry: Entry) -> Entry | None:
        """Return the entry as its file has it now; None where it has left the queue."""
        try:
            return self._item(entry.id).entry
        except UserError:
            return None

    def update(self, entry: Entry, **changes: Any) -> Entry:
        """Write changed fields of an entry, wherever it has moved to, and return it."""
        updated = entry.model_copy(update=changes)
        with self._changing():
            item = self._item(entry.id)
            write_atomic(item.path, _json(updated))
        return updated

    def settle(self, entry: Entry, code: int | None = None) -> str | None:
        """Let an entry leave the queue whose process has ended, if it has; return its cause, "" for done.

        None means that it stays, to be resumed. `code` is the exit code of the process, where the worker knows it.
        Where the disk refused, the queue is paused: every other run would end as this one did.
        """
        finished = self._last_event(entry)
        last_code = code
        if isinstance(finished, Finished):
            last_code = finished.code
        if last_code == Exit.STORAGE:
            if code is not None:  # it has just ended: once is enough
                self.pause(f"the disk refused: {self.log_tail(entry)}")
            return None
        if isinstance(finished, Finished) and finished.outcome == "done":
            return self.leave(entry, "")
        if isinstance(finished, Finished) and finished.outcome in ("failed", "diverged", "stopped"):
            cause = f"{finished.outcome}: {finished.cause}"
            if finished.status == PRUNED:
                cause = PRUNED
            return self.leave(entry, cause[:CAUSE_LENGTH])
        if finished is None and code is not None and Exit.FAILED <= code < Exit.TIME_LIMIT and code != Exit.HELD:
            return self.leave(entry, f"exit code {code}: {self.log_tail(entry)}"[:CAUSE_LENGTH])
        if entry.starts >= MAX_STARTS and self.last_checkpoint(entry) == entry.checkpoint:
            return self.leave(entry, f"ended {entry.starts} times without a new checkpoint: {self.log_tail(entry)}")
        return None

    def count_failure(self, cause: str) -> None:
        """Pause the queue after MAX_FAILURES failures in a row with one cause; a cause of "" is a success."""
        with self._changing():
            path = self.folder / "failures.json"
            if not cause:
                path.unlink(missing_ok=True)
                return
            count = 1
            try:
                with open_regular(path) as file:
                    record = json.loads(file.read(LARGEST_ENTRY))
                if record["cause"] == cause:
                    count = int(record["count"]) + 1
            except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
                pass  # the first of its kind
            write_atomic(path, json.dumps({"cause": cause, "count": count}))
        if count >= MAX_FAILURES:
            self.pause(f"{count} runs in a row failed with one cause: {cause}")

    def last_checkpoint(self, entry: Entry) -> str | None:
        if entry.run_path is None:
            return None
        try:
            with open_regular(entry.run_path / CHECKPOINTS / "last") as file:
                return file.read(200).decode("utf-8", "replace").strip()
        except OSError:
            return None

    def _last_event(self, entry: Entry) -> Event | None:
        """Return the last event of the run since the latest start that decides its status."""
        run = self.run_of(entry)
        if run is None or events_size(run) <= entry.events:
            return None
        return last_status_event(run.events_path)

    def log_path(self, entry: Entry) -> Path:
        return self.place("log") / f"{entry.id}.txt"

    def log_tail(self, entry: Entry) -> str:
        """Return the last line that the process of an entry printed."""
        return last_message(read_tail(self.log_path(entry), 4 * CAUSE_LENGTH))

    # -- files ------------------------------------------------------------------------------------------------------

    def leave(self, entry: Entry, cause: str) -> str:
        """Take an entry out that is done (a cause of "") or that cannot be trained; return the cause."""
        with self._changing():
            item = self._item(entry.id)
            if cause:
                ended = self.place("ended", make=True)
                write_atomic(ended / f"{entry.id}.json", _json(entry.model_copy(update={"cause": cause})))
            reach("queue.left")
            item.path.unlink()
            if not cause:
                self.log_path(entry).unlink(missing_ok=True)
            self._claim_path(entry).unlink(missing_ok=True)
        return cause

    def _changing(self) -> AbstractContextManager[None]:
        return exclusive(self.place(make=True) / "lock")

    def _read(self) -> tuple[list[QueuedEntry], list[str]]:
        queued: list[QueuedEntry] = []
        warnings: list[str] = []
        try:
            paths = self._json_files(self.place())
        except UserError as error:
            return [], [str(error).partition("\n")[0]]
        for path in paths:
            order, _, _ = path.name.partition("-")
            if not order.isdecimal():
                continue
            try:
                queued.append(QueuedEntry(self._entry(path), path))
            except FileNotFoundError:
                continue  # it left the queue meanwhile
            except (OSError, UserError) as error:
                warnings.append(str(error))
        self._parsed = {item.path.name: self._parsed[item.path.name] for item in queued}
        return queued, warnings

    def _item(self, id: str) -> QueuedEntry:
        """Return the entry of an identifier. Raises UserError where it is no longer in the queue."""
        for path in self._json_files(self.place()):
            if path.name.endswith(f"-{id}.json"):
                with suppress(FileNotFoundError):
                    return QueuedEntry(self._entry(path), path)
        raise UserError(NOT_QUEUED, Exit.NO_RUN)

    def _entry(self, path: Path) -> Entry:
        """Return the entry of a file, which is parsed once as long as it stays as it is."""
        status = path.lstat()
        stamp = status.st_ino, status.st_size, status.st_mtime_ns
        parsed = self._parsed.get(path.name)
        if parsed is None or parsed[0] != stamp:
            parsed = self._parsed[path.name] = stamp, _read_entry(path, self.root)
        return parsed[1]

    def _json_files(self, folder: Path) -> list[Path]:
        return [path for path in folder_entries(folder) if path.suffix == ".json"]

    def _path(self, entry: Entry, order: int) -> Path:
        return self.folder / f"{order:016d}-{entry.id}.json"

    def _write(self, entry: Entry, order: int) -> None:
        write_atomic(self._path(entry, order), _json(_signed(entry, self.root)))

    def _claim_path(self, entry: Entry) -> Path:
        return self.folder / "claims" / entry.id


def new_entry(config: RunConfig, name: str, forks: Run | None = None) -> Entry:
    """Return an entry that trains a new run, from scratch or from the newest checkpoint of the run that it forks.

    Its paths are absolute, since its process may work in another folder. Raises UserError where its directory is one
    that no run can be made in.
    """
    entry = Entry(config=dumps(with_absolute_data_path(config), whole=True), name=name)
    if forks is not None:
        entry = entry.model_copy(update={"forks": str(forks.path)})
    if config.output.dir is None:
        return entry
    directory = Path(config.output.dir).absolute()
    check_free(directory)
    return entry.model_copy(update={"run": str(directory)})


def with_absolute_data_path(config: RunConfig) -> RunConfig:
    """Return a configuration that names the same data from any folder."""
    return config.with_values({"data.path": str(Path(config.data.path).expanduser().absolute())})


def resuming_entry(run: Run, config: str) -> Entry:
    """Return an entry that resumes a run whose configuration is this TOML, with as many threads as it had."""
    started, threads = run.history(steps=False).started, None
    if started is not None:
        threads = started.threads or None
    return Entry(config=config, name=run.name, run=str(run.path), threads=threads, events=events_size(run))


def events_size(run: Run) -> int:
    """Return the bytes of the history of a run."""
    try:
        return run.events_path.lstat().st_size
    except FileNotFoundError:
        return 0


def _outside(entry: Entry, root: Path) -> bytes:
    """Return the places of an entry that are not in the runs folder, as its signature covers them."""
    paths = [path for path in (entry.run, entry.forks) if path is not None and Path(path).parent != root]
    if not paths:
        return b""
    return b"\n".join([entry.id.encode(), *map(os.fsencode, paths)])


def _signed(entry: Entry, root: Path) -> Entry:
    if not (message := _outside(entry, root)):
        return entry
    return entry.model_copy(update={"signature": sign(message) or ""})


def _json(entry: Entry) -> str:
    return json.dumps({"schema": SCHEMA, **entry.model_dump()}, indent=1) + "\n"


def _read_entry(path: Path, root: Path) -> Entry:
    """Return the entry of a file. Raises OSError, or UserError where it is damaged."""
    with open_regular(path) as file:
        data = file.read(LARGEST_ENTRY + 1)
    try:
        if len(data) > LARGEST_ENTRY:
            raise ValueError("larger than any entry")
        entry = Entry.model_validate(json.loads(data))
        if not path.name.endswith(f"{entry.id}.json"):
            raise ValueError(f"holds the entry {entry.id}")
        if entry.run_path is not None and not entry.run_path.is_absolute():
            raise ValueError("its run has no absolute path")
        if (message := _outside(entry, root)) and not is_signed(message, entry.signature):
            raise ValueError("it names a place outside of the runs folder, and was not made by you")
    except (ValueError, ValidationError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"damaged entry of the queue: {reason}", file=str(path), fix="delete it") from error
    return entry


def _read_or_none(path: Path, root: Path) -> Entry | None:
    try:
        return _read_entry(path, root)
    except (OSError, UserError):
        return None


def _between(before: int | None, after: int | None) -> int | None:
    """Return an order between two neighbors; None where there is none."""
    if before is None:
        return FIRST if after is None else after - STEP
    if after is None:
        return before + STEP
    if after - before > 1:
        return (before + after) // 2
    return None
