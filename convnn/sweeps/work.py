"""A worker: it starts the entries of a queue, one a slot, each in a process of its own that outlives the worker.

A run of several processes takes a GPU for each.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from convnn.config.command_line import changed_flags
from convnn.config.schema import RunConfig
from convnn.config.toml import parse_run
from convnn.errors import Exit, UserError
from convnn.events import PRUNED
from convnn.files import folder_entries, open_append, open_regular, write_atomic
from convnn.runs import control
from convnn.runs.file_lock import INHERITED, is_held
from convnn.runs.lock import handed_over, is_locked
from convnn.runs.run import Run, create_run, is_run, new_run_name
from convnn.sweeps.claims import Claim, try_claim
from convnn.sweeps.folder import is_searching
from convnn.sweeps.queue import Entry, Queue, events_size
from convnn.sweeps.slots import SLOTS, Slot
from convnn.text import plural
from convnn.worker.crash_points import reach
from convnn.worker.detached import start_detached

TEMPORARY = frozenset(  # what a disk or a system refuses for now: the next step tries again
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
)
WORKERS = "workers"
WORKER_FILE = re.compile(r"\d+-[0-9a-f]{8}")
STOP, STOP_NOW = "stop", "stop-now"
KILL_POINTS = ("work.claimed", "work.named", "work.created", "work.started", "work.reaped", "queue.left")


class FreeSlot(NamedTuple):
    """A slot that this worker has just claimed."""

    slot: Slot
    claim: Claim


@dataclass
class Child:
    """A process that this worker started, and what it was started for."""

    entry: Entry
    process: subprocess.Popen[bytes]
    claims: tuple[Claim, ...]


class Worker:
    """Starts entries of a queue in its slots.

    An entry and a slot are in use while any process holds their claims, which a child inherits: a worker that replaces
    one that was killed finds both taken, and starts neither twice.
    """

    def __init__(self, queue: Queue, slots: Sequence[Slot], say: Callable[[str], None] = lambda line: None) -> None:
        self.queue, self.slots, self.say = queue, slots, say
        self.children: list[Child] = []
        self._told_children = False
        self._sign_on()

    def _sign_on(self) -> None:
        self._folder = self.queue.place(WORKERS, make=True)
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        claim = try_claim(self._folder / self._name, "\n".join(slot.file_name for slot in self.slots))
        assert claim is not None  # the name is new
        self._claim = claim

    def close(self) -> None:
        """Leave the children to themselves and sign off."""
        for path in (self._folder / self._name, self._folder / f"{self._name}.{STOP}"):
            path.unlink(missing_ok=True)
        self._claim.release()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def step(self) -> bool:
        """Settle what has ended and start what there are slots for; return whether anything is left to do."""
        if not self._claim.is_own:  # this process was stopped for minutes, and another node took it for dead
            self._claim.close()
            self._sign_on()
        self._reap()
        entries, _ = self.queue.entries()
        waiting = [entry for entry in entries if not self._settle_orphan(entry)]
        command = self.command
        if command is not None:
            if command == STOP_NOW and not self._told_children:
                self._terminate(entries)
                self._told_children = True
            return any(self.queue.is_claimed(entry) for entry in entries)
        if self.queue.paused is None:
            self._start(waiting)
        return bool(self.queue.entries()[0]) or is_searching(self.queue.root)

    @property
    def command(self) -> str | None:
        """What a person asked this worker to do; None without a command."""
        try:
            with open_regular(self._folder / f"{self._name}.{STOP}") as file:
                word = file.read(40).decode("utf-8", "replace").strip()
        except FileNotFoundError:
            return None
        return STOP_NOW if word == STOP_NOW else STOP

    def _reap(self) -> None:
        for child in list(self.children):
            code = child.process.poll()
            if code is None:
                continue
            reach("work.reaped")
            if child.claims[0].is_own:  # else a worker of another node goes on with it
                self._report(child.entry, self.queue.settle(child.entry, code))  # a full disk: settled by a later step
            self.children.remove(child)
            for claim in child.claims:
                claim.release()

    def _settle_orphan(self, entry: Entry) -> bool:
        """Settle an entry whose process another worker had started; return whether it has left the queue."""
        if entry.starts == 0 or self.queue.is_claimed(entry):
            return False
        claim = self.queue.claim(entry)
        if claim is None:
            return False
        with claim:
            cause = None
            if (present := self.queue.current(entry)) is not None:
                cause = self.queue.settle(present)
            self._report(entry, cause)
        return cause is not None

    def _report(self, entry: Entry, cause: str | None) -> None:
        if cause is None:
            self.say(f"{entry.title} ended early; it will be resumed")
            return
        if not cause.startswith(("diverged", "stopped", PRUNED)):
            self.queue.count_failure(cause)
        self.say(f"{entry.title} {cause or 'done'}")

    def _start(self, entries: Sequence[Entry]) -> None:
        waiting = [entry for entry in entries if not self._is_trained(entry)]
        free: list[FreeSlot] = []
        try:
            for slot in self.slots:
                if not waiting:
                    return
                if (claim := slot.claim(self.queue.place(SLOTS, make=True))) is None:
                    continue
                free.append(FreeSlot(slot, claim))
                if not slot.is_free:
                    free.pop().claim.release()
                while (child := self._start_first(waiting, free)) is not None:
                    self.children.append(child)
        finally:
            for _, claim in free:
                claim.release()

    def _is_trained(self, entry: Entry) -> bool:
        """Whether a process of a worker has the entry, or a person trains its run."""
        path = entry.run_path
        return self.queue.is_claimed(entry) or (path is not None and is_run(path) and is_locked(path))

    def _slots_needed(self, entry: Entry) -> int:
        """Return the number of slots that an entry takes: one, or a GPU for each of its processes."""
        if self.slots[0].gpu is None:
            return 1
        try:
            runtime = parse_run(entry.config).runtime
        except UserError:
            return 1  # its start says what is wrong
        return 1 if runtime.device == "cpu" else runtime.processes

    def _start_first(self, waiting: list[Entry], free: list[FreeSlot]) -> Child | None:
        """Start the first of the waiting entries that can be started, and remove all up to it from the list.

        The slots that it takes are removed from `free`. While there are too few the entries after it wait, too: else it
        would never get enough. Raises OSError where the disk or the system refuses for now: the entry stays as it is.
        """
        while waiting and free:
            entry = waiting[0]
            needed = self._slots_needed(entry)
            if len(free) < needed <= len(self.slots):
                return None
            waiting.pop(0)
            taken = free[:needed]
            claim = self.queue.claim(entry)
            if claim is None or (present := self.queue.current(entry)) is None:
                continue  # another worker was first
            reach("work.claimed")
            try:
                if self._is_done(present):  # a person has resumed it meanwhile
                    self._report(present, self.queue.leave(present, ""))
                    claim.release()
                    continue
                if needed > len(self.slots):
                    have = f"this worker has {plural(len(self.slots), 'slot')}"
                    raise UserError(f"runtime.processes is {needed}: each takes a GPU, and {have}")
                claims = (claim, *(slot.claim for slot in taken))
                started, process = self._spawn(present, Slot.join([slot.slot for slot in taken]), claims)
            except (UserError, OSError) as error:
                if isinstance(error, OSError) and error.errno in TEMPORARY:
                    claim.release()
                    raise
                if isinstance(error, UserError) and error.code is Exit.HELD:  # a person has just begun to train it
                    claim.release()
                    continue
                cause = str(error).splitlines()[0]
                self._report(present, self.queue.leave(present, f"failed: {cause}"))
                claim.release()
                continue
            reach("work.started")
            del free[:needed]
            return Child(started, process, claims)
        return None

    def _is_done(self, entry: Entry) -> bool:
        run = self.queue.run_of(entry)
        return run is not None and run.recorded_status() == "done"

    def _spawn(self, entry: Entry, slot: Slot, claims: tuple[Claim, ...]) -> tuple[Entry, subprocess.Popen[bytes]]:
        """Start the process of an entry. Its run has a name before it has a directory: a kill leaves no stray run."""
        config = parse_run(entry.config)
        name = new_run_name(config.model.name, config.layer.type, config.run.name)
        path = entry.run_path or self.queue.root / name
        checkpoint = self.queue.last_checkpoint(entry.model_copy(update={"run": str(path)}))
        progressed = checkpoint != entry.checkpoint
        threads = entry.threads or config.runtime.threads or slot.threads
        if entry.run is None or entry.threads is None:
            entry = self.queue.update(entry, run=str(path), threads=threads)
        reach("work.named")
        if not is_run(path) and entry.forks is None:
            model, layer = config.model.name, config.layer.type
            create_run(entry.config, model=model, layer=layer, root=self.queue.root, directory=path)
        reach("work.created")
        self.queue.place("log", make=True)
        with ExitStack() as opened:
            output = opened.enter_context(os.fdopen(open_append(self.queue.log_path(entry)), "ab"))
            output.truncate(0)
            lock = None
            if is_run(path):
                lock = opened.enter_context(handed_over(path))
                control.discard(path)  # a command that comes from here on is for the child
            started = self.queue.update(
                entry,
                starts=1 if progressed else entry.starts + 1,
                checkpoint=checkpoint,
                events=events_size(Run(path, path.name)),
            )
            for claim in claims[1:]:
                claim.rewrite(text=entry.id)
            descriptors = [claim.descriptor for claim in claims]
            if lock is not None:
                descriptors += lock.descriptors
            process = start_detached(
                [*self._command(started, config, path), "--plain", "--threads", str(started.threads)],
                self.queue.root,
                output,
                env={**os.environ, **slot.environment, INHERITED: " ".join(map(str, descriptors))},
                pass_fds=descriptors,
            )
            with suppress(OSError):  # a full disk: nobody needs these to train, and the process has started
                if lock is not None:
                    lock.give_to(process.pid)
                for claim in claims:
                    claim.give_to(process.pid)
        self.say(f"{path.name} started on {slot.name}")
        return started, process

    def _command(self, entry: Entry, config: RunConfig, path: Path) -> list[str]:
        if entry.forks is None or is_run(path):  # a fork appears there when it is complete
            return ["resume", f"{path}/"]
        source = Path(entry.forks)
        at_path = config.with_values({"output.dir": str(path)})
        return ["resume", f"{source}/", "--fork", *changed_flags(at_path, Run(source, source.name).config())]

    def _terminate(self, entries: Sequence[Entry]) -> None:
        """Have the processes of this machine save and end, those that another worker started as well."""
        for entry in entries:
            pid = self.queue.process_of(entry)
            with suppress(OSError):  # it has just ended
                if pid is not None and os.getsid(pid) == pid:  # as every process has that a worker starts
                    os.kill(pid, signal.SIGTERM)


def live_workers(queue: Queue) -> list[Path]:
    """Return the files of the workers that serve a queue; those of workers that were killed are removed."""
    try:
        folder = queue.place(WORKERS)
    except UserError:
        return []
    live = []
    for path in folder_entries(folder):
        if not WORKER_FILE.fullmatch(path.name):
            continue
        if is_held(path):
            live.append(path)
        else:
            path.unlink(missing_ok=True)
    return live


def stop_workers(queue: Queue, *, now: bool) -> int:
    """Tell every worker to start nothing more and to end; with `now` its children save and end too."""
    workers, word = live_workers(queue), STOP_NOW if now else STOP
    for path in workers:
        write_atomic(path.with_name(f"{path.name}.{STOP}"), f"{word}\n")
    return len(workers)


def ensure_worker(queue: Queue, slots: int | None = None) -> subprocess.Popen[bytes] | None:
    """Start a worker in the background that ends when the queue is empty, unless one serves it; return its process."""
    if live_workers(queue):
        return None
    with os.fdopen(open_append(queue.place(make=True) / "worker.log"), "ab") as output:
        return start_detached(["work", "--once"], queue.root, output, slots)
