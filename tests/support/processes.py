"""The real command in a child process, started in milliseconds: forked from a process that has imported torch."""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PRELOAD = [
    "convnn.cli",
    "convnn.worker.train_run",
    "convnn.cli.run",
    "convnn.data.digits",
    "support.processes",
]
_forkserver = multiprocessing.get_context("forkserver")


@dataclass
class Result:
    """Exit code (negative: the signal that killed it), stdout and stderr of a command that has ended."""

    code: int
    out: str
    err: str


class Command:
    """`convnn ARGUMENTS` in a process of its own."""

    def __init__(
        self,
        arguments: Sequence[object],
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        largest_file: int | None = None,
        more_memory: int | None = None,
        ignored: Collection[int] = (),
        before: Callable[[], None] | None = None,
    ) -> None:
        _forkserver.set_forkserver_preload(PRELOAD)
        self.out, self.err = cwd / f".out-{time.monotonic_ns()}", cwd / f".err-{time.monotonic_ns()}"
        words = [str(word) for word in arguments]
        files = str(cwd), str(self.out), str(self.err)
        limits = largest_file, more_memory
        self.process = _forkserver.Process(
            target=_run, args=(words, *files, dict(environment or {}), limits, ignored, before)
        )
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = 120) -> Result:
        self.process.join(seconds)
        assert self.process.exitcode is not None, "the command hangs"
        texts = [path.read_text() if path.exists() else "" for path in (self.out, self.err)]
        for path in (self.out, self.err):
            path.unlink(missing_ok=True)
        return Result(self.process.exitcode, *texts)


def set_signals(ignored: Collection[int] = ()) -> None:
    """Ignore these signals, as nohup and a shell's & do, and no others, however the tests were started."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in ignored else default)


def leave_files_in_memory() -> None:
    """Let a sync of this process wait for no disk: what is killed loses nothing that it wrote, only a machine does."""
    os.fsync = lambda descriptor: os.fstat(descriptor) and None  # still refuses what is no open file


def convnn(*arguments: object, cwd: Path, **environment: str) -> Result:
    """Run the command to its end."""
    return Command(arguments, cwd, environment).wait()


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something is true; fails when it never is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def _run(
    arguments: list[str],
    cwd: str,
    out: str,
    err: str,
    environment: dict[str, str],
    limits: tuple[int | None, int | None],
    ignored: Collection[int],
    before: Callable[[], None] | None,
) -> None:
    gc.freeze()  # what the fork server has imported
    leave_files_in_memory()
    if before is not None:
        before()
    os.chdir(cwd)
    set_signals(ignored)
    largest_file, more_memory = limits
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if more_memory is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more_memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.environ.update({"CONVNN_RUNS": str(Path(cwd) / "runs")} | environment)
    for number, path in ((0, os.devnull), (1, out), (2, err)):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, m, closefd=False) for n, m in ((0, "r"), (1, "w"), (2, "w")))
    from convnn.cli.app import main

    try:
        main(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
