"""The real command or a script in a child process, started in milliseconds: forked from one that has imported torch."""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import runpy
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


class Script:
    """`python WORDS` that owns a terminal; with what tests use of `subprocess.Popen`."""

    def __init__(self, words: Sequence[str], terminal: str, cwd: Path, environment: Mapping[str, str]) -> None:
        _forkserver.set_forkserver_preload(PRELOAD)
        self.process = _forkserver.Process(
            target=_run_script, args=(list(words), terminal, str(cwd), dict(environment))
        )
        self.process.start()

    def poll(self) -> int | None:
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()

    def send_signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self, seconds: float | None = None) -> int:
        self.process.join(seconds)
        assert self.process.exitcode is not None, "the script hangs"
        return self.process.exitcode


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
    _open_streams(os.devnull, out, err)
    from convnn.cli.app import main

    try:
        main(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _run_script(words: list[str], terminal: str, cwd: str, environment: dict[str, str]) -> None:
    gc.freeze()
    leave_files_in_memory()
    os.chdir(cwd)
    set_signals()
    os.environ.update(environment)
    os.setsid()  # so that the first terminal that is opened is its own
    _open_streams(terminal, terminal, terminal)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


def _open_streams(*paths: str) -> None:
    """Replace stdin, stdout and stderr of this process, for Python and for others."""
    for number, path in enumerate(paths):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, m, closefd=False) for n, m in ((0, "r"), (1, "w"), (2, "w")))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
